"""The runs of V1's segmenters for ADE20K and Cityscapes, and ours for nano on rendered scenes. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from depth_anything.system.words import one_of


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """All that decides the weights of a segmenter, besides the data and the machine. Values: V1 semseg/."""

    name: str
    variant: str
    """Row of `VARIANTS` whose encoder is used."""
    data: Literal["ade20k", "cityscapes", "scenes"]
    classes: int
    head: Literal["mask2former", "linear"] = "mask2former"
    frozen: bool = False
    """Leave the encoder as it is (linear probe)."""
    queries: int = 200
    crop: int = 896
    stride: int = 426
    """Between windows at inference: 426 on ADE20K, 518 on Cityscapes."""
    edges: tuple[float, float] = (0.5, 2.0)
    """The shorter side before the crop, as shares of it; in steps of a tenth."""
    most: float = 0.75
    """Largest share of one class in a window."""
    steps: int
    batch: int = 16
    """Images of a step: 16 GPUs with one each."""
    learning_rate: float = 3e-5
    encoder_rate: float = 0.1
    """The encoder's share: 3e-6."""
    weight_decay: float = 0.05
    """None on norms, biases of norms, positions, queries and levels."""
    clip: float = 0.01
    """Largest norm of a step's gradient."""
    warmup: int = 1500
    """Steps in which the rate rises in a line from a millionth of itself."""
    seed: int = 0

    def __post_init__(self):
        if min(self.steps, self.batch) < 1 or self.seed < 0:
            raise ValueError(f"{self.steps} steps of {self.batch}, seed {self.seed}: expected 1, 1 and 0, or more")

    @property
    def short_edges(self) -> tuple[int, ...]:
        """Lengths that the shorter side may take: int(crop x 0.1 x k), k = 5 to 20."""
        first, last = (round(10 * edge) for edge in self.edges)
        return tuple(int(tenth * 0.1 * self.crop) for tenth in range(first, last + 1))

    def seen(self, steps: int) -> int:
        """Images of the first `steps` steps."""
        return steps * self.batch


def ade20k(size: str) -> SegmentationRecipe:
    """V1 Table 8: 150 classes, 160,000 steps. The authors trained large only."""
    return SegmentationRecipe(name=f"ade20k-{size}", variant=f"v1-{size}", data="ade20k", classes=150, steps=160_000)


def cityscapes(size: str) -> SegmentationRecipe:
    """V1 Table 7: 19 classes, 80,000 steps. V2 Table 8: the same from V2's encoder."""
    return SegmentationRecipe(
        name=f"cityscapes-{size}", variant=f"v1-{size}", data="cityscapes", classes=19, steps=80_000, stride=518
    )


def with_midas(run: Callable[[str], SegmentationRecipe]) -> SegmentationRecipe:
    """V1 Tables 10 and 11, first row: the same from MiDaS 3.1's encoder (give it with --start-from)."""
    large = run("large")
    return replace(large, name=large.name.replace("large", "midas"), variant="v1-midas-large")


def linear_probe(size: str) -> SegmentationRecipe:
    """DINOv2's linear probe on ADE20K: 512 crop, 40,000 steps, AdamW 1e-3. No part of V1; values unconfirmed."""
    return SegmentationRecipe(
        name=f"ade20k-linear-{size}", variant=f"v1-{size}", data="ade20k", classes=150, head="linear", frozen=True,
        crop=518, stride=341, steps=40_000, learning_rate=1e-3, weight_decay=1e-4, clip=1.0,
    )  # fmt: skip


def nano_vit_scenes(head: Literal["mask2former", "linear"] = "linear", frozen: bool = True) -> SegmentationRecipe:
    """Ours: nano-vit's encoder on the classes of rendered scenes, in minutes of two cores."""
    return SegmentationRecipe(
        name=f"nano-vit-scenes-{head}", variant="nano-vit", data="scenes", classes=18, head=head, frozen=frozen,
        queries=50, crop=168, stride=112, edges=(1.0, 1.5), steps=400, batch=16, learning_rate=1e-3, encoder_rate=1.0,
        weight_decay=1e-4, clip=1.0, warmup=50,
    )  # fmt: skip


def nano_scenes() -> SegmentationRecipe:
    """Ours: nano's encoder under a linear head. Mask2Former reads tokens, which it has not."""
    return replace(nano_vit_scenes(), name="nano-scenes-linear", variant="nano", crop=192, stride=128)


RECIPES: dict[str, Callable[[], SegmentationRecipe]] = {
    "nano-scenes-linear": nano_scenes,
    "nano-vit-scenes-linear": nano_vit_scenes,
    "nano-vit-scenes-mask2former": partial(nano_vit_scenes, "mask2former", False),
    **{f"ade20k-{size}": partial(ade20k, size) for size in ("small", "base", "large")},
    **{f"cityscapes-{size}": partial(cityscapes, size) for size in ("small", "base", "large")},
    "ade20k-midas": partial(with_midas, ade20k),
    "cityscapes-midas": partial(with_midas, cityscapes),
    **{f"ade20k-linear-{size}": partial(linear_probe, size) for size in ("small", "base", "large")},
}


def get_recipe(name: str) -> SegmentationRecipe:
    """The recipe called `name`.

    Raises:
        ValueError: no such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown segmentation recipe {name!r}: {one_of(name, RECIPES)}")
    return RECIPES[name]()
