"""Every model of the papers, and ours, as one row each. No torch here.

A row says what the network looks like (V1 section 4.1, V2 section 6), what its number means, where its weights live, and
under which licence their owner gives them. V1 and V2 files have the same keys and shapes, so the row is what tells them
apart: V1 feeds the last four blocks to the decoder, V2 four spread ones.
"""

from dataclasses import dataclass, replace
from typing import Literal

Quantity = Literal["disparity", "depth_m"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model. Sizes are the official ones; `nano` is this repository's own member of the family."""

    name: str
    version: Literal["v1", "v2"]
    """Which paper's graph: decides the taps and the rule that resizes a map back to the picture."""
    width: int
    """Channels of a token."""
    depth: int
    """Transformer blocks."""
    heads: int
    swiglu: bool = False
    """SwiGLU instead of the GELU MLP (giant only)."""
    table_side: int = 37
    """Side of the square position table: 37 patches of 14 pixels = 518, as DINOv2 was trained."""
    taps: tuple[int, int, int, int]
    """Blocks (0-based) whose tokens the decoder reads."""
    features: int
    """Channels of the decoder's fusion stages."""
    out_channels: tuple[int, int, int, int]
    """Channels of the four reassembled maps."""
    head: Literal["linear", "sigmoid", "bins"] = "linear"
    """`linear`: ReLU, disparity. `sigmoid`: times max_depth, metres (V2 metric). `bins`: ZoeDepth head, metres (V1 metric)."""
    max_depth: float | None = None
    """Metres at the top of the range; None for a relative model."""
    align_corners_back: bool = True
    """Bilinear rule back to the picture's size: V1's script False; V2, metric and nano True."""
    input_size: int = 518
    """Lower bound of the shorter side at the network's input."""
    hub_repo: str | None = None
    """Repository on the Hugging Face hub that holds the official file."""
    hub_type: Literal["model", "space"] = "model"
    """V1's files lie in the authors' Space."""
    hub_file: str | None = None
    transformers_repo: str | None = None
    """The same weights in the transformers layout."""
    licence: str
    """As stated by the owner of the weights."""
    commercial: bool | None
    """Whether the owner clearly allows commercial use; None where nothing is stated."""
    note: str = ""

    @property
    def quantity(self) -> Quantity:
        """What the model answers: affine-invariant `disparity` or `depth_m` in metres."""
        return "disparity" if self.max_depth is None else "depth_m"

    @property
    def encoder_name(self) -> str:
        """The official short name of the encoder size: vits, vitb, vitl, vitg (nano: vitn)."""
        return {384: "vits", 768: "vitb", 1024: "vitl", 1536: "vitg"}.get(self.width, "vitn")


# width depth heads, decoder features and channels, V2 taps (recipe of both papers' released code)
SMALL = dict(width=384, depth=12, heads=6, features=64, out_channels=(48, 96, 192, 384))
BASE = dict(width=768, depth=12, heads=12, features=128, out_channels=(96, 192, 384, 768))
LARGE = dict(width=1024, depth=24, heads=16, features=256, out_channels=(256, 512, 1024, 1024))
GIANT = dict(width=1536, depth=40, heads=24, swiglu=True, features=384, out_channels=(1536, 1536, 1536, 1536))
V2_TAPS = {"small": (2, 5, 8, 11), "base": (2, 5, 8, 11), "large": (4, 11, 17, 23), "giant": (9, 19, 29, 39)}
LAST_FOUR = {"small": (8, 9, 10, 11), "base": (8, 9, 10, 11), "large": (20, 21, 22, 23)}

SIZES = {"small": SMALL, "base": BASE, "large": LARGE}
LETTER = {"small": "s", "base": "b", "large": "l"}


def _variants() -> list[Variant]:
    rows = [
        Variant(
            name="nano", version="v2", width=192, depth=6, heads=3, table_side=16, taps=(1, 2, 4, 5),
            features=48, out_channels=(32, 64, 128, 160), input_size=224,
            licence="Apache-2.0", commercial=True,
            note="bundled; trained by this repository on its own rendered scenes; for trying things",
        )
    ]  # fmt: skip
    for size, numbers in SIZES.items():
        letter = LETTER[size]
        rows.append(
            Variant(
                name=f"v1-{size}", version="v1", taps=LAST_FOUR[size], align_corners_back=False,
                hub_repo="LiheYoung/Depth-Anything", hub_type="space",
                hub_file=f"checkpoints/depth_anything_vit{letter}14.pth",
                transformers_repo=f"LiheYoung/depth-anything-{size}-hf",
                licence="Apache-2.0", commercial=True, **numbers,
            )
        )  # fmt: skip
    for size, numbers in SIZES.items():
        letter, title = LETTER[size], size.capitalize()
        small = size == "small"
        rows.append(
            Variant(
                name=f"v2-{size}", version="v2", taps=V2_TAPS[size],
                hub_repo=f"depth-anything/Depth-Anything-V2-{title}", hub_file=f"depth_anything_v2_vit{letter}.pth",
                transformers_repo=f"depth-anything/Depth-Anything-V2-{title}-hf",
                licence="Apache-2.0" if small else "CC-BY-NC-4.0", commercial=small, **numbers,
            )
        )  # fmt: skip
    rows.append(
        Variant(
            name="v2-giant", version="v2", taps=V2_TAPS["giant"], licence="CC-BY-NC-4.0", commercial=False,
            note="structure only: the authors never released these weights", **GIANT,
        )
    )  # fmt: skip
    for place, training_set, file_name, max_depth in (
        ("indoor", "Hypersim", "hypersim", 20.0),
        ("outdoor", "VKITTI", "vkitti", 80.0),
    ):
        for size, numbers in SIZES.items():
            title = size.capitalize()
            rows.append(
                Variant(
                    name=f"v2-metric-{place}-{size}", version="v2", taps=V2_TAPS[size],
                    head="sigmoid", max_depth=max_depth,
                    hub_repo=f"depth-anything/Depth-Anything-V2-Metric-{training_set}-{title}",
                    hub_file=f"depth_anything_v2_metric_{file_name}_vit{LETTER[size]}.pth",
                    transformers_repo=f"depth-anything/Depth-Anything-V2-Metric-{place.capitalize()}-{title}-hf",
                    licence="none stated", commercial=None, **numbers,
                )
            )  # fmt: skip
    for data, place, max_depth in (("nyu", "indoor", 10.0), ("kitti", "outdoor", 80.0)):
        rows.append(
            Variant(
                name=f"v1-metric-{data}-large", version="v1", taps=LAST_FOUR["large"], head="bins",
                max_depth=max_depth, align_corners_back=True,
                hub_repo="LiheYoung/Depth-Anything", hub_type="space",
                hub_file=f"checkpoints_metric_depth/depth_anything_metric_depth_{place}.pt",
                licence="Apache-2.0", commercial=True,
                note="ZoeDepth head: listed, not yet readable by this version", **LARGE,
            )
        )  # fmt: skip
    return rows


VARIANTS: dict[str, Variant] = {row.name: row for row in _variants()}


def get_variant(name: str) -> Variant:
    """The row called `name`.

    Raises:
        ValueError: no such row; the message lists the names.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown model {name!r}: expected one of {', '.join(VARIANTS)}, or the path of a checkpoint")
    return VARIANTS[name]


def with_max_depth(variant: Variant, max_depth: float) -> Variant:
    """The same sigmoid model with another range, as V2's fine-tuning code allows (`--max-depth`)."""
    return replace(variant, head="sigmoid", max_depth=max_depth)
