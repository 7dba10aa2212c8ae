"""One path for every image: arrays, files, many at once, in both backends."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from depth_anything import DepthAnything, Predictor
from depth_anything.predict.backends import load_backend


@pytest.fixture(scope="module")
def onnx() -> Predictor:
    return Predictor("nano")


@pytest.fixture(scope="module")
def torch_predictor() -> Predictor:
    return Predictor("nano", backend="torch", batch_size=2)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def test_map_has_the_image_s_size_and_says_what_it_is(onnx):
    prediction = onnx(photograph(61, 90))
    assert prediction.quantity == "disparity"
    assert prediction.disparity.shape == (61, 90)
    assert prediction.disparity.dtype == np.float32
    assert prediction.network_size == (224, 320)
    assert prediction.model == "nano" and prediction.licence == "Apache-2.0"


def test_path_array_and_pil_agree(onnx, tmp_path):
    image = photograph(50, 70)
    Image.fromarray(image).save(tmp_path / "p.png")
    maps = [onnx(source).disparity for source in (image, tmp_path / "p.png", Image.fromarray(image))]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_many_of_mixed_sizes_equal_one_by_one(torch_predictor):
    sizes = [(60, 80), (120, 160), (80, 60), (30, 40), (70, 70), (240, 320)]
    images = [photograph(*size, seed) for seed, size in enumerate(sizes)]
    together = torch_predictor.predict(images)
    for image, prediction in zip(images, together, strict=True):
        assert prediction.disparity.shape == image.shape[:2]
        np.testing.assert_allclose(prediction.disparity, torch_predictor(image).disparity, atol=1e-5)


def test_backends_agree(onnx, torch_predictor):
    image = photograph(100, 133)
    np.testing.assert_allclose(onnx(image).disparity, torch_predictor(image).disparity, atol=1e-4)


def test_infer_image_takes_bgr_as_the_official_method(torch_predictor, tmp_path):
    image = photograph(50, 70)
    Image.fromarray(image).save(tmp_path / "p.png")
    model = DepthAnything.from_pretrained("nano")
    found = model.infer_image(cv2.imread(str(tmp_path / "p.png")), 224)
    np.testing.assert_allclose(found, torch_predictor(image).disparity, atol=1e-6)
    with pytest.raises(ValueError, match="BGR"):
        model.infer_image(image.astype(np.float32))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "the image is None: .*cv2.imread returns None for a file that it cannot read"),
        ("photo.jpg", "the image is a str"),
        (Path("photo.jpg"), "the image is a PosixPath"),
        (Image.new("RGB", (4, 3)), "the image is a Image"),
        (b"bytes", "the image is a bytes"),
        ([[[1, 2, 3]]], "the image is a list"),
        (np.zeros((3, 4), np.uint8), r"image of shape \(3, 4\), type uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"image of shape \(3, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"image of shape \(0, 4, 3\)"),
        (np.zeros((3, 4, 3), np.float32), "type float32"),
    ],
)
def test_what_is_no_image_is_named(image, said):
    model = DepthAnything.from_pretrained("nano")
    for infer, order in ((model.infer_image, "BGR"), (model.infer_rgb, "RGB")):
        with pytest.raises(ValueError, match=rf"{said}.*") as error:
            infer(image)
        assert f"expected a uint8 array (H, W, 3) in {order}" in str(error.value)


@pytest.mark.parametrize(
    "given", [None, "photo.jpg", b"bytes", np.zeros((3, 4, 3), np.uint8), Image.new("RGB", (4, 3))]
)
def test_one_image_instead_of_several(onnx, given):
    with pytest.raises(ValueError, match=r"expected a list of images; call predictor\(image\)"):
        onnx.predict(given)


def test_input_size_is_a_lower_bound(onnx):
    assert Predictor("nano", input_size=100)(photograph(60, 90)).network_size == (128, 160)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_lower_precision_stays_near(torch_predictor, dtype):
    image = photograph(60, 80)
    expected = torch_predictor(image).disparity
    found = Predictor("nano", dtype=dtype)(image).disparity
    assert found.dtype == np.float32
    assert np.abs(found - expected).mean() < 0.05 * (np.ptp(expected) + 0.1)


def test_a_panorama_says_that_the_bound_shrank(monkeypatch):
    """The network itself is left out: 16,384 patches take their time."""
    predictor = Predictor("nano")
    backend = predictor.backend

    class Blank:
        variant = backend.variant

        def __call__(self, images, input_size):
            return [np.zeros(image.shape[:2], np.float32) for image in images]

    monkeypatch.setattr(predictor, "backend", Blank())
    prediction = predictor(photograph(8, 5000))
    assert min(prediction.network_size) < 224
    assert "shorter side" in " ".join(prediction.notes)
    assert not predictor(photograph(60, 80)).notes


def test_refusals():
    with pytest.raises(ValueError, match="device"):
        Predictor("nano", device="tpu")
    with pytest.raises(ValueError, match="torch"):
        load_backend("nano", backend="onnx", dtype="bf16")
    for backend in ("onnx", "openvino"):
        with pytest.raises(ValueError, match=f"export v2-small --to {backend}"):
            load_backend("v2-small", backend=backend)
    with pytest.raises(ValueError, match="use --backend openvino"):
        load_backend("some.xml", backend="onnx")
    with pytest.raises(ValueError, match="fp32 or bf16"):
        load_backend("nano", backend="openvino", dtype="fp16")
    with pytest.raises(ValueError, match="no such file"):
        load_backend("absent.onnx")


def test_without_torch_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ValueError, match=r"depth-anything\[torch\]"):
        load_backend("v2-small")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ValueError, match=r"depth-anything\[openvino\]"):
        load_backend("nano", backend="openvino")


def test_one_predictor_whatever_runs_it(onnx):
    """The same image three times in OpenVINO: with free sizes, compiled for its size, and after another one."""
    predictor = Predictor("nano", backend="openvino")
    image = photograph(100, 133)
    expected = onnx(image).disparity
    for other in (image, image, photograph(80, 60), image):
        found = predictor(other).disparity
    np.testing.assert_allclose(found, expected, atol=1e-4)
    again = predictor(image)
    np.testing.assert_allclose(again.disparity, expected, atol=1e-4)
    assert again.model == "nano" and again.network_size == onnx(image).network_size


def test_torch_hub_entries():
    """Offline: the entry points of this checkout."""
    root = str(Path(__file__).parents[2])
    for entry, name in [("depth_anything_v2_vits", "v2-small"), ("depth_anything_vits", "v1-small")]:
        model = torch.hub.load(root, entry, source="local", pretrained=False, trust_repo=True)
        assert model.variant.name == name
    assert torch.hub.load(root, "depth_anything_nano", source="local", trust_repo=True).variant.name == "nano"
