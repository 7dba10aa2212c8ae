"""Fine-tuning to metres: the runs of both papers and ours for mixed ranges, as functions. No torch here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage
from depth_anything.variants import BinKind, Variant, get_variant, with_bins, with_log_head, with_max_depth


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Additional settings of a run that learns metres."""

    head: Literal["sigmoid", "bins", "log"]
    """`sigmoid`: V2. `bins`: ZoeDepth's, V1. `log`: ours, without an upper end."""
    max_depth: float
    """Upper end in metres, of the canonical camera if there is one. Truth beyond is ignored; the output of a sigmoid
    and of bounded bins ends here."""
    canonical_focal: float | None = None
    """Focal length f_c, in pixels of the network's input, of the canonical camera in whose metres the network learns
    and predicts: z_c = z f_c / f (Metric3D's label transformation). Needs intrinsics. None: metres unchanged."""
    min_depth: float = 1e-3
    """Lower end in metres. Truth below is ignored."""
    closed: bool = True
    """Whether truth equal to an end counts: yes in V2's code, no in ZoeDepth's."""
    bins: BinKind | None = None
    """Of the head `bins`."""
    loss: Literal["silog", "zoedepth_silog"] = "silog"
    """V2: sqrt(mean g^2 - 0.5 mean(g)^2). ZoeDepth: 10 sqrt(var g + 0.15 mean(g)^2)."""
    start: str
    """The relative model whose weights the run starts from: a row of `VARIANTS`, or a model of others."""
    init: Literal["encoder", "network"] = "encoder"
    """The part that starts from them. V1's paper and V2: the encoder. V1's released code: the DPT decoder, too."""
    pretrained_rate: float = 0.1
    """Learning rate of the encoder relative to the new layers. V2: 5e-6 of 5e-5. V1's released code: 1 / 50, also for
    the decoder below the new head."""
    fitted: int = 0
    """Number of training images to which the decoder's last layer is fitted before the first step (ours;
    `metric_start.fit_last`): a relative decoder predicts larger values for nearer points, metres are the opposite.
    0: no fit."""
    schedule: Literal["polynomial", "one_cycle"] = "polynomial"
    """V2: (1 - progress)^0.9. ZoeDepth: one cycle, constant for 70 %, then a cosine; the momentum runs inversely."""
    whole: bool = False
    """The whole image is resized to the network's size without keeping its aspect ratio; ground truth keeps its size
    (ZoeDepth). Otherwise a random crop at the network's size is used, as in relative training (V2)."""
    kb_crop: bool = False
    """KITTI's bottom centre of 352 x 1216 (ZoeDepth)."""
    rotation: float = 0.0
    """Largest rotation in degrees: 1 in ZoeDepth."""
    colours: float = 0.0
    """Probability of changing gamma (0.9 to 1.1), brightness and each channel (0.9 to 1.1): 0.5 in ZoeDepth."""
    brightness: float = 0.0
    """Largest change of brightness: ZoeDepth 0.25 on NYUv2, 0.1 on KITTI."""


@dataclass(frozen=True, kw_only=True)
class MetricRecipe(Recipe):
    """A run that learns metres. `variant` is the row whose sizes it has; `row` is the resulting model."""

    metric: Metric

    @property
    def row(self) -> Variant:
        """The model to train."""
        variant = get_variant(self.variant)
        variant = replace(variant, canonical_focal=self.metric.canonical_focal)
        match self.metric.head:
            case "bins":
                assert self.metric.bins is not None
                return with_bins(variant, self.metric.bins)
            case "log":
                return with_log_head(variant)
            case _:
                return with_max_depth(variant, self.metric.max_depth)


def v1_metric(data: str, init: Literal["encoder", "network"] = "network") -> MetricRecipe:
    """V1 section 4.3 in ZoeDepth's framework: 5 epochs of NYUv2 (24,231) or KITTI (23,158), batch 16.

    The sizes are those of the paper, with 384 x 768 rounded to multiples of 14. KITTI has ZoeDepth's bounded bins, as
    in the configuration for this size (the released file was trained differently: docs/metric.md). The released code
    initialises encoder and decoder from the relative model; the paper (`...-paper`) only the encoder, for which
    DINOv2's weights are possible, too (V1 Table 10).
    """
    images, size, metres, brightness = {
        "nyu": (24_231, (392, 518), 10.0, 0.25),
        "kitti": (23_158, (378, 770), 80.0, 0.1),
    }[data]
    return MetricRecipe(
        name=f"v1-metric-{data}-large" + ("-paper" if init == "encoder" else ""),
        variant=f"v1-metric-{data}-large",
        data=("nyuv2" if data == "nyu" else data,),
        stages=(Stage(samples=5 * images, sizes=(size,), batch=16),),
        learning_rate=1.61e-4,
        from_backbone=False,
        weight_decay=0.01,
        clip=0.1,
        precision="float32",
        metric=Metric(
            head="bins",
            bins="softplus" if data == "nyu" else "normed",
            max_depth=metres,
            closed=False,
            loss="zoedepth_silog",
            start="v1-large",
            init=init,
            pretrained_rate=1 / 50,
            schedule="one_cycle",
            whole=True,
            kb_crop=data == "kitti",
            rotation=1.0,
            colours=0.5,
            brightness=brightness,
        ),
    )


V2_METRIC_EPOCHS = 120
"""Of the released script (its arguments default to 40)."""


def v1_metric_midas(data: str) -> MetricRecipe:
    """V1 Tables 10 and 11, first row: the same fine-tuning from MiDaS 3.1's encoder, a BEiT-L.

    The paper prints ZoeDepth's numbers there; its settings for this row are unknown. Here they are those of the others.
    """
    recipe, row = v1_metric(data, "encoder"), f"v1-metric-{data}-midas-large"
    start = "Intel/dpt-beit-large-512"
    return replace(recipe, name=row, variant=row, metric=replace(recipe.metric, start=start))


def v2_metric(place: str, size: str) -> MetricRecipe:
    """V2's metric models: the encoder of the relative student, a new decoder with a sigmoid, SILog, 120 epochs of 32.

    Indoor: Hypersim's 59,543 training images, 20 m. Outdoor: Virtual KITTI 2, 19,559 in the authors' list, 80 m.
    """
    data, images, metres = {"indoor": ("hypersim", 59_543, 20.0), "outdoor": ("vkitti2", 19_559, 80.0)}[place]
    return MetricRecipe(
        name=f"v2-metric-{place}-{size}",
        variant=f"v2-metric-{place}-{size}",
        data=(data,),
        stages=(Stage(samples=V2_METRIC_EPOCHS * images, sizes=SQUARE_518, batch=32),),
        learning_rate=5e-5,
        from_backbone=False,
        weight_decay=0.01,
        clip=float("inf"),
        precision="float32",
        metric=Metric(head="sigmoid", max_depth=metres, start=f"v2-{size}"),
    )


def v2_metric_mixed(size: str) -> MetricRecipe:
    """Ours, in no paper: both of V2's metric sets in one model, whose head predicts the logarithm of metres.

    A sigmoid times 80 m leaves little of its range for a room; a logarithm has the same resolution at every distance.
    """
    indoor, outdoor = v2_metric("indoor", size), v2_metric("outdoor", size)
    return replace(
        indoor,
        name=f"v2-metric-mixed-{size}",
        variant=f"v2-{size}",
        data=(*indoor.data, *outdoor.data),
        stages=(replace(indoor.stages[0], samples=indoor.stages[0].samples + outdoor.stages[0].samples),),
        metric=replace(indoor.metric, head="log", max_depth=outdoor.metric.max_depth),
    )


def nano_metric(head: Literal["sigmoid", "log"] = "sigmoid") -> MetricRecipe:
    """Ours: nano fine-tuned to metres on rendered rooms and landscapes; minutes on two cores.

    Crops have the whole shorter side of the image, at the input size of nano, because metres depend on the zoom.
    """
    return MetricRecipe(
        name="nano-metric" if head == "sigmoid" else f"nano-metric-{head}",
        variant="nano",
        data=("scenes",),
        stages=(Stage(samples=8_000, sizes=((224, 224),), batch=32),),
        learning_rate=1e-3,
        from_backbone=False,
        weight_decay=0.05,
        perturbation="camera",
        scenes=2_048,
        validation_scenes=128,
        metric=Metric(head=head, max_depth=80.0, start="nano", init="network", pretrained_rate=1.0, fitted=64),
    )


METRIC_RECIPES: dict[str, Callable[[], MetricRecipe]] = {
    "nano-metric": nano_metric,
    "nano-metric-log": partial(nano_metric, "log"),
    **{f"v1-metric-{data}-large": partial(v1_metric, data) for data in ("nyu", "kitti")},
    **{f"v1-metric-{data}-large-paper": partial(v1_metric, data, "encoder") for data in ("nyu", "kitti")},
    **{f"v1-metric-{data}-midas-large": partial(v1_metric_midas, data) for data in ("nyu", "kitti")},
    **{
        f"v2-metric-{place}-{size}": partial(v2_metric, place, size)
        for place in ("indoor", "outdoor")
        for size in ("small", "base", "large")
    },
    **{f"v2-metric-mixed-{size}": partial(v2_metric_mixed, size) for size in ("small", "base", "large")},
}
