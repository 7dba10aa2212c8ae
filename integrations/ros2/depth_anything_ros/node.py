"""The lifecycle node: images (and their camera) in, a map, its camera and points out. The work is done in frames.py."""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from depth_anything import Prediction, Predictor
from depth_anything_ros.frames import POINT_FIELDS, Frames, Rate, camera_matrix, cloud, to_rgb

NEWEST = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Sensor data: what could not be worked on in time is dropped, and the newest image is next."""
PARAMETERS = {
    "model": "nano",
    "device": "cpu",
    "size": 0,
    "encoding": "32FC1",
    "max_rate": 0.0,
    "max_range": 0.0,
    "points": True,
    "accept_license": False,
    "autostart": True,
}
"""Names and defaults; README.md says what each is. 0 stands for "not given"."""
SECONDS_BETWEEN_WARNINGS = 5.0


class DepthAnythingNode(LifecycleNode):
    """Loads its model on `configure`, works between `activate` and `deactivate`, frees it on `cleanup`."""

    def __init__(self) -> None:
        super().__init__("depth_anything")
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        self._frames: Frames | None = None
        self._info: CameraInfo | None = None
        self._is_active = False
        self._entities: list = []

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Loads the model and opens the topics."""
        given = {name: self.get_parameter(name).value for name in PARAMETERS}
        max_range = given["max_range"] or float("inf")
        try:
            if given["encoding"] not in ("32FC1", "16UC1"):
                raise ValueError(f"encoding {given['encoding']!r}: expected 32FC1 or 16UC1")
            if given["max_rate"] < 0 or max_range < 0:
                raise ValueError("max_rate and max_range: expected 0 (none) or more")
            predictor = Predictor(
                given["model"],
                device=given["device"],
                input_size=given["size"] or None,
                accept_license=given["accept_license"],
            )
        except (ValueError, OSError, ModuleNotFoundError) as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self._frames = Frames(predictor, given["encoding"], max_range)
        self._rate = Rate(given["max_rate"])
        is_metric = predictor.variant.quantity == "depth_m"
        self._map = self.create_lifecycle_publisher(Image, "~/depth" if is_metric else "~/disparity", NEWEST)
        self._map_camera = self.create_lifecycle_publisher(CameraInfo, "~/camera_info", NEWEST)
        self._cloud = None
        if is_metric and given["points"]:
            self._cloud = self.create_lifecycle_publisher(PointCloud2, "~/points", NEWEST)
        elif given["points"]:
            self.get_logger().info(f"no points: {predictor.variant.name} predicts disparity, which has no scale")
        self._entities = [
            self.create_subscription(CameraInfo, "camera_info", self.on_camera_info, NEWEST),
            self.create_subscription(Image, "image", self.on_image, NEWEST),
        ]
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Starts to work."""
        self._is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Images pass by until the node is active again."""
        self._is_active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Closes the topics and frees the model."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """As cleanup."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_camera_info(self, message: CameraInfo) -> None:
        """Keeps the newest calibration."""
        self._info = message

    def on_image(self, message: Image) -> None:
        """One image: its map, its camera and its points, all with the stamp and the frame of the image."""
        seconds = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        if self._frames is None or not self._is_active or not self._rate.lets_through(seconds):
            return
        try:
            size = message.height, message.width
            image_HW3 = to_rgb(message.data, message.encoding, *size, message.step, bool(message.is_bigendian))
            info = self._info
            K = camera_matrix(info.k, (info.height, info.width), size) if info is not None else None
            prediction, values_HW = self._frames(image_HW3, K)
        except ValueError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=SECONDS_BETWEEN_WARNINGS)
            return
        self._map.publish(image_message(message.header, self._frames.encoding, values_HW))
        if info is not None and (info.height, info.width) == size:
            info.header = message.header
            self._map_camera.publish(info)
        if self._cloud is None:
            return
        if K is None:
            self.get_logger().warning(
                f"no points: no calibrated CameraInfo for images of {message.width}x{message.height} yet",
                throttle_duration_sec=SECONDS_BETWEEN_WARNINGS,
            )
            return
        self._cloud.publish(cloud_message(message.header, prediction, K, self._frames.max_range))

    def _release(self) -> None:
        self._is_active = False
        for entity in self._entities:
            self.destroy_subscription(entity)
        if self._frames is not None:
            for publisher in (self._map, self._map_camera, self._cloud):
                if publisher is not None:
                    self.destroy_publisher(publisher)
        self._entities, self._frames, self._info = [], None, None


def image_message(header: Header, encoding: str, values_HW) -> Image:
    """A sensor_msgs/Image of a float32 or uint16 map."""
    message = Image()
    message.header = header
    message.height, message.width = values_HW.shape
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = values_HW.shape[1] * values_HW.itemsize
    message.data = values_HW.astype(values_HW.dtype.newbyteorder("<"), copy=False).tobytes()
    return message


def cloud_message(header: Header, prediction: Prediction, K, max_range: float) -> PointCloud2:
    """An organised sensor_msgs/PointCloud2: a point a pixel, NaN where unknown."""
    points_HW4 = cloud(prediction, K, max_range)
    message = PointCloud2()
    message.header = header
    message.height, message.width = points_HW4.shape[:2]
    message.fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1) for name, offset in POINT_FIELDS
    ]
    message.is_bigendian = False
    message.point_step = 16
    message.row_step = 16 * message.width
    message.is_dense = False
    message.data = points_HW4.astype("<f4", copy=False).tobytes()
    return message


def main(arguments: list[str] | None = None) -> None:
    """`ros2 run depth_anything_ros depth_anything_node`."""
    rclpy.init(args=arguments)
    node = DepthAnythingNode()
    if node.get_parameter("autostart").value:
        node.trigger_configure()
        node.trigger_activate()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
