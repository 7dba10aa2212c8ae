"""V1's metric head: ZoeDepth's adaptive bins on our decoder (V1 section 4.3; Bhat et al. 2023, section 3).

Every pixel has 64 depths, the centres of its bins. They are initialised from the decoder's bottleneck, and each of the
four fusion stages, from coarse to fine, moves them towards attractors. The depth is their mean under a binomial
distribution over the bins, which is computed at full size. Attribute names are those of the released checkpoints,
without the prefix `core.core.` of the relative network.

Shapes: B batch, H W pixels, h w size of a stage, F features of the decoder, K bins, A attractors, E embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything.network.dpt import HEAD_CHANNELS, Stages
from depth_anything.variants import BinKind

BINS = 64
EMBEDDING = 128
SEED_HIDDEN = 256
ATTRACTORS = (16, 8, 4, 1)
"""Number of attractors, from the coarsest stage to the finest."""
ATTRACTION = 300.0
"""alpha of the attraction. The released configuration states 1000, but the released code does not use it: it computes
with 300, and so were the weights trained."""
NEAREST_M = 1e-3
"""Lower end of bounded bins, in metres."""
SMALLEST_WIDTH = 1e-3
"""Added to the width of a bounded bin, and to a bounded attractor."""
SMALLEST_SHARE = 1e-4
"""Added to both numbers of a pair before their ratio is computed; also the smallest probability."""
TEMPERATURES = (0.0212, 50.0)


class PixelMlp(nn.Module):
    """Two 1x1 convolutions with ReLU between them."""

    def __init__(self, channels: int, hidden: int, out: int, last: nn.Module | None = None):
        super().__init__()
        layers = [nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out, 1)]
        self._net = nn.Sequential(*layers, *([] if last is None else [last]))

    def forward(self, x_BChw: Tensor) -> Tensor:
        return self._net(x_BChw)


def log_binomial(success_B1HW: Tensor, temperature_B1HW: Tensor) -> Tensor:
    """Probabilities (B, K, H, W) of the bins under a binomial distribution with a temperature.

    softmax over k of (log C(K - 1, k) + k log p + (K - 1 - k) log(1 - p)) / t.
    """
    k = torch.arange(BINS, device=success_B1HW.device, dtype=success_B1HW.dtype).view(1, -1, 1, 1)
    most = k[:, -1:]
    log_p = success_B1HW.clamp(min=SMALLEST_SHARE, max=1.0).log()
    log_q = (1 - success_B1HW).clamp(min=SMALLEST_SHARE, max=1.0).log()
    logits_BKHW = log_binomial_coefficient(most, k) + k * log_p + (most - k) * log_q
    return torch.softmax(logits_BKHW / temperature_B1HW, dim=1)


class ConditionalLogBinomial(nn.Module):
    """A distribution over the bins for every pixel, from the decoder's last features and the finest embedding."""

    def __init__(self, channels: int):
        super().__init__()
        joined = channels + EMBEDDING
        self.mlp = nn.Sequential(
            nn.Conv2d(joined, joined // 2, 1), nn.GELU(), nn.Conv2d(joined // 2, 4, 1), nn.Softplus()
        )

    def forward(self, features_BCHW: Tensor, embedding_BEHW: Tensor) -> Tensor:
        pairs_B4HW = self.mlp(torch.cat([features_BCHW, embedding_BEHW], dim=1)).float() + SMALLEST_SHARE
        success_B1HW, share_B1HW = first_share(pairs_B4HW[:, :2]), first_share(pairs_B4HW[:, 2:])
        low, high = TEMPERATURES
        return log_binomial(success_B1HW, low + (high - low) * share_B1HW)


class BinsHead(nn.Module):
    """Depth in metres from the stages of the decoder.

    Args:
        features: number of channels of the decoder's fusion stages.
        kind: `softplus`: centres are unbounded above 0. `normed`: centres lie between 1 mm and `max_depth`.
        max_depth: upper end in metres; used by bounded centres only.
    """

    def __init__(self, features: int, kind: BinKind, max_depth: float):
        super().__init__()
        self.kind, self.max_depth = kind, max_depth
        bounded = kind == "normed"
        last = nn.ReLU if bounded else nn.Softplus
        self.conv2 = nn.Conv2d(features, features, 1)
        self.seed_bin_regressor = PixelMlp(features, SEED_HIDDEN, BINS, last())
        self.seed_projector = PixelMlp(features, EMBEDDING, EMBEDDING)
        self.projectors = nn.ModuleList(PixelMlp(features, EMBEDDING, EMBEDDING) for _ in ATTRACTORS)
        # A bounded attractor has two outputs; the released code uses only the first (see `attractors_of`).
        self.attractors = nn.ModuleList(
            PixelMlp(EMBEDDING, EMBEDDING, count * (2 if bounded else 1), last()) for count in ATTRACTORS
        )
        self.conditional_log_binomial = ConditionalLogBinomial(HEAD_CHANNELS + 1)

    def forward(self, stages: Stages) -> Tensor:
        """Depth in metres (B, H, W): the mean of the centres under the distribution of the pixel."""
        bottleneck_BFhw = self.conv2(stages.bottleneck_BFhw)
        centres_BKhw = self.seed_centres(bottleneck_BFhw)
        embedding_BEhw = self.seed_projector(bottleneck_BFhw)
        for path_BFhw, projector, attractor in zip(stages.paths, self.projectors, self.attractors, strict=True):
            before_BEhw, embedding_BEhw = embedding_BEhw, projector(path_BFhw)
            points_BAhw = self.attractors_of(attractor(embedding_BEhw + enlarged(before_BEhw, embedding_BEhw)))
            centres_BKhw = attracted(enlarged(centres_BKhw, embedding_BEhw), points_BAhw)
        features_BCHW = torch.cat([stages.activation_BCHW, stages.map_B1HW], dim=1)
        share_BKHW = self.conditional_log_binomial(features_BCHW, enlarged(embedding_BEhw, features_BCHW))
        depth_BKhw = self.metres(centres_BKhw.float())
        return (share_BKHW * enlarged(depth_BKhw, features_BCHW)).sum(1)

    def seed_centres(self, bottleneck_BFhw: Tensor) -> Tensor:
        """Initial centres: metres if unbounded; ascending in 0..1 if bounded (the network then predicts widths)."""
        raw_BKhw = self.seed_bin_regressor(bottleneck_BFhw)
        return raw_BKhw if self.kind == "softplus" else centres_of_widths(raw_BKhw + SMALLEST_WIDTH)

    def attractors_of(self, raw: Tensor) -> Tensor:
        """Attractors (B, A, h, w) in the unit of the centres.

        For bounded centres, ZoeDepth's paper divides one of two outputs by their sum. The released code overwrites this
        ratio with the first output itself, and the weights were trained with that.
        """
        return raw if self.kind == "softplus" else (raw + SMALLEST_WIDTH).unflatten(1, (-1, 2))[:, :, 0]

    def metres(self, centres_BKhw: Tensor) -> Tensor:
        """Centres in metres: unchanged if unbounded, else scaled to the range, sorted and clipped."""
        if self.kind == "softplus":
            return centres_BKhw
        spread_BKhw = NEAREST_M + (self.max_depth - NEAREST_M) * centres_BKhw
        return spread_BKhw.sort(dim=1).values.clamp(NEAREST_M, self.max_depth)


def attracted(centres_BKhw: Tensor, points_BAhw: Tensor) -> Tensor:
    """ZoeDepth's inverse attractor: each centre moves by the mean over attractors of d / (1 + alpha d^2), d = a - c.

    Computed for one attractor after the other, because all at once would need K x A maps in memory.
    """
    shift_BKhw = torch.zeros_like(centres_BKhw)
    for point_Bhw in points_BAhw.unbind(1):
        d = point_Bhw[:, None] - centres_BKhw
        shift_BKhw = shift_BKhw + d / (1 + ATTRACTION * d**2)
    return centres_BKhw + shift_BKhw / points_BAhw.shape[1]


def centres_of_widths(widths_BKhw: Tensor) -> Tensor:
    """Centres of bins that divide 0..1 in proportion to `widths` (> 0)."""
    share_BKhw = widths_BKhw / widths_BKhw.sum(1, keepdim=True)
    return share_BKhw.cumsum(1) - share_BKhw / 2


def first_share(pair_B2HW: Tensor) -> Tensor:
    """The first of two positive numbers divided by their sum, (B, 1, H, W)."""
    return pair_B2HW[:, :1] / pair_B2HW.sum(1, keepdim=True)


def log_binomial_coefficient(n: Tensor, k: Tensor, epsilon: float = 1e-7) -> Tensor:
    """log C(n, k) by the leading terms of Stirling's formula (ZoeDepth): n log n - k log k - (n - k) log(n - k)."""
    n, k = n + epsilon, k + epsilon
    return n * n.log() - k * k.log() - (n - k) * (n - k + epsilon).log()


def enlarged(x_BChw: Tensor, like_BDHW: Tensor) -> Tensor:
    """Resized to the size of another map: bilinear with align_corners=True."""
    return F.interpolate(x_BChw, size=like_BDHW.shape[2:], mode="bilinear", align_corners=True)
