"""Every loss of both papers as one function that names its equation.

Shapes: B images, H W pixels, N tokens, C channels. Maps are affine-invariant disparity (larger is nearer), `valid_BHW`
is bool. Everything is computed in float32 (float64 stays float64), also inside autocast. An image without information
(no valid pixel, constant ground truth) adds nothing; a batch of such images gives zero with a live graph. Means are
taken within an image first, then over the images that count, so that sparse truth weighs as much as dense truth. The
papers do not state which of the two published reductions they used."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST_SPREAD = 1e-6
"""Ground truth whose mean absolute deviation is below this is a constant."""
SMALLEST_PREDICTED_SPREAD = 1e-3
"""Smallest divisor of a prediction in V1 Eq. 3. A random network's maps have 4e-3, those of a trained one .2 and more;
of a constant map a divisor of 1e-6 makes gradients that decide the whole step."""
SMALLEST_METRES = 1e-7
"""A predicted distance of 0 counts as this in a logarithm."""
GRADIENT_SCALES = 4
"""Strides 1, 2, 4, 8 in gradient matching (MiDaS; V2 takes it over)."""
OUTLINE_RATIO = 1.1
"""Two neighbours lie on both sides of an outline if the nearer one has more than this many times the disparity of the
other; the boundary metric asks for 1.05 to 1.25."""


@dataclass(frozen=True)
class Losses:
    """The losses of a step or slice."""

    total: Tensor
    """Scalar with a graph."""
    parts: dict[str, Tensor]
    """Unweighted parts by name, for the log."""

    def times(self, weight: float) -> "Losses":
        """The losses of a slice that has `weight` times as many images as an equal division."""
        return Losses(self.total * weight, {name: part * weight for name, part in self.parts.items()})


def masked(map_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """At least float32, with 0 at invalid pixels: their values (NaN, too) affect neither results nor gradients."""
    map_BHW = map_BHW if map_BHW.dtype == torch.float64 else map_BHW.float()
    return map_BHW.masked_fill(~valid_BHW, 0)


def mean_over_valid(values_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Mean over each image's valid pixels, (B,); 0 where there are none."""
    count_B = valid_BHW.flatten(1).sum(1)
    return masked(values_BHW, valid_BHW).flatten(1).sum(1) / count_B.clamp(min=1)


def mean_over_images(values_B: Tensor, counts_B: Tensor) -> Tensor:
    """Mean over the images for which `counts_B` is true; zero if there is none."""
    return values_B.masked_fill(~counts_B, 0).sum() / counts_B.sum().clamp(min=1)


def masked_median(map_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Median over each image's valid pixels, (B,); of two middle values the lower; 0 where there is no valid pixel.

    The code that MiDaS published takes the median over mask * map, zeros of invalid pixels included. This does not.
    """
    return map_BHW.masked_fill(~valid_BHW, torch.nan).flatten(1).nanmedian(1).values.nan_to_num(0)


def shift_and_scale(map_BHW: Tensor, valid_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """V1 Eq. 2: median t and mean absolute deviation s of each image, both (B,). Gradients flow through both."""
    shift_B = masked_median(map_BHW, valid_BHW)
    return shift_B, mean_over_valid((map_BHW - shift_B[:, None, None]).abs(), valid_BHW)


def normalised(map_BHW: Tensor, valid_BHW: Tensor, smallest: float = SMALLEST_SPREAD) -> Tensor:
    """V1 Eq. 3: (map - t) / s, with s not below `smallest`."""
    shift_B, scale_B = shift_and_scale(map_BHW, valid_BHW)
    return (map_BHW - shift_B[:, None, None]) / scale_B.clamp(min=smallest)[:, None, None]


def has_spread(target_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Bool (B,): images whose ground truth is not constant over its valid pixels; only these train an affine-invariant
    map.

    True for NaN at a valid pixel, so that it appears in the loss.
    """
    return ~(shift_and_scale(masked(target_BHW, valid_BHW), valid_BHW)[1] <= SMALLEST_SPREAD)


def affine_invariant_residual(prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Normalised prediction minus normalised truth, (B, H, W): both with their own t and s over the same pixels."""
    prediction_BHW, target_BHW = masked(prediction_BHW, valid_BHW), masked(target_BHW, valid_BHW)
    predicted_BHW = normalised(prediction_BHW, valid_BHW, SMALLEST_PREDICTED_SPREAD)
    return masked(predicted_BHW - normalised(target_BHW, valid_BHW), valid_BHW)


def gradient_matching(
    residual_BHW: Tensor, valid_BHW: Tensor, target_BHW: Tensor | None = None, outline_weight: float = 1.0
) -> Tensor:
    """L_gm of MiDaS for each image, (B,): absolute differences of neighbouring residuals, at four strides, summed.

    A difference counts where both neighbours are valid; each stride is divided by its own number of valid pixels.

    Args:
        residual_BHW: aligned or normalised prediction minus truth, never of raw predictions.
        target_BHW: ground truth, disparity without an unknown shift; only needed for another `outline_weight` than 1.
        outline_weight: ours, in no paper: a difference across an outline of the ground truth counts this many times.
            Where a network is not sure of an outline's place, the map of smallest expected absolute difference has an
            outline only if its probability is above 1 / (1 + outline_weight): with 1, above a half.
    """
    return _Differences.apply(residual_BHW, valid_BHW, target_BHW, outline_weight)


class _Differences(torch.autograd.Function):
    """`gradient_matching` with its gradient from the same pass over the strides: one map is kept for the backward pass,
    where autograd keeps two for every stride and direction and writes a whole map for every slice."""

    @staticmethod
    def forward(
        ctx: Any, residual_BHW: Tensor, valid_BHW: Tensor, target_BHW: Tensor | None, outline_weight: float
    ) -> Tensor:
        total_B = residual_BHW.new_zeros(len(residual_BHW))
        gradient_BHW = torch.zeros_like(residual_BHW) if ctx.needs_input_grad[0] else None
        for power in range(GRADIENT_SCALES):
            by_stride = np.s_[:, :: 2**power, :: 2**power]
            r, m = residual_BHW[by_stride], valid_BHW[by_stride]
            pixels_B = m.flatten(1).sum(1).clamp(min=1)
            for near, far in ((np.s_[:, :, :-1], np.s_[:, :, 1:]), (np.s_[:, :-1], np.s_[:, 1:])):
                difference = masked(r[far] - r[near], m[far] & m[near])
                if outline_weight != 1:
                    assert target_BHW is not None
                    t = target_BHW[by_stride]
                    is_outline = torch.maximum(t[far], t[near]) > OUTLINE_RATIO * torch.minimum(t[far], t[near])
                    difference = torch.where(is_outline, outline_weight * difference, difference)
                total_B += difference.abs().flatten(1).sum(1) / pixels_B
                if gradient_BHW is not None:
                    slope = difference.sign() / pixels_B[:, None, None]
                    if outline_weight != 1:
                        slope = torch.where(is_outline, outline_weight * slope, slope)
                    gradient_BHW[by_stride][far] += slope
                    gradient_BHW[by_stride][near] -= slope
        ctx.save_for_backward(gradient_BHW)
        return total_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient_B: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_BHW,) = ctx.saved_tensors
        return gradient_B[0][:, None, None] * gradient_BHW, None, None, None


def affine_invariant_pair(
    prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor, outline_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """L_ssi and L_gm of V2 from one residual: its teacher minimises the first plus twice the second.

    L_ssi is V1 Eq. 1, L_l: the mean absolute residual of the normalised maps (MiDaS' ssi-mae, without trimming). L_gm
    is MiDaS' gradient matching of the same residual; `outline_weight` is ours.
    """
    residual_BHW = affine_invariant_residual(prediction_BHW, target_BHW, valid_BHW)
    return pixel_and_gradient(residual_BHW, target_BHW, valid_BHW, outline_weight)


def pixel_and_gradient(
    residual_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor, outline_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Mean absolute residual, and gradient matching of the same residual, over the images that count."""
    counts_B = has_spread(target_BHW, valid_BHW)
    return (
        mean_over_images(mean_over_valid(residual_BHW.abs(), valid_BHW), counts_B),
        mean_over_images(gradient_matching(residual_BHW, valid_BHW, target_BHW, outline_weight), counts_B),
    )


def largest_residuals(residual_BHW: Tensor, valid_BHW: Tensor, share: float) -> Tensor:
    """Bool (B, H, W): each image's `share` of valid pixels with the largest absolute residual (floor of the count).

    None of an image in which one is NaN or infinite: that must show in the loss, not disappear as a noisy label.
    """
    size = residual_BHW.detach().abs().masked_fill(~valid_BHW, -1).flatten(1)
    drop_B1 = (valid_BHW.flatten(1).sum(1, keepdim=True) * share).long()
    drop_B1 = drop_B1 * size.isfinite().all(1, keepdim=True)
    largest_first = size.argsort(dim=1, descending=True, stable=True)
    dropped = torch.arange(size.shape[1], device=size.device) < drop_B1
    return torch.zeros_like(dropped).scatter(1, largest_first, dropped).view_as(valid_BHW)


def without_noisiest(prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor, share: float) -> Tensor:
    """V2 section 5: the mask without each pseudo-labelled image's top `share` (10 %) of loss, taken for noisy labels.

    The threshold carries no gradient. Use the mask for L_ssi and for L_gm alike (the paper speaks of the first only).
    """
    residual_BHW = affine_invariant_residual(prediction_BHW, target_BHW, valid_BHW)
    return valid_BHW & ~largest_residuals(residual_BHW, valid_BHW, share)


def cutmix_pair(
    prediction_BHW: Tensor,
    target_a_BHW: Tensor,
    target_b_BHW: Tensor,
    box_BHW: Tensor | None,
    valid_a_BHW: Tensor,
    valid_b_BHW: Tensor,
    noisiest: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """V1 Eq. 5-8, L_u, and gradient matching within the same regions under the same weights (V2's student with CutMix).

    Inside the box the pixels of image a, outside those of b; each region is normalised over its own pixels and weighted
    by its share of the image.

    Args:
        prediction_BHW: of the mixed image a * box + b * (1 - box).
        target_a_BHW, target_b_BHW: the teacher's maps of the clean, unmixed images.
        box_BHW: bool. All false, or None, means no CutMix: then this is the plain pair with b; None is faster.
        noisiest: share of each region's pixels, those of largest loss, that are left out (`without_noisiest`).
    """
    pixel_B = torch.zeros(len(valid_b_BHW), device=valid_b_BHW.device)
    matching_B, counts_B = pixel_B, pixel_B > 0
    if box_BHW is None:
        regions = [(target_b_BHW, torch.ones_like(valid_b_BHW), valid_b_BHW)]
    else:
        regions = [(target_a_BHW, box_BHW, valid_a_BHW), (target_b_BHW, ~box_BHW, valid_b_BHW)]
    for target_BHW, region_BHW, valid_BHW in regions:
        share_B = region_BHW.flatten(1).float().mean(1)
        inside_BHW = region_BHW & valid_BHW
        if noisiest:
            inside_BHW = without_noisiest(prediction_BHW, target_BHW, inside_BHW, noisiest)
        spread_B = has_spread(target_BHW, inside_BHW)
        residual_BHW = affine_invariant_residual(prediction_BHW, target_BHW, inside_BHW)
        weight_B = share_B.masked_fill(~spread_B, 0)
        pixel_B = pixel_B + weight_B * mean_over_valid(residual_BHW.abs(), inside_BHW)
        matching_B = matching_B + weight_B * gradient_matching(residual_BHW, inside_BHW)
        counts_B = counts_B | spread_B
    return mean_over_images(pixel_B, counts_B), mean_over_images(matching_B, counts_B)


def feature_alignment_loss(student_BNC: Tensor, frozen_BNC: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """V1 Eq. 9, L_feat: one minus the mean cosine of an image's patch tokens with a frozen encoder's, over the images.

    Tokens whose cosine is above the tolerance margin alpha are excluded, and carry no gradient. An image in which none
    remains has the loss 0: it is where it should be.

    Returns:
        The loss (with a live graph) and the share of tokens that remained.
    """
    cosine_BN = F.cosine_similarity(student_BNC.float(), frozen_BNC.float(), dim=-1)
    kept_BN = cosine_BN.detach() <= margin
    loss_B = (1 - cosine_BN).masked_fill(~kept_BN, 0).sum(1) / kept_BN.sum(1).clamp(min=1)
    return loss_B.mean(), kept_BN.float().mean()


def range_normalised_residual(prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Ours, in no paper: the prediction minus ground truth that is scaled to 0..1 between its 2nd and 98th percentiles.

    Unlike in V1 Eq. 1 the prediction is not normalised, so its scale is learned, too: from random weights, training
    was about three times faster (docs/log.md). Scaled ground truth is clipped at 2, for the nearest pixels.
    """
    p, g = masked(prediction_BHW, valid_BHW), masked(target_BHW, valid_BHW)
    count_B1 = valid_BHW.flatten(1).sum(1, keepdim=True)
    ordered = g.masked_fill(~valid_BHW, torch.inf).flatten(1).sort(1).values
    low_B1, high_B1 = (ordered.gather(1, ((count_B1 - 1).clamp(min=0) * part).long()) for part in (0.02, 0.98))
    span_B1 = (high_B1 - low_B1).clamp(min=SMALLEST_SPREAD)
    target = ((g - low_B1[:, :, None]) / span_B1[:, :, None]).clamp(max=2)
    return masked(p - target, valid_BHW)


def range_normalised_loss(
    prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor, outline_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Ours: mean absolute range-normalised residual, and gradient matching on the same residual."""
    residual_BHW = range_normalised_residual(prediction_BHW, target_BHW, valid_BHW)
    return pixel_and_gradient(residual_BHW, target_BHW, valid_BHW, outline_weight)


def silog_loss(prediction_BHW: Tensor, depth_BHW: Tensor, valid_BHW: Tensor, variance_weight: float = 0.5) -> Tensor:
    """V2's SILog for metres: sqrt(mean g^2 - 0.5 mean(g)^2), g = log depth - log prediction, over all valid pixels."""
    g = log_ratio(prediction_BHW, depth_BHW, valid_BHW, 0.0)
    return torch.sqrt(((g**2).mean() - variance_weight * g.mean() ** 2).clamp(min=1e-12)) if len(g) else g.sum()


def zoedepth_silog_loss(prediction_BHW: Tensor, depth_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """ZoeDepth's SILog for metres (V1 metric): 10 sqrt(var g + 0.15 mean(g)^2), unbiased variance."""
    g = log_ratio(prediction_BHW, depth_BHW, valid_BHW, 1e-7)
    return 10 * torch.sqrt((g.var() + 0.15 * g.mean() ** 2).clamp(min=1e-12)) if len(g) > 1 else g.sum() * 0


def log_ratio(prediction_BHW: Tensor, depth_BHW: Tensor, valid_BHW: Tensor, epsilon: float) -> Tensor:
    """log(depth) - log(prediction) at the valid pixels, flat, in float32: a sigmoid underflows in half precision.

    Predictions count as `SMALLEST_METRES` at least.
    """
    p, d = (x[valid_BHW] if x.dtype == torch.float64 else x[valid_BHW].float() for x in (prediction_BHW, depth_BHW))
    return torch.log(d + epsilon) - torch.log(p.clamp(min=SMALLEST_METRES) + epsilon)
