"""A Prediction as the body of a response: the same bytes as the files of the command `predict`, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from depth_anything.images.formats import FORMATS, SaveOptions, check_distances
from depth_anything.predict.prediction import Prediction
from depth_anything.web.page_files import OFFERED

FORMS = OFFERED
if TYPE_CHECKING:
    Form = str
else:
    Form = Literal[FORMS]
Colors = Literal["Spectral_r", "inferno", "turbo", "gray"]


class Options(BaseModel):
    """Options in the query or the form of /v1/depth; the names are those of the command `predict`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Form = Field("png16", description="Format of the response. json holds float32 values in base64.")
    model: str | None = Field(None, description="A name from /v1/models; by default the first.", max_length=200)
    colors: Colors = Field("Spectral_r", description="Colour map for color and side.")
    near: float | None = Field(
        None,
        gt=0,
        description="Distance of the nearest point in metres, for normals, ply and glb from a relative disparity.",
    )
    far: float | None = Field(None, gt=0, description="Distance of the farthest point in metres.")
    fov: float | None = Field(
        None, gt=0, lt=180, description="Horizontal field of view in degrees; without it, EXIF is used."
    )
    focal_mm: float | None = Field(None, gt=0, description="Focal length as its 35 mm equivalent, instead of fov.")
    eye_distance: float = Field(
        0.03,
        gt=0,
        le=0.2,
        description="Shift between the nearest and the farthest point in sbs and anaglyph, of the width.",
    )


@dataclass(frozen=True)
class EncodedMap:
    """One encoded map."""

    body: bytes
    media_type: str
    name: str
    """File name for clients that save the map: picture_disparity.png."""


def encode(prediction: Prediction, options: Options) -> EncodedMap:
    """Encode the map in one of the formats. `Prediction.save` writes the files, in a temporary folder.

    Raises:
        ValueError: the form needs metres, the camera, or a package that is not installed.
    """
    with TemporaryDirectory(prefix="depth-anything-") as folder:
        asked = SaveOptions(
            colors=options.colors, near=options.near, far=options.far, eye_distance=options.eye_distance
        )
        [path] = prediction.save(Path(folder) / "picture", [options.format], asked)
        return EncodedMap(path.read_bytes(), FORMATS[options.format].media_type, path.name)


def check(options: Options, quantity: str, has_camera: bool) -> None:
    """Refuse, before the network runs, a request whose result could not be encoded.

    Raises:
        ValueError: see `encode`.
    """
    form = options.format
    check_distances([form], options.near, options.far)
    needs = FORMATS[form].needs
    if "metres" in needs and quantity == "disparity" and (options.near is None or options.far is None):
        raise ValueError(
            f"{form} needs metres, which a relative disparity lacks: give near and far, the distances of the nearest "
            "and the farthest point, or choose a metric model"
        )
    if "metres" in needs and quantity == "depth_m" and (options.near is not None or options.far is not None):
        raise ValueError("near and far apply to a relative disparity: this model predicts metres already")
    if "camera" in needs and not has_camera:
        raise ValueError(
            f"{form} needs the camera: give fov or focal_mm; the EXIF data of this image does not state it"
        )
