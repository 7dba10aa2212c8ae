"""A Prediction: the map of one image, its quantity, and conversions to metres, points and files.

A `Prediction` holds either `disparity` (affine-invariant: larger is nearer, scale and shift unknown) or `depth_m`
(metres along the optical axis, 0 where unknown), never both. Disparity is converted to metres only by two known
distances: `to_depth(near=, far=)` or `align_to(points)`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from depth_anything.geometry import calibrate, camera, sphere, stereo
from depth_anything.images import colormap, map_files
from depth_anything.images.formats import SaveOptions
from depth_anything.predict import prediction_files

SkyPolicy = Literal["keep", "zero", "cap"]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("depth-anything")
    except PackageNotFoundError:
        return "source tree"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One map at the size of its upright image. Arrays are not copied; treat them as read-only."""

    disparity: np.ndarray | None = None
    """float32 (H, W), finite: larger is nearer, no unit, affine-invariant. None if the model predicts metres."""
    depth_m: np.ndarray | None = None
    """float32 (H, W), finite, metres along the optical axis (or the ray: `projection`); 0 where unknown."""
    model: str = "unknown"
    """Name of the variant, or the path of its checkpoint."""
    licence: str = "unknown"
    """Licence of the weights, as their owner states it."""
    version: str = field(default_factory=_version)
    """Version of this program."""
    network_size: tuple[int, int] | None = None
    """(height, width) of the image at the network's input."""
    metres_from: str = "model"
    """Source of the metres: the model, or known distances."""
    notes: tuple[str, ...] = ()
    """Notes about this map for the user, in sentences."""
    image: np.ndarray | None = None
    """uint8 (H, W, 3), the upright image; for side-by-side views and textures."""
    K: np.ndarray | None = None
    """(3, 3) pinhole camera in pixels of the map (see camera.py); None if it is not known."""
    focal: float | None = None
    """Focal length, in pixels of the map, for which a camera-aware model's metres are valid; they are proportional to
    it. None for other models."""
    sky: np.ndarray | None = None
    """bool (H, W), True in the sky; None if it was not computed."""
    confidence: np.ndarray | None = None
    """float32 (H, W), 0 to 1, see `confidence.agreement`; None if it was not computed."""
    projection: Literal["pinhole", "equirectangular"] = "pinhole"
    """Of the image. Distances of an equirectangular panorama are along the ray, not along an optical axis."""

    def __post_init__(self) -> None:
        if (self.disparity is None) == (self.depth_m is None):
            raise ValueError("a Prediction holds either disparity or depth_m: give exactly one of them")
        values = np.asarray(self.values)
        if values.ndim != 2 or values.size == 0 or values.dtype.kind != "f":
            raise ValueError(f"{self.quantity}: got {values.dtype} {values.shape}; expected float32 (height, width)")
        if not np.isfinite(values).all():
            raise ValueError(f"{self.quantity}: {np.count_nonzero(~np.isfinite(values))} values are NaN or infinite")
        if self.depth_m is not None and values.min() < 0:
            raise ValueError(f"depth_m: expected metres above 0, or 0 where unknown; the smallest is {values.min():g}")
        object.__setattr__(self, self.quantity, values.astype(np.float32, copy=False))
        arrays = {"image": (self.image, (*values.shape, 3)), "sky": (self.sky, values.shape)}
        for name, (array, shape) in {**arrays, "confidence": (self.confidence, values.shape)}.items():
            if array is not None and array.shape != shape:
                raise ValueError(f"{name}: got shape {array.shape}; expected {shape}, as the map")
        if self.K is not None:
            camera.check(self.K)

    # -- properties --------------------------------------------------------------------------------------------------

    @property
    def quantity(self) -> Literal["disparity", "depth_m"]:
        """The quantity of the map."""
        return "disparity" if self.depth_m is None else "depth_m"

    @property
    def values(self) -> np.ndarray:
        """The map, float32 (H, W); `quantity` states the meaning of its numbers."""
        return self.disparity if self.depth_m is None else self.depth_m  # type: ignore[return-value]

    @property
    def valid(self) -> np.ndarray:
        """bool (H, W): where a value is known. Everywhere for disparity, above 0 for metres."""
        return np.ones(self.values.shape, bool) if self.depth_m is None else self.depth_m > 0

    @property
    def height(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def is_panorama(self) -> bool:
        """Whether the image is equirectangular."""
        return self.projection == "equirectangular"

    def describe(self) -> str:
        """The meaning of the numbers, in words."""
        if self.depth_m is None:
            return "disparity: larger is nearer, no unit, scale and shift unknown (affine-invariant)"
        source = "from the model" if self.metres_from == "model" else self.metres_from
        axis = "the ray from the panorama's centre" if self.is_panorama else "the optical axis"
        return f"depth_m: metres along {axis}, {source}; 0 where unknown"

    def text(self) -> dict[str, str]:
        """The metadata for file formats that can hold text."""
        text = {
            "quantity": self.quantity,
            "meaning": self.describe(),
            "model": self.model,
            "licence": self.licence,
            "software": "depth-anything",
            "version": self.version,
            "picture_size": f"{self.width} x {self.height}",
        }
        if self.network_size is not None:
            text["network_size"] = f"{self.network_size[1]} x {self.network_size[0]}"
        if self.depth_m is not None:
            text["metres_from"] = self.metres_from
        if self.is_panorama:
            text["projection"] = self.projection
        if self.notes:
            text["notes"] = " ".join(self.notes)
        return text

    # -- conversions -------------------------------------------------------------------------------------------------

    def as_disparity(self) -> np.ndarray:
        """float32 (H, W), larger is nearer: the disparity itself, or 1/metres with 0 where unknown."""
        if self.depth_m is None:
            return self.values
        return np.where(self.depth_m > 0, 1 / np.where(self.depth_m > 0, self.depth_m, 1), 0).astype(np.float32)

    def to_depth(self, near: float | None = None, far: float | None = None) -> "Prediction":
        """The prediction in metres. A metric prediction is returned unchanged.

        A disparity needs two known distances: its largest value becomes `near`, its smallest `far`, and 1/metres is
        linear in between (V1 section 3.1: disparity is 1/depth up to scale and shift).

        Args:
            near, far: metres, 0 < near < far; None for a metric prediction.

        Raises:
            ValueError: distances are missing, impossible, or given for a metric prediction; or the map is constant.
        """
        if self.disparity is None:
            if near is not None or far is not None:
                raise ValueError(f"{self.model} predicts metres already: near and far are for a relative disparity")
            return self
        if near is None or far is None:
            raise ValueError(
                "a relative disparity has no metres: give the nearest and the farthest distance (--near --far), two or "
                "more known distances (depth-anything calibrate), or use a metric model"
            )
        return replace(
            self,
            disparity=None,
            depth_m=calibrate.near_far(self.disparity, near, far),
            metres_from=f"from the given near {near:g} m and far {far:g} m, not measured",
        )

    def align_to(
        self, points: Iterable[Sequence[float]], max_depth_m: float = 1000.0, local: bool = False
    ) -> "Prediction":
        """Metres from known distances: scale and shift that fit the map to 1/metres at these points, by least squares.

        See `calibrate.known_distances`. A metric prediction is corrected in the same way.

        Args:
            points: two or more (x, y, metres): x to the right and y down, in pixels of the upright image, from its
                upper left pixel (0, 0). `measured_points.read_points` reads them from files.
            max_depth_m: points that are farther than this after the fit, or have no positive distance, become unknown,
                0.
            local: correct the map locally too, where that is better at points kept out; ten points or more. See
                `calibrate.many_known_distances`.

        Raises:
            ValueError: too few points, a point outside the image or without a distance, or distances that
                contradict the map (all at one value, or nearer where the map is farther).
        """
        fit = calibrate.many_known_distances if local else calibrate.known_distances
        fitted = fit(self.as_disparity(), self.valid, points, max_depth_m)
        return replace(
            self,
            disparity=None,
            depth_m=fitted.depth_m,
            metres_from=f"fitted to {fitted.count} known distances",
            notes=(*self.notes, *fitted.notes),
        )

    def with_camera(self, K: np.ndarray) -> "Prediction":
        """A copy with a camera. Metres of a camera-aware model are converted to this camera: z f / `focal`.

        Raises:
            ValueError: K is not a pinhole camera, or the image is a panorama.
        """
        if self.is_panorama:
            raise ValueError("an equirectangular panorama has no pinhole camera: leave K out")
        camera.check(K)
        if self.depth_m is None or self.focal is None:
            return replace(self, K=K)
        focal = camera.mean_focal(K)
        return replace(
            self,
            K=K,
            focal=focal,
            depth_m=self.depth_m * np.float32(focal / self.focal),
            metres_from=f"from the model, for the camera's focal length of {focal:.1f} pixels",
        )

    def with_sky(
        self, sky_HW: np.ndarray, policy: SkyPolicy = "keep", cap_m: float | None = None, found_by: str = ""
    ) -> "Prediction":
        """A copy with a sky mask, in which the values of the sky follow a policy.

        Args:
            sky_HW: bool (H, W).
            policy: `keep`: unchanged. `zero`: disparity 0, infinitely far as in training (V1 section 3.1); metres 0,
                unknown. `cap`: the farthest value outside the sky.
            cap_m: metres for `cap` on a metric map, instead of the farthest value.
            found_by: the method that found the sky, for the notes.

        Raises:
            ValueError: an unknown policy, or a mask of another shape.
        """
        sky_HW = np.asarray(sky_HW, dtype=bool)
        if sky_HW.shape != self.values.shape:
            raise ValueError(f"sky: got shape {sky_HW.shape}; expected {self.values.shape}, as the map")
        if policy not in ("keep", "zero", "cap"):
            raise ValueError(f"sky policy {policy!r}: expected keep, zero or cap")
        if cap_m is not None and (policy != "cap" or self.depth_m is None):
            raise ValueError("cap_m is for the policy cap on a map of metres: leave it out")
        ground_HW = ~sky_HW & self.valid
        values_HW = self.values
        if policy == "zero":
            farthest = 0.0 if self.depth_m is not None else min(0.0, float(values_HW.min()))
            values_HW = np.where(sky_HW, np.float32(farthest), values_HW)
        elif policy == "cap" and (ground_HW.any() or cap_m is not None):
            if self.depth_m is None:
                farthest = values_HW[ground_HW].min()
            else:
                farthest = cap_m if cap_m is not None else values_HW[ground_HW].max()
            values_HW = np.where(sky_HW, np.float32(farthest), values_HW)
        how = f", found by {found_by}" if found_by else ""
        note = f"Sky: {sky_HW.mean():.0%} of the image{how}; its values: {policy}."
        return replace(self, sky=sky_HW, notes=(*self.notes, note), **{self.quantity: values_HW})

    def to_points(self, K: np.ndarray | None = None) -> np.ndarray:
        """Points in camera axes (x right, y down, z forward), float32 (H, W, 3) in metres; NaN where unknown.
        A panorama needs no K: its points surround the camera, and its middle is forward.

        Raises:
            ValueError: the map is a relative disparity, or the camera is not known.
        """
        K = self.K if K is None else K
        if self.depth_m is None:
            self.to_depth()  # raises an error that states what to do
        if self.is_panorama:
            return sphere.to_points(self.depth_m)  # type: ignore[arg-type]
        if K is None:
            raise ValueError(
                "points need the camera: give --fov, --focal-mm or --intrinsics; the EXIF data of this image has none"
            )
        return camera.unproject(self.depth_m, K)  # type: ignore[arg-type]

    def normals(self, K: np.ndarray | None = None) -> np.ndarray:
        """Surface normals that face the camera, in camera axes, float32 (H, W, 3); 0 where unknown. Errors as for
        `to_points`."""
        return camera.normals(self.to_points(K), self.is_panorama)

    def nearness(self, percentile: tuple[float, float] | None = None) -> np.ndarray:
        """float32 (H, W): 1 nearest, 0 farthest or unknown; linear in the map's values. All 0 for a constant map.

        Args:
            percentile: (low, high): percentiles of the known values for 0 and 1, instead of minimum and maximum.
        """
        nearness_HW = colormap.min_max(self.values, self.valid, percentile)
        if nearness_HW is None:
            return np.zeros(self.values.shape, np.float32)
        if self.depth_m is not None:
            np.subtract(1, nearness_HW, out=nearness_HW, where=self.valid)
        return nearness_HW

    def eye_shifts(self, eye_distance: float) -> np.ndarray:
        """Shift of each pixel between the eyes, float32 (H, W) in pixels, linear in disparity (for metres: in
        1/metres) between its 1st and 99th percentiles; see `stereo.shifts`."""
        nearness_HW = colormap.min_max(self.as_disparity(), self.valid, (1, 99))
        return stereo.shifts(np.full(self.values.shape, 0.5) if nearness_HW is None else nearness_HW, eye_distance)

    def colored(self, name: str = "Spectral_r") -> np.ndarray:
        """uint8 (H, W, 3): near is red in Spectral_r and turbo, bright in inferno and gray; unknown is black."""
        colored_HW3 = colormap.colored(self.nearness(), name)
        colored_HW3[~self.valid] = 0
        return colored_HW3

    def control_image(self, percentile: tuple[float, float] | None = None) -> np.ndarray:
        """The input of a depth ControlNet: uint8 (H, W, 3), grey, near is white.

        Disparity (for metres: 1/metres), scaled by its minimum and maximum in the image, as for the released
        ControlNet. A constant map is black.

        Args:
            percentile: see `nearness`; (2, 98) prevents a few very near pixels from darkening the rest.
        """
        nearness_HW = colormap.min_max(self.as_disparity(), self.valid, percentile)
        return colormap.colored(np.zeros(self.values.shape) if nearness_HW is None else nearness_HW, "gray")

    # -- files -------------------------------------------------------------------------------------------------------

    def save(
        self,
        stem: str | Path,
        formats: Sequence[str] = ("color", "png16"),
        options: SaveOptions | None = None,
        **changes: Any,
    ) -> list[Path]:
        """Write files `<stem>_<kind>.<ext>`: all of them, or none.

        Args:
            stem: path without suffix; missing folders are created.
            formats: names of `formats.FORMATS`. normals, ply and glb need metres and the camera; sky needs a mask; side
                and glb need the image.
            options: how the files are written.
            changes: fields of SaveOptions that differ from `options`: colors="inferno", overwrite=True. near and far
                are for the geometry of a relative disparity, whose other files keep the disparity.

        Returns:
            The paths, in the order of `formats`.

        Raises:
            ValueError: a format is unknown or not possible for this map, or a file exists already.
        """
        return prediction_files.save(self, Path(stem), formats, replace(options or SaveOptions(), **changes))


def load(path: str | Path, quantity: Literal["disparity", "depth_m"] | None = None) -> Prediction:
    """A Prediction from a file that `save` wrote: png16, npz, npy, exr or pfm.

    Args:
        path: `<stem>_disparity.png`, `..._depth_m.npz`, ...
        quantity: the quantity, if the file does not state it: a PFM under another name.

    Raises:
        ValueError: the file has another format or is damaged, or its quantity is not known.
    """
    held = map_files.read_map(path, quantity)
    known = quantity or held.quantity
    if known is None:
        raise ValueError(f"{path}: the file does not state its quantity; give quantity='disparity' or 'depth_m'")
    text = held.text
    fields = {key: text[key] for key in ("model", "licence", "version", "metres_from") if key in text}
    return Prediction(
        **{known: held.values_HW},  # type: ignore[arg-type]
        **fields,
        notes=(text["notes"],) if "notes" in text else (),
        network_size=_size(text.get("network_size")),
        projection="equirectangular" if text.get("projection") == "equirectangular" else "pinhole",
        K=held.arrays.get("K"),
        sky=held.arrays.get("sky"),
        confidence=held.arrays.get("confidence"),
    )


def _size(text: str | None) -> tuple[int, int] | None:
    """(height, width) from "width x height"."""
    if text is None:
        return None
    width, _, height = text.partition(" x ")
    return int(height), int(width)
