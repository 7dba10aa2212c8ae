"""Metadata in model files: one list of fields, written and read here for checkpoints and for exported files.

safetensors, ONNX and OpenVINO files store them as text. No torch.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from depth_anything.variants import (
    FORMER_NAMES,
    NANO,
    NANO_VIT,
    TRIED,
    VARIANTS,
    Variant,
    with_log_head,
    with_max_depth,
)

FIELDS = {
    "variant": "the row of `VARIANTS` whose sizes it has",
    "version": "v1 or v2",
    "encoder": "its family; absent in files of early versions",
    "quantity": "disparity or depth_m",
    "head": "as in `Variant.head`",
    "max_depth": "upper end of the range in metres; empty: none",
    "canonical_focal": "focal length of a camera-aware model, in pixels of the network's input; absent: none",
    "licence": "of the weights",
    "input_size": "exports: lower bound of the shorter side at the network",
    "form": "exports: `image` (with pre- and post-processing) or `network` (without)",
    "depth_anything": "exports: version of the package that wrote the file",
}
"""Field -> its meaning. All file formats take the names from here."""


def metadata_of(variant: Variant, **more: str) -> dict[str, str]:
    """The fields of a file that holds `variant`; `more` are fields that only exports have."""
    assert more.keys() <= FIELDS.keys()
    fields = {
        "variant": variant.name,
        "version": variant.version,
        "encoder": variant.encoder,
        "quantity": variant.quantity,
        "head": variant.head,
        "max_depth": "" if variant.max_depth is None else repr(float(variant.max_depth)),
        "licence": variant.licence,
        **more,
    }
    if variant.canonical_focal is not None:
        fields["canonical_focal"] = repr(float(variant.canonical_focal))
    return fields


def variant_of_metadata(path: str | Path, fields: Mapping[str, str], wanted: Variant | None = None) -> Variant:
    """The variant that the fields of a file name, with the range, camera, licence and size stated in the file.

    Args:
        path: path of the file, for error messages.
        fields: fields of the file; those not in `FIELDS` are ignored.
        wanted: variant whose sizes are used if the name is unknown.

    Raises:
        ValueError: the name is missing or unknown, a number is invalid, or fields contradict each other.
    """
    name = fields.get("variant", "")
    # Before files said which family their encoder is of, the ViT was called nano.
    name = NANO_VIT.name if name == NANO.name and "encoder" not in fields else FORMER_NAMES.get(name, name)
    row = VARIANTS.get(name) or TRIED.get(name, wanted)
    if row is None:
        raise ValueError(
            f"{path} states the model {name!r}, which is unknown to this version: pass variant=, or update"
        )
    max_depth = number(path, fields, "max_depth")
    if max_depth is not None and max_depth != row.max_depth:
        row = with_max_depth(row, max_depth)
    # exports of earlier versions do not state the head: metres without an upper end belong to the log head
    if fields.get("head", "log" if fields.get("quantity") == "depth_m" and max_depth is None else "") == "log":
        row = with_log_head(row)
    if (canonical_focal := number(path, fields, "canonical_focal")) is not None:
        row = replace(row, canonical_focal=canonical_focal)
    if (input_size := number(path, fields, "input_size")) is not None:
        row = replace(row, input_size=int(input_size))
    if (fields.get("version"), fields.get("quantity")) != (row.version, row.quantity):
        raise ValueError(
            f"{path}: its metadata states {fields.get('version')} and {fields.get('quantity')} beside {row.name}, "
            f"which is {row.version} and {row.quantity}: save it again, or take another file"
        )
    licence = fields.get("licence", row.licence)
    return row if licence == row.licence else replace(row, licence=licence, commercial=None)


def number(path: str | Path, fields: Mapping[str, str], name: str) -> float | None:
    """The number in a field, above 0; None if the field is empty or absent."""
    text = fields.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{path}: its metadata states {name} {text!r}; expected a number above 0: save it again")
    return value
