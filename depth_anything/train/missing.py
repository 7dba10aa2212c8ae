"""All that a run still needs, at once, before anything is opened, rendered or downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from depth_anything.data.labeled.sets import LABELED
from depth_anything.data.manifests import MANIFEST
from depth_anything.data.unlabeled.image_shards import is_url
from depth_anything.network.efficientnet import installed_weights
from depth_anything.train.recipes.base import MaskedRecipe, Recipe
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.variants import VARIANTS, get_variant


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user has named, as options of `depth-anything train`."""

    data: tuple[str, ...] = ()
    scenes: Path | None = None
    backbone: Path | None = None
    start_from: str | None = None
    teacher: str | None = None
    pseudo_labels: tuple[str, ...] = ()
    frozen: Path | None = None
    sky: str = "set"
    segformer: str | None = None
    out: Path | None = None

    @property
    def folders(self) -> dict[str, str]:
        """Those of `data`, by the set's name."""
        return {name: folder for name, _, folder in (one.partition("=") for one in self.data)}


def missing(recipe: Recipe, given: Given, disk_bytes: int = 0) -> list[str]:
    """A line for each thing that a run of the recipe lacks: what, and the option that gives it. Empty: it can start.

    Files are looked for, not read: whether weights fit and sets are complete is seen at the start.

    Args:
        disk_bytes: that the output folder must hold.
    """
    return [*weights(recipe, given), *labels(recipe, given), *sets(recipe, given), *space(given, disk_bytes)]


def weights(recipe: Recipe, given: Given) -> Iterator[str]:
    """The weights that the run starts from, and those of the frozen encoder."""
    row, starts = get_variant(recipe.variant), given.backbone or given.start_from
    found = starts
    if isinstance(recipe, MetricRecipe):
        if not starts:
            yield f"the weights to start from: --start-from {recipe.metric.start}"
    elif recipe.from_backbone and not starts:
        if row.encoder == "efficientnet":
            try:
                found = installed_weights(row)
            except ValueError as error:
                yield str(error)
        else:
            yield f"the weights of the encoder ({row.encoder}, width {row.width}): --backbone FILE"
    for option, name in (("--backbone", given.backbone), ("--start-from", given.start_from)):
        yield from absent(option, name)
    if recipe.unlabeled and recipe.unlabeled.feature_weight:
        if not (given.frozen or given.backbone or (found and row.encoder == "efficientnet")):
            yield "the frozen encoder of L_feat: --frozen FILE, or that of --backbone"
        yield from absent("--frozen", given.frozen)


def labels(recipe: Recipe, given: Given) -> Iterator[str]:
    """What labels the unlabelled images."""
    if not recipe.unlabeled_share:
        return
    assert recipe.unlabeled is not None
    if not (given.teacher or given.pseudo_labels):
        yield (
            f"labels of unlabelled images: --pseudo-labels FOLDER, which depth-anything label writes from "
            f"{', '.join(recipe.unlabeled.data)}; or --teacher MODEL ({recipe.unlabeled.teacher}) with --data for each"
        )
    yield from absent("--teacher", given.teacher)
    for folder in given.pseudo_labels:
        manifest = Path(folder) / MANIFEST
        if not is_url(folder) and not (manifest.is_dir() and any(manifest.iterdir())):
            yield f"--pseudo-labels {folder}: no pseudo labels there (no {MANIFEST}/)"


def sets(recipe: Recipe, given: Given) -> Iterator[str]:
    """The folders of all sets, the renderer of scenes, and what finds the sky."""
    named = [*recipe.data, *(recipe.minor[:1] if recipe.minor else ())] if recipe.unlabeled_share < 1 else []
    if recipe.unlabeled and recipe.unlabeled_share and given.teacher:
        named += recipe.unlabeled.data
    for name in (name for name in dict.fromkeys(named) if name != "scenes"):
        folder = given.folders.get(name)
        origin = f" ({LABELED[name].obtain})" if name in LABELED else ""
        if folder is None:
            yield f"the set {name}: --data {name}=FOLDER{origin}"
        elif not is_url(folder) and not (os.path.exists(folder) and (os.path.isfile(folder) or os.listdir(folder))):
            yield f"--data {name}={folder}: nothing there{origin}"
    if "scenes" in named and not rendered(recipe, given) and find_spec("mitsuba") is None:
        yield f'{recipe.scenes} rendered scenes: --scenes FOLDER, or pip install "depth-anything[render]"'
    by_segformer = [name for name in named if name in LABELED and LABELED[name].sky == "segformer"]
    if by_segformer and given.sky == "set" and not isinstance(recipe, MaskedRecipe):
        if find_spec("transformers") is None:
            told = ", ".join(by_segformer)
            yield f'SegFormer for the sky of {told}: pip install "depth-anything[transfer]", or --sky off'
        yield from absent("--segformer", given.segformer)


def rendered(recipe: Recipe, given: Given) -> bool:
    """Whether the recipe's scenes are there."""
    from depth_anything.data.scenes.render import finished_scenes

    scenes = given.scenes or (given.out and given.out / "scenes")
    return bool(scenes and finished_scenes(scenes / "training") >= recipe.scenes)


def absent(option: str, name: str | Path | None) -> Iterator[str]:
    """A file or folder that does not exist. Names of variants and of repositories on the hub are taken for what they
    are."""
    text = str(name or "")
    hub = text.count("/") == 1 and not text.startswith((".", "/", "~")) and not Path(text).suffix
    if text and text not in VARIANTS and not hub and not Path(text).exists():
        yield f"{option} {text}: no such file, and no name of a model"


def space(given: Given, disk_bytes: int) -> Iterator[str]:
    """Room for the states, where the output folder or one above it exists."""
    above = (
        next((path for path in (given.out, *given.out.absolute().parents) if path.is_dir()), None)
        if given.out
        else None
    )
    free = shutil.disk_usage(above).free if above else disk_bytes
    if free < disk_bytes:
        yield f"disk space for states in {given.out}: {disk_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
