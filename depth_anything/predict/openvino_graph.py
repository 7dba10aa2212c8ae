"""Convert an exported ONNX graph for OpenVINO, with pre- and post-processing in float32 whatever the precision hint.

OpenVINO's default on CPUs that support it is bfloat16. Its eight significant bits are enough for the network, but not
for resizing pixels, nor for the map, whose steps would be visible in a point cloud. The operators after the last
convolution stay in float32, because OpenVINO has none of them in bfloat16. That excludes the operator `Resize`, which
preprocessing_graph.py avoids.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything.checkpoints.file_metadata import FIELDS
from depth_anything.system.device import Dtype

if TYPE_CHECKING:
    import openvino

COMPUTES: dict[str, tuple[Dtype, ...]] = {"CPU": ("fp32", "bf16"), "GPU": ("fp32", "fp16"), "NPU": ("fp16",)}
"""Type of device -> the supported precisions; for other devices only float32 is known to work."""


@cache
def core() -> openvino.Core:
    """The only Core of this process, which is never freed.

    With two Cores, a signal such as SIGTERM causes a segmentation fault: OpenVINO's CPU plugin sets a signal stack of
    the main thread for each Core, and frees these in the wrong order.
    """
    import openvino

    return openvino.Core()


def device_name(device: str, dtype: Dtype) -> str:
    """OpenVINO's name of a device: "GPU.1" for "gpu:1", "AUTO" for "auto". OpenVINO's names are accepted, too.

    Raises:
        ValueError: OpenVINO does not find the device, or the device does not support `dtype`.
    """
    name = device.upper().replace(":", ".")
    kind = name.partition(".")[0]
    seen = core().available_devices
    if name not in ("AUTO", *seen, *(one.partition(".")[0] for one in seen)):
        here = ", ".join(one.lower().replace(".", ":") for one in seen)
        raise ValueError(f"device {device!r}: OpenVINO does not find it; expected auto or one of {here}")
    if dtype not in (computes := COMPUTES.get(kind, ("fp32",))):
        raise ValueError(f"OpenVINO on {device} computes in {' or '.join(computes)}, not in {dtype}")
    return name


def read(path: Path) -> openvino.Model:
    """Read an .xml, or convert an .onnx to the same form.

    Raises:
        RuntimeError: OpenVINO cannot read it.
    """
    import openvino

    model = core().read_model(path)
    if path.suffix != ".onnx":
        return model
    for field, value in metadata_of(model, "framework").items():
        model.set_rt_info(value, ["depth_anything", field])
    free_network_size(model)
    keep_float32_before_network(model)
    with tempfile.TemporaryDirectory() as folder:  # the marks above only take effect when a model is read from a file
        form = Path(folder) / "model.xml"
        openvino.save_model(model, form, compress_to_fp16=False)
        return core().read_model(form.read_bytes(), form.with_suffix(".bin").read_bytes())


def at_size(model: openvino.Model, image: tuple[int, int], network: tuple[int, int]) -> openvino.Model:
    """A copy for images of one size (H, W) that have size (h, w) at the network: without free sizes, OpenVINO is
    several per cent faster."""
    import numpy as np
    from openvino import op

    fixed = model.clone()
    parameter = next(node for node in fixed.get_parameters() if "network_size" in node.output(0).get_names())
    constant = op.Constant(np.array(network, np.int64))
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(constant.output(0))
    fixed.remove_parameter(parameter)
    fixed.reshape([*image, 3])
    return fixed


def metadata_of(model: openvino.Model, place: str = "depth_anything") -> dict[str, str]:
    """The fields of `file_metadata` that a model states."""
    return {name: model.get_rt_info([place, name]).astype(str) for name in FIELDS if model.has_rt_info([place, name])}


def free_network_size(model: openvino.Model) -> None:
    """Make `network_size` an input again: OpenVINO reads the optional inputs of an ONNX file as constants."""
    from openvino import Type, op

    for node in model.get_ops():
        if node.get_friendly_name() == "network_size" and node.get_type_name() == "Constant":
            parameter = op.Parameter(Type.i64, node.output(0).get_partial_shape())
            node.output(0).set_names(set())
            parameter.output(0).set_names({"network_size"})
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(parameter.output(0))
            model.add_parameters([parameter])
            return


def keep_float32_before_network(model: openvino.Model) -> None:
    """Mark the preprocessing, so that it stays in float32."""
    for node in model.get_ops():
        if node.get_friendly_name().startswith("before/"):
            node.get_rt_info()["precise_0"] = ""
