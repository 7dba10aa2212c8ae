"""The data that a recipe names: opened in the given folders, or rendered."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from depth_anything.data.labeled.rendered import PackedScenes, pack_ahead
from depth_anything.data.labeled.sets import LABELED, open_labeled
from depth_anything.data.samples import Chosen, Joined, Kept, Samples, without_labels
from depth_anything.data.sky import SEGFORMER, SkySegmenter, choose_sky
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Ranks, first_alone, opened_once
from depth_anything.train.recipes.base import MaskedRecipe, Recipe

LOG = logging.getLogger(__name__)
FIRST_HELD_OUT_SEED = 10_000_000
"""First seed of the held-out scenes; the seeds of the training scenes start at 0."""


def folders(given: Sequence[str]) -> dict[str, Path]:
    """Parse the NAME=FOLDER arguments of the command line."""
    pairs = [one.partition("=") for one in given]
    for name, _, folder in pairs:
        if not name or not folder:
            raise ValueError(f"--data {name}{folder}: expected NAME=FOLDER")
        if not Path(folder).exists():
            raise ValueError(f"--data {name}={folder}: there is no such folder")
    return {name: Path(folder) for name, _, folder in pairs}


def open_data(
    recipe: Recipe,
    roots: Mapping[str, Path],
    scenes: Path,
    pseudo_labels: Sequence[str | Path] = (),
    processes: int | None = None,
    find_sky: Callable[[str, Samples], Samples] | None = None,
    device: str = "cpu",
    validate: bool = True,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> tuple[Data, Samples | None]:
    """The training data and the held-out data of a recipe.

    Args:
        roots: the folder of each set that the recipe names, except `scenes`.
        scenes: folder of rendered scenes (training/, held_out/); missing scenes are rendered.
        pseudo_labels: folders that `depth-anything label` wrote, joined without balancing; without them the teacher
            labels the unlabelled images in every step.
        processes: worker processes for rendering.
        find_sky: handles the sky of a labelled set, given its name (`sky_by_set`); None leaves it as the files have it.
        device: device of the training; scenes are kept in its memory if there are no other data and they fit.
        validate: whether to open held-out data (`validates`).
        ranks: the processes, which call this together: the first one lists the files and renders.

    Raises:
        ValueError: the folder of a set is missing or does not have the official layout.
    """
    labeled = unlabeled = held_out = None
    if recipe.unlabeled_share > 0:
        assert recipe.unlabeled is not None
        if pseudo_labels:
            from depth_anything.data.pseudo_labels import PseudoLabels

            unlabeled = Kept(Joined([opened_once(partial(PseudoLabels, folder), ranks) for folder in pseudo_labels]))
        else:
            unlabeled = Joined([open_images(name, recipe, roots, ranks) for name in recipe.unlabeled.data])
    if recipe.unlabeled_share < 1:
        # The user's folders are checked before hours of rendering; the order of the sets is that of the recipe.
        read = open_images if isinstance(recipe, MaskedRecipe) else partial(open_set, find_sky=find_sky)
        named = (*recipe.data, *(recipe.minor[:1] if recipe.minor else ()))
        given = {name: read(name, recipe, roots, ranks) for name in named if name != "scenes"}
        sets = [
            given[name] if name in given else rendered(scenes / "training", recipe.scenes, 0, processes, ranks)
            for name in recipe.data
        ]
        if recipe.minor:
            name, share = recipe.minor
            seen = round(sum(map(len, sets)) * share / (1 - share))
            sets.append(Chosen(given[name], np.arange(seen) % len(given[name])))
        labeled = on_device(sets[0], device) if len(sets) == 1 else Joined(sets)
    if recipe.validation_scenes and validate:
        held_out = rendered(scenes / "held_out", recipe.validation_scenes, FIRST_HELD_OUT_SEED, processes, ranks)
    return Data(labeled, unlabeled), held_out


def validates(recipe: Recipe, scenes: Path, asked: str) -> bool:
    """Whether a run is watched on held-out scenes: `off`, `on`, or `auto`, where they are there or can be rendered."""
    from depth_anything.data.scenes.render import finished_scenes

    if asked == "off" or not recipe.validation_scenes:
        return False
    if asked == "on" or finished_scenes(scenes / "held_out") >= recipe.validation_scenes or find_spec("mitsuba"):
        return True
    LOG.warning(
        "no validation: Mitsuba is missing to render its scenes (extra render), and %s has none; copy held_out/ from "
        "a machine that has it, with --scenes",
        scenes,
    )
    return False


def rendered(
    folder: Path,
    count: int,
    seed: int,
    processes: int | None,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> PackedScenes:
    """Rendered scenes: from a finished rendering of at least `count` scenes with any options, else rendered now."""
    from depth_anything.data.scenes.render import finished_scenes, render_shards

    with first_alone(ranks):
        if finished_scenes(folder) < count:
            render_shards(folder, count, seed, processes=processes)
        pack_ahead(folder, processes)
    return PackedScenes(folder)


def on_device(samples: Samples, device: str) -> Samples:
    """Scenes in GPU memory if they fit into half of the free memory; otherwise the GPU waits for the CPU."""
    if not (isinstance(samples, PackedScenes) and device.startswith("cuda")):
        return samples
    import torch

    from depth_anything.data.labeled.on_device import ScenesOnDevice, bytes_of, one_size

    if not one_size(samples) or bytes_of(samples) > torch.cuda.mem_get_info(device)[0] // 2:
        return samples
    return ScenesOnDevice(samples, device)


def root_of(name: str, recipe: Recipe, roots: Mapping[str, Path]) -> Path:
    """The user's folder of a set."""
    if name not in roots:
        raise ValueError(f"{recipe.name} needs {name}: give its folder with --data {name}=FOLDER")
    return roots[name]


def open_set(
    name: str,
    recipe: Recipe,
    roots: Mapping[str, Path],
    ranks: Ranks,
    find_sky: Callable[[str, Samples], Samples] | None,
) -> Samples:
    """A labelled set with its sky."""
    samples = opened_once(partial(open_labeled, name, root_of(name, recipe, roots)), ranks)
    with first_alone(ranks):  # it may download SegFormer
        return find_sky(name, samples) if find_sky else samples


def without_sky(name: str, samples: Samples) -> Samples:
    """Mark the sky of every set as invalid."""
    return choose_sky(samples, "off")


def sky_by_set(
    cache: Path, model: str | None = None, device: str = "cpu", accept_license: bool = False
) -> Callable[[str, Samples], Samples]:
    """V1 section 3.1: sky has disparity 0. `LABELED` states the source of each set's sky: its far value, or SegFormer.

    Args:
        cache: folder for the masks, so that each image is segmented once.
        model: the SegFormer, by default `data.sky.SEGFORMER`.
    """
    found: list[SkySegmenter] = []

    def find(name: str, samples: Samples) -> Samples:
        if LABELED[name].sky == "segformer" and not found:
            found.append(SkySegmenter(model or SEGFORMER, device=device, accept_license=accept_license))
        return choose_sky(samples, LABELED[name].sky, found[0] if found else None, cache / name)

    return find


def open_images(name: str, recipe: Recipe, roots: Mapping[str, Path], ranks: Ranks) -> Samples:
    """A set of images without labels; for a labelled set, its images."""
    from depth_anything.data.unlabeled.random_access import UnlabeledImages
    from depth_anything.data.unlabeled.sets import UNLABELED, shards

    root = root_of(name, recipe, roots)
    if name in LABELED:
        return without_labels(opened_once(partial(open_labeled, name, root), ranks))
    listed = opened_once(lambda: UnlabeledImages(shards(name if name in UNLABELED else "auto", root)), ranks)
    return without_labels(listed)
