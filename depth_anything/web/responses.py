"""A Prediction as the body of an answer: byte for byte the files that the command `predict` writes, or JSON."""

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
    """What the query or the form of /v1/depth may say; the names are those of the command `predict`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Form = Field("png16", description="What to answer with. json carries base64 of float32.")
    model: str | None = Field(None, description="One of /v1/models; by default the first.", max_length=200)
    colors: Colors = Field("Spectral_r", description="For color and side.")
    near: float | None = Field(
        None, gt=0, description="Metres of the nearest point, for normals, ply and glb of a relative disparity."
    )
    far: float | None = Field(None, gt=0, description="Metres of the farthest point, likewise.")
    fov: float | None = Field(
        None, gt=0, lt=180, description="Horizontal field of view in degrees; without it, EXIF is asked."
    )
    focal_mm: float | None = Field(None, gt=0, description="Or the focal length as its 35 mm equivalent.")


@dataclass(frozen=True)
class Answer:
    """One encoded map."""

    body: bytes
    media_type: str
    name: str
    """For a client that saves it: picture_disparity.png."""


def encode(prediction: Prediction, options: Options) -> Answer:
    """The map in one of the forms. Files are made by `Prediction.save`, in a folder that is gone when it returns.

    Raises:
        ValueError: the form needs metres, the camera, or a package that is not installed.
    """
    with TemporaryDirectory(prefix="depth-anything-") as folder:
        asked = SaveOptions(colors=options.colors, near=options.near, far=options.far)
        [path] = prediction.save(Path(folder) / "picture", [options.format], asked)
        return Answer(path.read_bytes(), FORMATS[options.format].media_type, path.name)


def check(options: Options, quantity: str, has_camera: bool) -> None:
    """Refuses, before a network runs, what could not be answered after it.

    Raises:
        ValueError: see `encode`.
    """
    form = options.format
    check_distances([form], options.near, options.far)
    if "metres" not in FORMATS[form].needs:
        return
    if quantity == "disparity" and (options.near is None or options.far is None):
        raise ValueError(
            f"{form} needs metres, which a relative disparity has not: give near and far, the distances of the nearest "
            "and the farthest point, or choose a metric model"
        )
    if quantity == "depth_m" and (options.near is not None or options.far is not None):
        raise ValueError("near and far belong to a relative disparity: this model answers metres already")
    if not has_camera:
        raise ValueError(f"{form} needs the camera: give fov or focal_mm; this picture's EXIF does not say")
