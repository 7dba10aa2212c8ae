"""`depth-anything export`: a model as a file that runs without torch, and a comparison of both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from depth_anything.cli.options import AcceptLicense, Variant
from depth_anything.export.options import Form
from depth_anything.system.extras import needs


def export(
    model: Positional[str],
    to: Form = "onnx",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    variant: Variant = None,
    half: bool = False,
    fp16: bool = False,
    int8: bool = False,
    calibrate: Path | None = None,
    bare: bool = False,
    size: tuple[int, int] | None = None,
    input_size: int | None = None,
    photos: tuple[str, ...] = (),
    accept_license: AcceptLicense = False,
) -> None:
    """Export a model with its pre- and post-processing: a uint8 image of any size in, its map at that size out.

    The exported file is compared with torch on photographs, and is kept only if both agree. A report is written beside
    it.

    Args:
        model: a name that `depth-anything models` lists, or a checkpoint.
        to: onnx (the base install runs it), openvino (.xml and .bin; needs the extra openvino), or transformers-js (a
            folder for the JavaScript library's pipeline "depth-estimation").
        out: the file or folder; by default MODEL.onnx, MODEL.xml or MODEL-transformers-js.
        half: store the weights as float16: half the size; computation stays in float32.
        fp16: compute in float16 too, for GPUs with ONNX Runtime; operations that would overflow stay in float32.
        int8: quantise weights and activations; needs --calibrate.
        calibrate: folder of photographs that resemble your inputs; a quarter of them is kept out to check the result.
        bare: export only the network: normalised float32 (B, 3, h, w) in, (B, h, w) out.
        size: fixed height and width of a bare network's input, for compilers that accept no dynamic dimensions.
        input_size: lower bound of the shorter side in the size rule of the file; by default the model's own.
        photos: photographs for the comparison instead of the three in the package.
    """
    with needs("export", "export"):
        import onnxscript  # noqa: F401
        import torch  # noqa: F401

    from depth_anything.export.export_model import export as write
    from depth_anything.export.export_model import export_folder
    from depth_anything.export.options import SUFFIX, ExportOptions
    from depth_anything.images.inputs import find_images
    from depth_anything.network.model import DepthAnything

    options = ExportOptions(
        to=to,
        half=half,
        fp16=fp16,
        int8=int8,
        calibrate=paths(find_images([str(calibrate)])) if calibrate else (),
        bare=bare,
        size=size,
        input_size=input_size,
    )
    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    path = out or Path(f"{Path(model).stem}{SUFFIX[to]}")
    chosen = paths(find_images(photos)) if photos else ()
    if to == "transformers-js":
        report = export_folder(network, path, options, chosen)
        found = next(path.rglob("*.parity.md")).relative_to(path)
        print(f'{path}: for pipeline("depth-estimation"), {report.quantity} out', end=", ")
    else:
        report = write(network, path, options, chosen)
        found = path.with_suffix(".parity.md").name
        print(f"{path}: {'bare network' if bare else 'uint8 (H, W, 3) RGB in'}, {report.quantity} out", end=", ")
    worst = max(one.largest_difference for one in report.agreements)
    print(f"licence {network.variant.licence}; within {worst:.1e} of torch, see {found}")


def paths(sources: list) -> tuple[Path, ...]:
    """The paths of the sources that are files."""
    return tuple(source.path for source in sources if source.path is not None)
