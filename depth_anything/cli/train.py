"""`depth-anything train`: a recipe, from its data to its weights."""

from __future__ import annotations

import sys
from pathlib import Path

from tyro.conf import Positional


def train(
    recipe: Positional[str],
    out: Positional[Path],
    scenes: Path | None = None,
    seed: int | None = None,
    processes: int | None = None,
) -> None:
    """Carry out a recipe; run again after any interruption, it goes on where it was.

    Args:
        recipe: a function of train/recipes.py, written with dashes: nano-teacher.
        out: folder for recipe.json, curve.jsonl, state.pt and at the end final.safetensors.
        scenes: folder with rendered scenes (training/, held_out/); by default OUT/scenes. What is missing is rendered.
        seed: of weights, order, crops and colours, instead of the recipe's.
        processes: workers for rendering; by default one per core.
    """
    import logging
    from dataclasses import replace

    from ..train.recipes import get_recipe
    from ..train.scenes import load_scenes

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    resolved = get_recipe(recipe)
    if seed is not None:
        resolved = replace(resolved, seed=seed)
    training, held_out = load_scenes(resolved, scenes or out / "scenes", processes)

    from ..train.loop import train as run

    run(resolved, out, training, held_out)
    print(f"{out / 'final.safetensors'}: try it with depth-anything predict PHOTO --model {out / 'final.safetensors'}")
