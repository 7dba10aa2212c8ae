"""All that a run still needs, at once, before anything is opened, rendered or downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from depth_anything.data.labeled.sets import LABELED
from depth_anything.data.manifests import MANIFEST
from depth_anything.data.unlabeled.image_shards import is_url
from depth_anything.data.unlabeled.sets import UNLABELED
from depth_anything.network.efficientnet import installed_weights
from depth_anything.system.extras import lacking
from depth_anything.train.recipes.base import MaskedRecipe, Recipe
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.variants import TRIED, VARIANTS, get_variant


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
    validation: str = "auto"
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
    parts = libraries(recipe, given), weights(recipe, given), labels(recipe, given), sets(recipe, given)
    return [line for part in (*parts, space(given, disk_bytes)) for line in part]


def libraries(recipe: Recipe, given: Given) -> Iterator[str]:
    """Those that are not installed: of the encoders, the sets, the renderer of scenes, and what finds the sky."""
    rows = [VARIANTS.get(name or "") or TRIED.get(name or "") for name in (recipe.variant, given.teacher)]
    for row in rows:
        if row and row.encoder in ("beit", "sam"):
            yield from lacking("transformers", row.name)
    named = sets_of(recipe, unlabeled=not given.pseudo_labels)
    reads: dict[str, list[str]] = {}
    for name in named:
        known = LABELED.get(name) or UNLABELED.get(name)
        if known and known.needed_library:
            reads.setdefault(known.needed_library, []).append(name)
    for library, those in reads.items():
        yield from lacking(library, f"reading {', '.join(those)}")
    if "scenes" in named and not rendered(recipe.scenes, "training", given):
        yield from lacking("mitsuba", f"rendering {recipe.scenes} scenes", ", or give --scenes FOLDER")
    watched = recipe.validation_scenes if given.validation == "on" else 0
    if watched and not rendered(watched, "held_out", given):
        yield from lacking("mitsuba", f"rendering {watched} scenes for --validation on", ", or give --scenes FOLDER")
    if by_segformer := sky_by_segformer(recipe, given):
        yield from lacking("transformers", f"SegFormer for the sky of {', '.join(by_segformer)}", ", or give --sky off")


def sets_of(recipe: Recipe, unlabeled: bool) -> list[str]:
    """The sets that are read: those with labels, and the unlabelled ones unless pseudo labels replace them."""
    named = [*recipe.data, *(recipe.minor[:1] if recipe.minor else ())] if recipe.unlabeled_share < 1 else []
    if recipe.unlabeled and recipe.unlabeled_share and unlabeled:
        named += recipe.unlabeled.data
    return list(dict.fromkeys(named))


def sky_by_segformer(recipe: Recipe, given: Given) -> list[str]:
    """The sets whose sky SegFormer finds."""
    if given.sky == "off" or isinstance(recipe, MaskedRecipe):
        return []
    labeled = sets_of(recipe, unlabeled=False)
    return [name for name in labeled if name in LABELED and LABELED[name].sky == "segformer"]


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
    """The folders of all sets but rendered scenes, and the weights of what finds the sky."""
    for name in (name for name in sets_of(recipe, unlabeled=bool(given.teacher)) if name != "scenes"):
        folder = given.folders.get(name)
        origin = f" ({LABELED[name].obtain})" if name in LABELED else ""
        if folder is None:
            yield f"the set {name}: --data {name}=FOLDER{origin}"
        elif not is_url(folder) and not (os.path.exists(folder) and (os.path.isfile(folder) or os.listdir(folder))):
            yield f"--data {name}={folder}: nothing there{origin}"
    if sky_by_segformer(recipe, given):
        yield from absent("--segformer", given.segformer)


def rendered(count: int, part: str, given: Given) -> bool:
    """Whether so many scenes are there, for `training` or `held_out`."""
    from depth_anything.data.scenes.render import finished_scenes

    scenes = given.scenes or (given.out and given.out / "scenes")
    return bool(scenes and finished_scenes(scenes / part) >= count)


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
