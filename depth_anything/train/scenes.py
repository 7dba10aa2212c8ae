"""The rendered pictures of a recipe: found, or made."""

from pathlib import Path

from depth_anything.data.labeled.scenes import PackedScenes
from depth_anything.train.recipes import Recipe

FIRST_HELD_OUT_SEED = 10_000_000
"""Held-out scenes have their seeds from here on, training scenes from 0."""


def load_scenes(recipe: Recipe, folder: str | Path, processes: int | None = None) -> tuple[PackedScenes, PackedScenes]:
    """Training and held-out pictures in `folder`/training and `folder`/held_out; missing shards are rendered first.

    Raises:
        ValueError: the recipe's data are not rendered scenes, or rendering needs something that is not installed.
    """
    from depth_anything.scenes.render import render_shards

    if recipe.data != ("scenes",):
        sets = ", ".join(recipe.data)
        raise ValueError(f"{recipe.name} needs {sets}: this version reads rendered scenes only")
    training, held_out = Path(folder) / "training", Path(folder) / "held_out"
    render_shards(training, recipe.scenes, 0, processes=processes)
    render_shards(held_out, recipe.validation_scenes, FIRST_HELD_OUT_SEED, processes=processes)
    return PackedScenes(training), PackedScenes(held_out)
