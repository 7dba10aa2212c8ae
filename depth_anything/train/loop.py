"""THE loop: resume, then step, log, validate, save until the recipe is done."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything.data.benchmarks.case import Truth
from depth_anything.evaluate.protocol import PAIRS, Cut
from depth_anything.evaluate.score import TooFewPixels, align, score
from depth_anything.files import atomic_path
from depth_anything.model import DepthAnything
from depth_anything.preprocess import network_size, resize_back, to_tensor
from depth_anything.train.batches import Samples, batches
from depth_anything.train.checkpoint import Run
from depth_anything.train.recipes import Recipe
from depth_anything.train.teacher import teacher_losses

LOG = logging.getLogger(__name__)
CURVE_FILE = "curve.jsonl"
VALIDATION_SIZE = 168
"""Shorter side of the held-out pictures at the network's input: cheap, and the same in every run."""


def train(
    recipe: Recipe,
    out: str | Path,
    training: Samples,
    validation: Samples | None = None,
    backbone: dict[str, Tensor] | None = None,
    log_every: int = 50,
    validate_every: int = 1000,
    save_seconds: float = 300.0,
) -> DepthAnything:
    """Carry out a recipe and answer the trained model (the running mean of the weights, where the recipe keeps one).

    `out` receives recipe.json, curve.jsonl (a line for each log and validation), state.pt (to go on from) and at the
    end final.safetensors. Run again after any interruption, it goes on from state.pt: on the same machine with the same
    threads the final weights are those of a run that was never interrupted.

    Args:
        training, validation: labelled pictures by number.
        backbone: the encoder's start, where the recipe wants one (`checkpoints.load_backbone`).
        log_every, validate_every: in steps.
        save_seconds: wall clock between two writes of state.pt.

    Raises:
        ValueError: no pictures, no backbone where one is needed, `out` holds another recipe, or the loss is not finite.
    """
    if not len(training):
        raise ValueError(f"{recipe.name}: there are no pictures to train on")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    run = start(recipe, backbone)
    if run.resume(out):
        LOG.info("going on after step %d of %d", run.step, recipe.steps)
    recipe.save(out / "recipe.json")
    curve = Curve(out / CURVE_FILE, run.step)

    run.model.train()
    meter, saved = Meter(), time.monotonic()
    with stop_signals() as asked:
        for batch in batches(recipe, training, run.step):
            began = time.monotonic()
            stage, seen = recipe.stage_of(run.step)
            rate = set_rate(run, seen)
            losses = teacher_losses(run.model, batch, recipe, stage)
            if not torch.isfinite(losses.total):
                loss = losses.total.item()
                raise ValueError(f"the loss is {loss} at step {run.step}: lower the learning rate or look at the data")
            run.optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            nn.utils.clip_grad_norm_(run.model.parameters(), recipe.clip)
            run.optimizer.step()
            run.step += 1
            update_average(run)
            run.seconds += time.monotonic() - began
            meter.add(stage.batch, losses.parts)

            if run.step % log_every == 0 or run.step == recipe.steps:
                about = {"step": run.step, "samples": seen + stage.batch, "seconds": round(run.seconds), "rate": rate}
                curve.add(about | meter.means())
                meter = Meter()
            if validation is not None and (run.step % validate_every == 0 or run.step == recipe.steps):
                curve.add({"step": run.step, **validate(averaged_model(run), validation)})
            if time.monotonic() - saved > save_seconds or run.step == recipe.steps or asked.is_set():
                run.save(out)
                saved = time.monotonic()
            if asked.is_set() and run.step < recipe.steps:
                raise KeyboardInterrupt(f"stopped and saved after step {run.step} of {recipe.steps}")

    model = averaged_model(run)
    save_final(model, out)
    return model


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a run ends behind a whole step; a second signal ends it at once."""
    asked = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(recipe: Recipe, backbone: dict[str, Tensor] | None) -> Run:
    """Step 0: weights from the seed, the encoder from `backbone` where the recipe wants one, AdamW."""
    torch.manual_seed(recipe.seed)
    model = DepthAnything(recipe.variant)
    if recipe.from_backbone:
        if backbone is None:
            raise ValueError(f"{recipe.name} starts from a DINOv2 encoder: give its file")
        model.pretrained.load_state_dict(backbone)
    # The last ReLU answers 0 everywhere, and learns nothing, where random weights happen to start below it.
    last = model.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    average = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return Run(recipe, model, torch.optim.AdamW(groups(model, recipe), betas=recipe.betas), average)


def groups(model: DepthAnything, recipe: Recipe) -> list[dict]:
    """AdamW's groups: encoder and decoder at their own rates, decay on weight matrices only."""
    result = []
    for part, share in ((model.pretrained, recipe.encoder_rate), (model.depth_head, 1.0)):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in part.named_parameters()
                if (parameter.ndim > 1 and not name.endswith(("_token", "pos_embed"))) == decayed
            ]
            decay = recipe.weight_decay if decayed else 0.0
            result.append({"params": chosen, "share": share, "weight_decay": decay, "lr": 0.0})
    return result


def set_rate(run: Run, seen: int) -> float:
    """The decoder's learning rate after `seen` pictures: up over the warm-up, then down to 0 in a straight line."""
    recipe = run.recipe
    total = sum(stage.steps * stage.batch for stage in recipe.stages)
    stage, _ = recipe.stage_of(run.step)
    rising = (seen + stage.batch) / recipe.warmup if seen < recipe.warmup else 1.0
    rate = recipe.learning_rate * min(rising, 1.0) * (1 - seen / total)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def update_average(run: Run) -> None:
    """Move the running mean towards the weights; faster at first, so that the random start is forgotten."""
    decay = min(run.recipe.ema, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        state = run.model.state_dict()
        torch._foreach_lerp_([run.average[key] for key in state], list(state.values()), 1 - decay)


def averaged_model(run: Run) -> DepthAnything:
    """A model of its own with the running mean of the weights, in evaluation mode."""
    model = DepthAnything(run.recipe.variant)
    model.load_state_dict(run.average)
    return model.eval()


@torch.inference_mode()
def validate(model: DepthAnything, samples: Samples) -> dict[str, float]:
    """Mean AbsRel and delta1 over held-out pictures, sky left out, after least squares (protocol `pairs`)."""
    scores = []
    for number in range(len(samples)):
        sample = samples[number]
        height, width = sample.disparity_HW.shape
        image_13HW = to_tensor(sample.image_HW3, network_size(height, width, VALIDATION_SIZE))
        map_HW = resize_back(model(image_13HW), (height, width), model.variant.align_corners_back)[0].numpy()
        known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
        depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros_like(sample.disparity_HW), where=known_HW)
        truth = Truth(depth_HW, known_HW, "relative_depth")
        try:
            scores.append(score(align(map_HW, "disparity", truth, PAIRS, Cut()), ("abs_rel", "delta1")))
        except TooFewPixels:
            continue
    return {name: float(np.mean([one[name] for one in scores])) for name in ("abs_rel", "delta1")} if scores else {}


def save_final(model: DepthAnything, out: Path) -> None:
    """The released weights: official keys, safetensors, our metadata."""
    from depth_anything.checkpoints import save

    with atomic_path(out / "final.safetensors") as temporary:
        save(model, temporary)


class Meter:
    """Speed and mean loss parts over the steps that were added."""

    def __init__(self):
        self.began, self.pictures = time.monotonic(), 0
        self.values: dict[str, list[Tensor]] = {}

    def add(self, pictures: int, parts: dict[str, Tensor]) -> None:
        self.pictures += pictures
        for name, value in parts.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """Images per second and each part's mean over the steps that had it."""
        speed = self.pictures / (time.monotonic() - self.began)
        return {"images_per_second": speed, **{name: torch.stack(v).mean().item() for name, v in self.values.items()}}


class Curve:
    """curve.jsonl: what was logged, up to the step that the run goes on from; every line also goes to the log."""

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(kept))

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]

    def add(self, entry: dict) -> None:
        LOG.info("  ".join(f"{name} {value:.5g}" for name, value in entry.items()))
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
