"""Post-training quantisation to int8, calibrated on the user's photographs; refused if it changes the maps too much.

ONNX files are quantised by ONNX Runtime, OpenVINO files by NNCF. A quarter of the photographs, at least one, is held
out of the calibration. On these the int8 file must agree with the float32 file within 2 % AbsRel; otherwise it is not
written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.export.agreement import INT8, relative_difference
from depth_anything.images.read import read_image
from depth_anything.predict.backends import exported_backend, feeds
from depth_anything.predict.openvino_graph import core
from depth_anything.system.extras import needs

if TYPE_CHECKING:
    from depth_anything.variants import Variant

IN_FLOAT32 = [
    *("projects", "resize_layers", r"layer\d_rn", "BackpropData", "refinenet[34]", r"output_conv2\.2"),
]
IN_FLOAT32_OF_EFFICIENTNET = [
    *("depthwise", r"patch_embed\.conv", r"blocks\.\d\.(expand|project)", "refinenet", "output_conv"),
]
"""Parts of the names of layers that are not quantised, in addition to pre- and post-processing.

Of all models: the decoder's reassembly, its two coarse fusions, which are small, and the last layer. A few channels of
DINOv2's tokens are a hundred times larger than the others: with one int8 scale for all channels, the reassembly changed
nano-vit's maps by 30 % AbsRel, and the coarse fusions by another 1 %. Of EfficientNet as well: its depthwise
convolutions, its first ten blocks and the rest of the decoder, a quarter of the weights; with the fine fusions and
four of these blocks quantised, nano's maps changed by 3 % AbsRel."""
MOST_CALIBRATED = 100
"""Largest number of photographs for calibration; more do not change the statistics."""
LIMIT = INT8.abs_rel


def in_float32(variant: Variant) -> list[str]:
    """Patterns of the layers of a model that are not quantised."""
    return IN_FLOAT32 + (IN_FLOAT32_OF_EFFICIENTNET if variant.encoder == "efficientnet" else [])


def quantise(path: Path, photos: tuple[Path, ...], variant: Variant) -> None:
    """Quantise an exported file in place.

    Raises:
        ValueError: there are too few photographs, NNCF is not installed, or the int8 maps differ too much.
    """
    if len(photos) < 4:
        raise ValueError(
            f"{len(photos)} photographs to calibrate on: expected at least 4, better 50 to 100, of your kind of images"
        )
    kept_out = photos[3::4]
    calibrated = [photo for photo in photos if photo not in kept_out][:MOST_CALIBRATED]
    exact = maps(path, kept_out, variant)
    (quantise_onnx if path.suffix == ".onnx" else quantise_openvino)(path, calibrated, variant)
    costs = [
        relative_difference(map_HW, exact_HW, variant.quantity)
        for map_HW, exact_HW in zip(maps(path, kept_out, variant), exact, strict=True)
    ]
    if not np.mean(costs) <= LIMIT:
        raise ValueError(
            f"int8 would change {variant.name} by {np.mean(costs):.1%} AbsRel on {len(costs)} photographs that "
            f"were held out of the calibration, more than {LIMIT:.0%}: not written; use bf16, or calibrate on others"
        )


def quantise_onnx(path: Path, photos: list[Path], variant: Variant) -> None:
    """Quantise linear layers and convolutions. Attention stays in float32: ONNX Runtime is hardly faster with int8."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photographs(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(photos)

        def get_next(self) -> dict[str, np.ndarray] | None:
            photo = next(self.rest, None)
            return None if photo is None else feeds(read_image(photo), variant.input_size, variant)

    graph = onnx.load(path).graph
    weights = {weight.name for weight in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("MatMul", "Conv") and node.input[1] in weights]
    typed, quantised = path.with_name("typed.onnx"), path.with_name("quantised.onnx")
    onnxruntime.set_default_logger_severity(3)
    try:
        quant_pre_process(path, typed, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            typed,
            quantised,
            Photographs(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Conv"],
            nodes_to_quantize=[node.name for node in layers if not re.search("|".join(in_float32(variant)), node.name)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        onnxruntime.set_default_logger_severity(2)
    typed.unlink()
    quantised.replace(path)


def quantise_openvino(path: Path, photos: list[Path], variant: Variant) -> None:
    """Quantise all layers, including attention."""
    with needs("openvino", "int8"):
        import nncf
        import openvino
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    # Read from bytes, because the files are replaced below and must not be memory-mapped then.
    model = nncf.quantize(
        core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes()),
        nncf.Dataset(photos, lambda photo: feeds(read_image(photo), variant.input_size, variant)),
        subset_size=len(photos),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        # The default, a mean over photographs, clips the peaks: 2.9 % AbsRel instead of 0.9 % for nano.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
        ignored_scope=nncf.IgnoredScope(
            patterns=["^before/.*", "^after/.*", *(f".*{part}.*" for part in in_float32(variant))], validate=False
        ),
    )
    openvino.save_model(model, path, compress_to_fp16=False)


def maps(path: Path, photos: tuple[Path, ...], variant: Variant) -> list[np.ndarray]:
    """Predictions of an exported file for photographs."""
    backend = exported_backend(path)
    return [backend([read_image(photo)], variant.input_size)[0] for photo in photos]
