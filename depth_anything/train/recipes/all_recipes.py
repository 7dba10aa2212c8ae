"""Every recipe by its name."""

import math
from collections.abc import Callable
from dataclasses import replace

from depth_anything.system.words import one_of
from depth_anything.train.recipes.ablations import ABLATIONS
from depth_anything.train.recipes.base import Recipe
from depth_anything.train.recipes.metric import METRIC_RECIPES
from depth_anything.train.recipes.nano import NANO_RECIPES
from depth_anything.train.recipes.nano_vit import NANO_VIT_RECIPES
from depth_anything.train.recipes.v1 import V1_RECIPES
from depth_anything.train.recipes.v2 import V2_RECIPES

RECIPES: dict[str, Callable[[], Recipe]] = {
    **NANO_RECIPES,
    **NANO_VIT_RECIPES,
    **V1_RECIPES,
    **V2_RECIPES,
    **ABLATIONS,
    **METRIC_RECIPES,
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: no such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: {one_of(name, RECIPES)}")
    return RECIPES[name]()


def shrunk(recipe: Recipe, size: float) -> Recipe:
    """A recipe with a fraction of its images, scenes and warm-up, but at least a batch of each stage, for trial runs.

    Raises:
        ValueError: the fraction is not in 0..1.
    """
    if not 0 < size <= 1:
        raise ValueError(f"--size {size}: expected a fraction of the recipe, above 0 and up to 1")
    if size == 1:
        return recipe
    return replace(
        recipe,
        stages=tuple(replace(stage, samples=max(stage.batch, round(stage.samples * size))) for stage in recipe.stages),
        warmup=round(recipe.warmup * size),
        scenes=math.ceil(recipe.scenes * size),
        validation_scenes=math.ceil(recipe.validation_scenes * size),
    )
