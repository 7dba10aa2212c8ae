"""The ComfyUI nodes against ComfyUI's documented interface, without ComfyUI."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_anything import Prediction, Predictor

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
INPUT_TYPES = {"IMAGE", "MASK", "STRING", "INT", "FLOAT", "BOOLEAN"}


@pytest.fixture(scope="module")
def comfyui():
    """The folder, imported as ComfyUI imports a folder of custom_nodes: by its path, under a name of its own."""
    spec = importlib.util.spec_from_file_location("custom_nodes_depth_anything", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith(spec.name)]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def nano(comfyui) -> Predictor:
    loader = comfyui.NODE_CLASS_MAPPINGS["LoadDepthAnything"]()
    (model,) = loader.load(model="nano", device="cpu", size=0, accept_license=False)
    return model


@pytest.fixture
def images_BHW3():
    return torch.rand(2, 40, 56, 3, generator=torch.Generator().manual_seed(0))


def test_every_node_states_what_comfyui_asks_for(comfyui):
    assert comfyui.NODE_CLASS_MAPPINGS.keys() == comfyui.NODE_DISPLAY_NAME_MAPPINGS.keys()
    made = {name for node in comfyui.NODE_CLASS_MAPPINGS.values() for name in node.RETURN_TYPES}
    for node in comfyui.NODE_CLASS_MAPPINGS.values():
        function = getattr(node(), node.FUNCTION)
        inputs = node.INPUT_TYPES()
        assert inputs.keys() <= {"required", "optional", "hidden"} and node.CATEGORY
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        names = [name for group in inputs.values() for name in group]
        code = function.__func__.__code__
        assert list(code.co_varnames[1 : code.co_argcount]) == names
        for kind, *options in (one for group in inputs.values() for one in group.values()):
            assert isinstance(kind, list) or kind in INPUT_TYPES | made
            assert len(options) <= 1 and all(isinstance(option, dict) for option in options)


def test_depth_images_and_raw_values(comfyui, nano, images_BHW3):
    node = comfyui.NODE_CLASS_MAPPINGS["DepthAnythingDepth"]()
    depth_BHW3, values_BHW, quantity = node.predict(model=nano, images=images_BHW3, colors="grey")
    assert depth_BHW3.shape == images_BHW3.shape and depth_BHW3.dtype == values_BHW.dtype == torch.float32
    assert quantity == "disparity" and values_BHW.shape == images_BHW3.shape[:3]
    pixels = np.rint(images_BHW3.numpy() * 255).astype(np.uint8)
    for index, expected in enumerate(nano.predict(list(pixels))):
        assert np.array_equal(values_BHW[index], expected.disparity)
        assert np.allclose(depth_BHW3[index, :, :, 1], expected.nearness(), atol=1e-6)
    assert depth_BHW3.min() == 0 and depth_BHW3.max() == 1
    coloured_BHW3, *_ = node.predict(model=nano, images=images_BHW3, colors="Spectral_r")
    assert coloured_BHW3.min() >= 0 and coloured_BHW3.max() <= 1 and not torch.equal(coloured_BHW3, depth_BHW3)
    with_alpha = torch.cat([images_BHW3, torch.zeros(2, 40, 56, 1)], dim=-1)
    assert torch.equal(node.predict(model=nano, images=with_alpha, colors="grey")[1], values_BHW)


class Wall:
    """A model of metres that sees a wall 2 m away."""

    def predict(self, images):
        return [Prediction(depth_m=np.full(image.shape[:2], 2, np.float32), image=image) for image in images]


def test_normals_of_a_wall_face_the_camera(comfyui, images_BHW3):
    node = comfyui.NODE_CLASS_MAPPINGS["DepthAnythingNormals"]()
    (normals_BHW3,) = node.predict(model=Wall(), images=images_BHW3, fov=60.0, directx=False)
    assert normals_BHW3.shape == images_BHW3.shape
    assert torch.allclose(normals_BHW3, torch.tensor([0.5, 0.5, 1.0]), atol=1 / 255)


def test_normals_of_disparity_need_two_distances(comfyui, nano, images_BHW3):
    node = comfyui.NODE_CLASS_MAPPINGS["DepthAnythingNormals"]()
    with pytest.raises(ValueError, match="near and far"):
        node.predict(model=nano, images=images_BHW3, fov=60.0, directx=False)
    (normals_BHW3,) = node.predict(model=nano, images=images_BHW3, fov=60.0, directx=False, near=1.0, far=4.0)
    lengths = torch.linalg.vector_norm(normals_BHW3 * 2 - 1, dim=-1)
    assert ((lengths - 1).abs() < 0.02).float().mean() > 0.9


def test_what_is_no_batch_of_images_is_named(comfyui, nano):
    node = comfyui.NODE_CLASS_MAPPINGS["DepthAnythingDepth"]()
    with pytest.raises(ValueError, match="batch, height, width, 3"):
        node.predict(model=nano, images=torch.zeros(4, 4, 3), colors="grey")
