"""The files that can be made of a map: what they are called, and what each of them needs. One list for all who ask.

No numpy here: the command's help, the server's document and its page read this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Literal

from depth_anything.system.files import refuse_existing
from depth_anything.system.words import one_of

Need = Literal["metres", "camera", "image", "sky", "confidence"]
ExrChannel = Literal["auto", "Z", "Y", "R"]
GEOMETRY: tuple[Need, ...] = ("metres", "camera")


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    kind: str
    """Part of its name: color in photo_color.png. `{quantity}` is replaced by disparity or depth_m."""
    ending: str
    needs: tuple[Need, ...] = ()
    """What is required in addition to the map."""
    says_camera: bool = False
    """Whether it contains the camera if one is known."""
    of_panoramas: bool = True
    """Whether it can be made of an equirectangular panorama."""

    @property
    def media_type(self) -> str:
        """Media type for HTTP."""
        of_ending = {
            "png": "image/png", "exr": "image/x-exr", "glb": "model/gltf-binary", "json": "application/json",
        }  # fmt: skip
        return of_ending.get(self.ending, "application/octet-stream")


FORMATS = {
    "color": Format("color", "png"),
    "side": Format("side", "png", ("image",)),
    "png16": Format("{quantity}", "png"),
    "npz": Format("{quantity}", "npz", says_camera=True),
    "npy": Format("{quantity}", "npy"),
    "pfm": Format("{quantity}", "pfm"),
    "exr": Format("{quantity}", "exr"),
    "rgbz": Format("rgbz", "exr", ("image",)),
    "json": Format("{quantity}", "json", says_camera=True),
    "normals": Format("normals", "png", GEOMETRY),
    "sky": Format("sky", "png", ("sky",)),
    "confidence": Format("confidence", "png", ("confidence",), of_panoramas=False),
    "control": Format("control", "png"),
    "ply": Format("points", "ply", GEOMETRY),
    "glb": Format("mesh", "glb", (*GEOMETRY, "image")),
    "sbs": Format("sbs", "png", ("image",), of_panoramas=False),
    "anaglyph": Format("anaglyph", "png", ("image",), of_panoramas=False),
    "colmap": Format("depth_map", "bin", ("metres",), of_panoramas=False),
    "colmap_camera": Format("cameras", "bin", ("camera",), of_panoramas=False),
}
NAME = "{stem}_{kind}.{ext}"


@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """How files are written: of `Prediction.save`, and of the commands that write maps."""

    colors: str = "Spectral_r"
    """Of color and side: Spectral_r, inferno, turbo, gray."""
    near: float | None = None
    """Metres of the nearest point, for the geometry (normals, ply, glb, colmap) of a relative disparity."""
    far: float | None = None
    """Metres of the farthest point, likewise."""
    percentile: tuple[float, float] | None = None
    """Two percentiles that become black and white of the control image, instead of minimum and maximum."""
    exr_channel: ExrChannel = "auto"
    """Name of the map's EXR channel: auto is Z for metres and disparity for disparity; Y or R: viewers show it."""
    ply_axes: Literal["opencv", "opengl"] = "opencv"
    """Axes of ply: opencv (x right, y down, z forward) or opengl (x right, y up, z towards the viewer)."""
    eye_distance: float = 0.03
    """Of sbs and anaglyph: shift between the nearest and the farthest point, as a share of the width."""
    directx_normals: bool = False
    """Green of the normals points down (DirectX) instead of up (OpenGL)."""
    name: str = NAME
    """Pattern of the files' names, of {stem}, {kind} and {ext}: '{stem}.{ext}' for photo.png."""
    overwrite: bool = False
    """Replace results that exist."""

    def __post_init__(self) -> None:
        check_eye_distance(self.eye_distance)
        try:
            parts = [part[1:] for part in Formatter().parse(self.name) if part[1] is not None]
        except ValueError:
            parts = [("", "", None)]
        if not set(parts) <= {(field, "", None) for field in ("stem", "kind", "ext")} or not self.name:
            raise ValueError(f"name {self.name!r}: expected a pattern of {{stem}}, {{kind}} and {{ext}}, as {NAME!r}")


def check_eye_distance(share: float) -> None:
    """Refuse a distance of the eyes that is no share of the width, or more than eyes can join.

    Raises:
        ValueError: see above.
    """
    if not 0 < share <= 0.2:
        raise ValueError(
            f"eye distance {share:g}: expected a share of the width, above 0 and at most 0.2, such as 0.03"
        )


def split_formats(text: str) -> list[str]:
    """The format names of an option --save, which is written with commas.

    Raises:
        ValueError: no name in it.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--save {text!r}: nothing would be written; expected a list such as png16,npz")
    return names


def check_distances(formats: Iterable[str], near: float | None, far: float | None) -> None:
    """Refuse near and far where no format would use them: the others hold disparity all the same.

    Raises:
        ValueError: see above.
    """
    if (near, far) != (None, None) and not any("metres" in FORMATS[name].needs for name in formats):
        geometry = ", ".join(name for name, row in FORMATS.items() if "metres" in row.needs)
        raise ValueError(
            f"near and far are for {geometry}; {', '.join(formats)} would stay disparity. `depth-anything calibrate` "
            "writes metres in every format"
        )


def check_panorama(formats: Iterable[str]) -> None:
    """Refuse formats that a panorama cannot have: their readers expect an image of a pinhole camera.

    Raises:
        ValueError: see above.
    """
    refused = [name for name in formats if name in FORMATS and not FORMATS[name].of_panoramas]
    if refused:
        possible = ", ".join(name for name, row in FORMATS.items() if row.of_panoramas)
        raise ValueError(f"{', '.join(refused)}: not for panoramas, which have no pinhole camera; expected {possible}")


def paths(stem: Path, formats: Sequence[str], quantity: str, options: SaveOptions) -> dict[str, Path]:
    """Where `save` will write each format: `<stem>_<kind>.<ext>`, such as photo_disparity.png for png16.

    Called before a model runs, to check that its result can be written.

    Raises:
        ValueError: an unknown format, two files of one name or with a wrong ending, a file that exists already, or
            distances that none of the formats uses.
    """
    found: dict[str, Path] = {}
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"unknown output {name!r}: {one_of(name, FORMATS)}")
        row = FORMATS[name]
        kind = row.kind.format(quantity=quantity)
        path = stem.parent / options.name.format(stem=stem.name, kind=kind, ext=row.ending)
        if path.suffix.lower() != f".{row.ending}":
            raise ValueError(f"name {options.name!r}: {name} is a file .{row.ending}; let the pattern end in .{{ext}}")
        if path in found.values() and name not in found:
            raise ValueError(f"name {options.name!r}: two of {', '.join(formats)} would be {path.name}; add {{kind}}")
        found[name] = path
        refuse_existing(path, options.overwrite)
    check_distances(found, options.near, options.far)
    return found
