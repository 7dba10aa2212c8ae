"""Options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from depth_anything.variants import Variant


Form = Literal["onnx", "openvino", "transformers-js"]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "transformers-js": "-transformers-js"}
"""Suffixes of the default names of two files and a folder."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of an export."""

    to: Form = "onnx"
    half: bool = False
    """Store the weights as float16 and compute in float32: half the file size."""
    fp16: bool = False
    """ONNX: also compute in float16, for GPUs, except where it would overflow (float16.py): half the file size."""
    bare: bool = False
    """Only the network: `network_input` float32 (B, 3, h, w), normalised, to `network_map` (B, h, w)."""
    size: tuple[int, int] | None = None
    """Fixed height and width of a bare network's input, for compilers that do not support free sizes."""
    input_size: int | None = None
    """Lower bound of the shorter side in the size rule of the file; None: that of the model."""
    int8: bool = False
    """Quantise weights and activations (int8.py)."""
    calibrate: tuple[Path, ...] = ()
    """Photographs for int8."""

    def check(self, variant: Variant) -> None:
        """Raise ValueError for options that cannot be combined or that the variant does not support."""
        if self.size is not None and not self.bare:
            raise ValueError("a fixed size needs --bare: an export with preprocessing inside accepts every size")
        patch = variant.patch
        if self.size is not None and any(side < patch or side % patch for side in self.size):
            raise ValueError(
                f"size {self.size[0]} {self.size[1]}: expected multiples of {patch}, such as {37 * patch} {49 * patch}"
            )
        if self.fp16 and (self.half or self.int8):
            raise ValueError("--fp16 cannot be combined with --half or --int8: its weights are float16 already")
        if self.fp16 and self.to != "onnx":
            raise ValueError(
                "--fp16 is for ONNX; OpenVINO computes any file in float16 on a GPU: predict --device gpu --dtype fp16"
            )
        if self.int8 and (self.bare or self.half):
            raise ValueError("--int8 cannot be combined with --bare or --half")
        if self.int8 != bool(self.calibrate):
            raise ValueError("--int8 and --calibrate FOLDER (photographs of your kind of images) need each other")
        if variant.resize != "cubic" and not self.bare:
            raise ValueError(
                f"{variant.name} resizes as ZoeDepth does, which exported preprocessing does not support: add --bare"
            )


DEFAULTS = ExportOptions()
