"""The map of an equirectangular panorama: predict overlapping perspective views, align them jointly, blend them.

A network that was trained on perspective images predicts bent walls for a whole panorama, and different values for its
left and right edges, which are one line of the scene. So it predicts perspective views, which must be aligned. Along a
ray at angle a from a view's axis, at distance r, depth is z = r cos a. An affine-invariant network predicts
d = A / z + B with different A and B for every view (V1 section 3.1), so that

    1 / r = cos a / z = s cos a d + t cos a        with s = 1 / A and t = -B / A.

The views agree in 1 / r, so s and t of all views are determined by the least disagreement, a linear least-squares
problem (`solve`). Unlike in the map of one photograph, a shift common to all views is determined, too: t cos a differs
from view to view. Only the scale of the whole panorama is free. For a metric model, t is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from depth_anything.geometry import camera, sphere
from depth_anything.geometry.sphere import View
from depth_anything.images.read import ImageSource, read_image
from depth_anything.predict.prediction import Prediction
from depth_anything.predict.predictor import Predictor

RINGS = ((1, 90.0, 0.0), (5, 26.565, 0.0), (5, -26.565, 36.0), (1, -90.0, 0.0))
"""Number of views in a ring, latitude of their centres, longitude of the first: the corners of an icosahedron."""
FOV = 100.0
"""Field of view of each view in degrees."""
COMPARED = 20_000
"""Number of directions in which the views are compared."""
PRIOR = 1e-5
"""Weight of equal scales relative to the disagreement: it determines the scale of views with a constant map."""
SHIFT_PRIOR = 1e-6
"""Weight of shifts of 0."""
_STRIP_ROWS = 64


def views() -> list[View]:
    """The views, which together cover the sphere, most of it more than once."""
    return [
        View.towards(first + 360 * index / count, latitude, FOV)
        for count, latitude, first in RINGS
        for index in range(count)
    ]


def predict_panorama(predictor: Predictor, image: ImageSource) -> Prediction:
    """The map of an equirectangular panorama: disparity or metres along the ray, as its `projection` states.

    Args:
        predictor: the model; it runs once for each of the 12 views.
        image: as for `Predictor`; the whole sphere, twice as wide as high.

    Raises:
        ValueError: the image cannot be read, or is not twice as wide as high.
    """
    image_HW3 = read_image(image)
    height, width = image_HW3.shape[:2]
    sphere.check_size(height, width)
    all_views = views()
    waiting = iter(all_views)
    predictions: list[Prediction] = []
    while some := list(islice(waiting, predictor.batch_size)):
        predictions += predictor.predict([view.image(image_HW3) for view in some])
    first = predictions[0]
    is_metric = first.quantity == "depth_m"
    K = camera.from_fov(first.width, first.height, FOV)
    maps_VNN = [prediction.with_camera(K).as_disparity() for prediction in predictions]
    aligned = align(all_views, maps_VNN, is_metric)
    inverse_HW = blend(all_views, maps_VNN, aligned, height, width, is_metric)
    note = (
        f"Blended from {len(all_views)} views of {FOV:.0f} degrees; where they overlap they differ by "
        f"{aligned.disagreement:.1%} of the map's range."
    )
    known_HW = inverse_HW > 0
    return Prediction(
        disparity=None if is_metric else inverse_HW,
        depth_m=np.where(known_HW, 1 / np.where(known_HW, inverse_HW, 1), 0) if is_metric else None,
        model=first.model,
        licence=first.licence,
        network_size=first.network_size,
        notes=(*first.notes, note),
        image=image_HW3,
        projection="equirectangular",
    )


@dataclass(frozen=True)
class Aligned:
    """Scales and shifts: along a ray, 1 / r of view i is scale[i] * cosine * map + shift[i] * cosine."""

    scale_V: np.ndarray
    """With a mean of 1."""
    shift_V: np.ndarray
    disagreement: float
    """Root mean square difference of the views from their blend, relative to its range (2nd to 98th percentile)."""


def align(all_views: list[View], maps_VNN: list[np.ndarray], is_metric: bool) -> Aligned:
    """The scales and shifts with the least disagreement of the views.

    Args:
        maps_VNN: the map of each view, larger is nearer; for a metric model 1 / metres along the axis, 0 where unknown.
        is_metric: whether shifts are 0.
    """
    rays_P3 = sphere.even_directions(COMPARED)
    seen = [look(view, map_NN, rays_P3, is_metric) for view, map_NN in zip(all_views, maps_VNN, strict=True)]
    value_VP, cosine_VP, weight_VP = (np.stack(part).astype(np.float64) for part in zip(*seen, strict=True))
    covered = value_VP[weight_VP > 0]
    spread = float(np.std(covered)) if covered.size else 0.0
    unit = spread if spread > 1e-9 * np.abs(covered).max(initial=0) else 1.0  # constant maps
    terms_VPK = np.stack([cosine_VP * value_VP / unit, cosine_VP][: 1 if is_metric else 2], axis=2)
    solution_VK = solve(terms_VPK, weight_VP)
    inverse_VP = np.einsum("vpk,vk->vp", terms_VPK, solution_VK)
    share_VP = shares(weight_VP)
    blend_P = (share_VP * inverse_VP).sum(0)
    low, high = np.percentile(blend_P, (2, 98))
    difference = float(np.sqrt((share_VP * (inverse_VP - blend_P) ** 2).sum(0).mean()))
    return Aligned(
        scale_V=solution_VK[:, 0],
        shift_V=np.zeros(len(all_views)) if is_metric else solution_VK[:, 1] * unit,
        disagreement=difference / (high - low) if high > low else 0.0,
    )


def solve(terms_VPK: np.ndarray, weight_VP: np.ndarray) -> np.ndarray:
    """Factors x (V, K) of every view that minimise the disagreement of q = terms . x with its blend.

    With the shares w of the views in the blend, which sum to 1 in each direction, the sum over views of
    w_i (q_i - blend)^2 equals the sum over all pairs of w_i w_j (q_i - q_j)^2, and so includes all overlaps. The prior
    determines factors that do not affect the disagreement (a view of the sky is constant). The mean of the first
    factors is 1.

    Args:
        terms_VPK: for each view and direction: the term of the scale, and that of the shift if there is one.
        weight_VP: 0 in directions that a view does not see.
    """
    count, directions, factors = terms_VPK.shape
    share_VP = shares(weight_VP)
    within_VKK = np.einsum("vp,vpk,vpl->vkl", share_VP, terms_VPK, terms_VPK) / directions
    blend_PX = (share_VP[..., None] * terms_VPK).transpose(1, 0, 2).reshape(directions, -1)
    matrix_XX = -blend_PX.T @ blend_PX / directions
    target_X = np.zeros(count * factors)
    for view in range(count):
        own = slice(view * factors, (view + 1) * factors)
        matrix_XX[own, own] += within_VKK[view] + np.diag([PRIOR, SHIFT_PRIOR][:factors])
        target_X[own.start] = PRIOR
    mean_X = np.zeros(count * factors)
    mean_X[::factors] = 1 / count
    system = np.block([[matrix_XX, mean_X[:, None]], [mean_X[None], np.zeros((1, 1))]])
    return np.linalg.solve(system, [*target_X, 1.0])[:-1].reshape(count, factors)


def shares(weight_VP: np.ndarray) -> np.ndarray:
    """Weights of the views, normalised to a sum of 1 in every direction that any view sees."""
    total_P = weight_VP.sum(0)
    return weight_VP / np.where(total_P > 0, total_P, 1)


def look(
    view: View, map_NN: np.ndarray, rays_P3: np.ndarray, is_metric: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a view's map along rays (P, 3), cosines to its axis, and weights, which decrease to 0 at its border and
    are 0 outside and where metres are unknown; (P,) each."""
    place_P2, cosine_P = view.locate(rays_P3)
    inside_P = (np.abs(place_P2) < 1).all(axis=-1)
    value_P, weight_P = np.zeros_like(cosine_P), np.zeros_like(cosine_P)
    place_I2 = place_P2[inside_P]
    pixel_I2 = (place_I2 + 1) / 2 * map_NN.shape[0] - 0.5
    value_P[inside_P] = sphere.bilinear(map_NN, pixel_I2[:, 0], pixel_I2[:, 1])
    weight_I = (np.cos(np.pi / 2 * place_I2) ** 2).prod(axis=1)
    if is_metric and not (map_NN > 0).all():
        known = sphere.bilinear((map_NN > 0).astype(np.float32), pixel_I2[:, 0], pixel_I2[:, 1])
        weight_I = weight_I * (known > 0.999)
    weight_P[inside_P] = weight_I
    return value_P, cosine_P, weight_P


def blend(
    all_views: list[View], maps_VNN: list[np.ndarray], aligned: Aligned, height: int, width: int, is_metric: bool
) -> np.ndarray:
    """1 / r up to a scale, float32 (H, W): the weighted mean of the aligned views; 0 where no view has metres."""
    inverse_HW = np.zeros((height, width), np.float32)
    total_HW = np.zeros((height, width), np.float32)
    rays_HW3 = sphere.directions(height, width)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        for view, map_NN, scale, shift in zip(all_views, maps_VNN, aligned.scale_V, aligned.shift_V, strict=True):
            near_hw = rays_HW3[rows] @ view.axes[2].astype(np.float32) > view.least_cosine
            if not near_hw.any():
                continue
            value_I, cosine_I, weight_I = look(view, map_NN, rays_HW3[rows][near_hw], is_metric)
            inverse_HW[rows][near_hw] += weight_I * cosine_I * (np.float32(scale) * value_I + np.float32(shift))
            total_HW[rows][near_hw] += weight_I
    return inverse_HW / np.where(total_HW > 0, total_HW, 1)
