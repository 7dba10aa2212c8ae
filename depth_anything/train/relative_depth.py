"""Training for disparity, of a teacher or a student: start, learning rates, images, losses, validation.

`metric.py` has functions of the same names for metres; the loop uses the module that matches its recipe.
"""

from torch import nn

from depth_anything.data.samples import Samples
from depth_anything.losses import Losses
from depth_anything.network.model import DepthAnything
from depth_anything.train.batches import Slice, labeled_batch
from depth_anything.train.initial_weights import UNREAD, start_model
from depth_anything.train.learning_rates import groups, set_rate
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.student import student_losses
from depth_anything.train.teacher import teacher_losses
from depth_anything.train.validation import validate_disparity

__all__ = ["UNREAD", "groups", "labeled_batch", "set_rate", "start_model", "step_losses", "validate"]


def step_losses(
    network: nn.Module,
    one: Slice,
    recipe: Recipe,
    stage: Stage,
    teacher: nn.Module | None,
    frozen: nn.Module | None,
) -> Losses:
    """The losses of a student if the recipe has unlabelled images, else those of a teacher."""
    if recipe.unlabeled:
        return student_losses(network, one, recipe, stage, teacher, frozen)
    assert one.labeled is not None
    return teacher_losses(network, one.labeled, recipe, stage)


def validate(model: DepthAnything, samples: Samples, recipe: Recipe) -> dict[str, float]:
    """Mean AbsRel and delta1 over held-out images after least-squares alignment (protocol `pairs`)."""
    return validate_disparity(model, samples)
