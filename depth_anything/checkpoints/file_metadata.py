"""What a model's file says about itself: one list of fields, written and read here for checkpoints and for exports.

safetensors, ONNX and OpenVINO files carry them as text. No torch.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from depth_anything.variants import TRIED, VARIANTS, Variant, with_log_head, with_max_depth

FIELDS = {
    "variant": "the row of `VARIANTS` whose sizes it has",
    "version": "v1 or v2",
    "quantity": "disparity or depth_m",
    "head": "as in `Variant.head`",
    "max_depth": "metres at the top of the range; empty: none",
    "canonical_focal": "of a camera-aware model, in pixels of the network's input; absent: none",
    "licence": "of the weights",
    "input_size": "exports: lower bound of the shorter side at the network",
    "form": "exports: `road` (from the picture to its map) or `network` (the bare one)",
    "depth_anything": "exports: the version of this package that wrote it",
}
"""Field -> what it says. Whatever carries them takes the names from here."""


def metadata_of(variant: Variant, **more: str) -> dict[str, str]:
    """The fields of a file that holds `variant`; `more` are those that only exports have."""
    assert more.keys() <= FIELDS.keys()
    fields = {
        "variant": variant.name,
        "version": variant.version,
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
    """The row that a file's fields name, with the file's own range, camera, licence and size.

    Args:
        path: of the file, for error lines.
        fields: as found in it; others than `FIELDS` are passed over.
        wanted: whose sizes are taken where the name is in no table.

    Raises:
        ValueError: no or an unknown name, numbers that are none, or fields that disagree.
    """
    name = fields.get("variant")
    row = VARIANTS.get(name or "") or TRIED.get(name or "", wanted)
    if row is None:
        raise ValueError(f"{path} says it is {name!r}, which is unknown here: pass variant=, or update")
    max_depth = number(path, fields, "max_depth")
    if max_depth is not None and max_depth != row.max_depth:
        row = with_max_depth(row, max_depth)
    # exports of earlier versions state no head: metres without an upper end are those of the log head
    if fields.get("head", "log" if fields.get("quantity") == "depth_m" and max_depth is None else "") == "log":
        row = with_log_head(row)
    if (canonical_focal := number(path, fields, "canonical_focal")) is not None:
        row = replace(row, canonical_focal=canonical_focal)
    if (input_size := number(path, fields, "input_size")) is not None:
        row = replace(row, input_size=int(input_size))
    if (fields.get("version"), fields.get("quantity")) != (row.version, row.quantity):
        raise ValueError(
            f"{path}: its metadata says {fields.get('version')} and {fields.get('quantity')} beside {row.name}, "
            f"which is {row.version} and {row.quantity}: save it again, or take another file"
        )
    licence = fields.get("licence", row.licence)
    return row if licence == row.licence else replace(row, licence=licence, commercial=None)


def number(path: str | Path, fields: Mapping[str, str], name: str) -> float | None:
    """A field's number above 0; None where it is empty or absent."""
    text = fields.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{path}: its metadata says {name} {text!r}; expected a number above 0: save it again")
    return value
