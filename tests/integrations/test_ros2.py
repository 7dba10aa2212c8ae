"""The ROS 2 package: frames without ROS, the node against a stand-in for rclpy."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import ros_stand_in as ros

from depth_anything import Prediction

PACKAGE = Path(__file__).parents[2] / "integrations" / "ros2"


@pytest.fixture
def frames(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    return importlib.import_module("depth_anything_ros.frames")


@pytest.fixture
def node_module(monkeypatch, frames):
    ros.installed(monkeypatch)
    monkeypatch.delitem(sys.modules, "depth_anything_ros.node", raising=False)
    yield importlib.import_module("depth_anything_ros.node")
    sys.modules.pop("depth_anything_ros.node", None)


RGB_23 = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_colours_in_every_order_and_padded_rows(frames, encoding, channels, padding):
    rows = RGB_23[:, :, channels].reshape(2, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    # Drivers may leave the last row's padding away.
    data = padded.tobytes()[: len(padded.tobytes()) - padding]
    assert np.array_equal(frames.to_rgb(data, encoding, 2, 3, rows.shape[1] + padding), RGB_23)


@pytest.mark.parametrize("big", [False, True])
def test_grey_and_sixteen_bits(frames, big):
    grey = np.array([[0x1234, 0xFF00]], ">u2" if big else "<u2")
    expected = np.repeat(np.array([[[0x12], [0xFF]]], np.uint8), 3, axis=2)
    assert np.array_equal(frames.to_rgb(grey.tobytes(), "mono16", 1, 2, 4, big), expected)
    assert np.array_equal(frames.to_rgb(b"\x12\xff", "mono8", 1, 2, 2), expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((b"\0" * 6, "bayer_rggb8", 1, 2, 2), "bayer_rggb8"),
        ((b"\0" * 5, "rgb8", 1, 2, 6), "5 bytes"),
        ((b"\0" * 12, "rgb8", 2, 2, 5), "rows of 5"),
        ((b"", "rgb8", 0, 0, 0), "0x0"),
    ],
)
def test_what_is_no_image_is_named(frames, arguments, words):
    with pytest.raises(ValueError, match=words):
        frames.to_rgb(*arguments)


def test_the_camera_of_a_scaled_image(frames):
    k = [500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1]
    assert np.array_equal(frames.camera_matrix(k, (480, 640), (480, 640)), np.reshape(k, (3, 3)))
    # Half the size: the centre of the image stays its centre.
    assert np.allclose(frames.camera_matrix(k, (480, 640), (240, 320)), [[250, 0, 159.5], [0, 250, 119.5], [0, 0, 1]])
    assert frames.camera_matrix(k, (480, 640), (240, 240)) is None
    assert frames.camera_matrix([0.0] * 9, (480, 640), (480, 640)) is None


DEPTH_M = np.array([[0.0, 1.0, 2.5], [10.0, 65.0, 70.0]], np.float32)


def test_metres_follow_rep_117_and_118(frames):
    prediction = Prediction(depth_m=DEPTH_M)
    metres = frames.map_values(prediction, "32FC1", 60.0)
    assert metres.dtype == np.float32 and np.isnan(metres[0, 0]) and np.isposinf(metres[1, 1:]).all()
    assert metres[0, 1:].tolist() == [1.0, 2.5] and metres[1, 0] == 10.0
    millimetres = frames.map_values(prediction, "16UC1")
    assert millimetres.dtype == np.uint16 and millimetres.tolist() == [[0, 1000, 2500], [10000, 65000, 0]]
    assert frames.map_values(prediction, "16UC1", 5.0).tolist() == [[0, 1000, 2500], [0, 0, 0]]


def test_disparity_fills_the_range_and_near_is_large(frames):
    prediction = Prediction(disparity=np.array([[2.0, 4.0], [6.0, 10.0]], np.float32))
    assert frames.map_values(prediction, "32FC1").tolist() == [[0.0, 0.25], [0.5, 1.0]]
    assert frames.map_values(prediction, "16UC1").tolist() == [[0, 16384], [32768, 65535]]


def test_points_are_in_the_optical_frame_with_colour(frames):
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1] = (1, 2, 3)
    K = np.array([[2.0, 0, 1], [0, 4.0, 0.5], [0, 0, 1]])
    points = frames.cloud(Prediction(depth_m=DEPTH_M, image=image), K, 60.0)
    assert points.dtype == np.float32 and np.isnan(points[0, 0, :3]).all() and np.isnan(points[1, 2, :3]).all()
    assert points[0, 2, :3].tolist() == [(2 - 1) * 2.5 / 2, (0 - 0.5) * 2.5 / 4, 2.5]
    assert points[0, 1, 3:].view(np.uint32)[0] == 0x010203
    with pytest.raises(ValueError, match="metres"):
        frames.cloud(Prediction(disparity=DEPTH_M), K)


def test_a_rate_lets_no_more_through(frames):
    rate = frames.Rate(10.0)
    assert sum(rate.lets_through(index / 30) for index in range(90)) == 30
    camera_of_30 = frames.Rate(30.0)
    assert all(camera_of_30.lets_through(100 + index / 30.0) for index in range(90))
    assert rate.lets_through(0.5), "a recording that starts anew is not waited for"
    assert all(frames.Rate(0.0).lets_through(0.0) for _ in range(3))


class Metric:
    """A model of metres: brightness is tenths of a metre."""

    class variant:
        quantity, name = "depth_m", "metric"

    def __init__(self, model, **options):
        self.options = {"model": model, **options}

    def __call__(self, image_HW3):
        return Prediction(depth_m=image_HW3[:, :, 0].astype(np.float32) / 10, image=image_HW3, focal=500.0)


def image_message(sec=1):
    image = np.full((4, 6, 3), 50, np.uint8)
    header = ros.Header(ros.Stamp(sec, 500), "camera_optical_frame")
    return ros.Image(header, 4, 6, "rgb8", 0, 18, image.tobytes())


def camera_message():
    return ros.CameraInfo(ros.Header(), 4, 6, k=[250.0, 0, 2.5, 0, 250.0, 1.5, 0, 0, 1])


def test_metres_and_points_with_stamp_and_frame(node_module, monkeypatch):
    monkeypatch.setattr(node_module, "Predictor", Metric)
    monkeypatch.setattr(ros.LifecycleNode, "given", {"model": "some.onnx", "size": 112, "max_range": 4.0})
    node = node_module.DepthAnythingNode()
    assert node.trigger_configure() == ros.Return.SUCCESS
    assert node._frames.predict.options == {
        "model": "some.onnx",
        "device": "cpu",
        "input_size": 112,
        "accept_license": False,
    }
    depth, points = node.publishers_made["~/depth"], node.publishers_made["~/points"]
    node.subscriptions_made["image"](image_message())
    assert not depth.messages, "not active yet"
    node.trigger_activate()
    node.subscriptions_made["image"](image_message(2))
    assert len(depth.messages) == 1 and not points.messages and "CameraInfo" in node.logger.lines[-1][1]
    node.subscriptions_made["camera_info"](camera_message())
    node.subscriptions_made["image"](image_message(3))
    message, cloud = depth.messages[1], points.messages[0]
    assert message.header.frame_id == cloud.header.frame_id == "camera_optical_frame"
    assert message.header.stamp == cloud.header.stamp == ros.Stamp(3, 500)
    assert (message.height, message.width, message.step, message.encoding) == (4, 6, 24, "32FC1")
    # 5 m for a focal length of 500 are 2.5 m for one of 250; before, without a camera, they were beyond 4 m.
    assert np.frombuffer(message.data, "<f4").tolist() == [2.5] * 24
    assert np.isposinf(np.frombuffer(depth.messages[0].data, "<f4")).all()
    assert (cloud.point_step, cloud.row_step, len(cloud.data)) == (16, 96, 4 * 96)
    assert [(one.name, one.offset, one.datatype) for one in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
    ]
    assert node.publishers_made["~/camera_info"].messages[0].header.stamp == ros.Stamp(3, 500)
    node.trigger_deactivate()
    node.subscriptions_made["image"](image_message(4))
    assert len(depth.messages) == 2
    node.trigger_cleanup()
    assert not node.subscriptions_made and not node.publishers_made


def test_the_bundled_model_in_the_node(node_module, monkeypatch):
    monkeypatch.setattr(ros.LifecycleNode, "given", {"encoding": "16UC1"})
    node = node_module.DepthAnythingNode()
    assert node.trigger_configure() == ros.Return.SUCCESS and node.trigger_activate() == ros.Return.SUCCESS
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    node.subscriptions_made["image"](ros.Image(ros.Header(), 48, 64, "bgr8", 0, 192, image.tobytes()))
    (message,) = node.publishers_made["~/disparity"].messages
    expected = node._frames.predict(image[:, :, ::-1]).nearness()
    assert np.array_equal(np.frombuffer(message.data, "<u2").reshape(48, 64), np.rint(expected * 65535).astype("u2"))
    assert "~/points" not in node.publishers_made


@pytest.mark.parametrize(
    ("given", "words"),
    [({"model": "no-such-model"}, "no-such-model"), ({"encoding": "8UC1"}, "8UC1"), ({"max_rate": -1.0}, "max_rate")],
)
def test_what_cannot_be_configured_is_an_error(node_module, monkeypatch, given, words):
    monkeypatch.setattr(ros.LifecycleNode, "given", given)
    node = node_module.DepthAnythingNode()
    assert node.trigger_configure() == ros.Return.FAILURE
    assert words in node.logger.lines[-1][1] and not node.publishers_made


def test_a_broken_image_is_passed_over(node_module, monkeypatch):
    monkeypatch.setattr(node_module, "Predictor", Metric)
    monkeypatch.setattr(ros.LifecycleNode, "given", {})
    node = node_module.DepthAnythingNode()
    node.trigger_configure()
    node.trigger_activate()
    broken = image_message()
    broken.encoding = "yuv422"
    node.subscriptions_made["image"](broken)
    assert "yuv422" in node.logger.lines[-1][1]
    node.subscriptions_made["image"](image_message(2))
    assert len(node.publishers_made["~/depth"].messages) == 1


def test_the_command_starts_by_itself(node_module, monkeypatch):
    monkeypatch.setattr(ros.LifecycleNode, "given", {})
    seen = []
    monkeypatch.setattr(node_module.rclpy, "spin", lambda node: seen.append((node.active, *node.subscriptions_made)))
    node_module.main([])
    assert seen == [(True, "camera_info", "image")]


def test_names_in_the_readme_are_the_nodes(node_module):
    text = (PACKAGE / "README.md").read_text()
    assert all(f"| `{name}` |" in text for name in node_module.PARAMETERS)
    launch = (PACKAGE / "launch" / "depth_anything.launch.py").read_text()
    assert all(f'"{name}": (' in launch for name in node_module.PARAMETERS)
