"""A plan in words and numbers, for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything.train.plan_figures import GIB, RESERVE, Layout, Plan, data_images

if TYPE_CHECKING:
    from depth_anything.train.missing import Given

PHOTO_BYTES, SA1B_BYTES = 0.1e6, 1.0e6
"""Of a JPEG; of one in SA-1B (docs/scale.md)."""
LABEL_BYTES = 470e3
"""Of a stored map of 518 x 686 with its json (docs/scale.md)."""
SAMPLED = 1000
"""Files of a folder whose mean size is taken."""


def lines(plan: Plan, given: Given, lacking: list[str]) -> Iterator[str]:
    """The whole plan, line by line."""
    recipe = plan.recipe
    stages = f"{len(recipe.stages)} stages, " if len(recipe.stages) > 1 else ""
    batches = " / ".join(f"{batch}" for batch in dict.fromkeys(stage.batch for stage in recipe.stages))
    images = recipe.seen(recipe.steps)
    yield f"{recipe.name}: {recipe.variant}, {stages}{recipe.steps:,} steps of {batches} images, {images:,} images"
    yield ""
    yield "parameters"
    for name, count in plan.parameters.items():
        yield f"  {name:<32}{count / 1e6:10.1f} M"
    yield ""
    yield from memory(plan)
    yield ""
    yield from time(plan)
    yield ""
    yield from data(plan, given)
    yield ""
    yield "files"
    yield f"  {'a state':<36}{plan.state_bytes / 1e9:10.2f} GB"
    keep = f"--keep {plan.keep}, while one more is written"
    yield f"  {keep:<36}{(plan.keep + 1) * plan.state_bytes / 1e9:10.2f} GB"
    yield f"  {'final.safetensors':<36}{plan.final_bytes / 1e9:10.2f} GB"
    yield ""
    yield "missing" if lacking else "nothing is missing"
    for line in lacking:
        yield f"  {line}"


def memory(plan: Plan) -> Iterator[str]:
    """Each layout: activations, slices, the peak."""
    yield (
        f"memory of each of {plan.devices} device{'s' * (plan.devices > 1)} with {plan.device_memory:g} GiB, "
        f"{RESERVE:.0%} of which stay free"
    )
    yield f"  {'options':<24}{'GiB an image':>14}{'images a slice':>16}{'--accumulate':>14}{'peak, GiB':>11}"
    for one in plan.layouts:
        fits = one.accumulate is not None
        accumulate = str(one.accumulate) if fits else "too large"
        images, peak = f"{one.slice_images}", f"{one.peak_bytes / GIB:.1f}"
        yield f"  {one.name:<24}{one.image_bytes / GIB:>14.2f}{images:>16}{accumulate:>14}{peak:>11}"


def time(plan: Plan) -> Iterator[str]:
    """Speed and days, and what they rest on."""
    layout = plan.chosen
    if layout is None:
        yield "time: no layout fits; use more devices with --shard, or devices with more memory"
        return
    yield f"time with {options(layout)}"
    if plan.rate is None or plan.days is None:
        yield f"  not known: {plan.rate_basis}"
        return
    yield f"  {'images per second and device':<32}{plan.rate:10.1f}"
    days = plan.days
    yield f"  {'all steps':<32}" + (f"{days:10.1f} days" if days >= 1 else f"{24 * days:10.1f} hours")
    yield f"  rests on: {plan.rate_basis}"
    yield "  not counted: waits for data and for other devices, validation, interruptions"


def options(layout: Layout) -> str:
    """Of the command line."""
    words = [f"--accumulate {layout.accumulate}"] if (layout.accumulate or 1) > 1 else []
    return " ".join(words + [layout.name] * (layout.name != "neither")) or "the defaults"


def data(plan: Plan, given: Given) -> Iterator[str]:
    """Images and bytes that are read."""
    recipe = plan.recipe
    labeled, unlabeled = data_images(recipe)
    yield "data read in the whole run"
    if labeled:
        sizes = [size for name in recipe.data if (size := mean_file_bytes(given.folders.get(name)))]
        told = "size not known without the sets"
        if sizes:  # an image and its ground truth
            told = f"{2 * sum(sizes) / len(sizes) * labeled / 1e12:.2f} TB, from files of the sets that are there"
        yield f"  {'labelled images':<32}{labeled:>14,}  {told}"
    if unlabeled:
        assert recipe.unlabeled is not None
        names = recipe.unlabeled.data
        each = sum(SA1B_BYTES if name == "sa1b" else PHOTO_BYTES for name in names) / len(names)
        what = f"JPEGs of {each / 1e6:.2f} MB on average"
        if given.teacher is None:
            each, what = each + LABEL_BYTES, f"{what} and maps of {LABEL_BYTES / 1e6:.2f} MB"
        total = f"about {each * unlabeled / 1e12:.2f} TB"
        yield f"  {'unlabelled images':<32}{unlabeled:>14,}  {total}: {what} (docs/scale.md)"


def mean_file_bytes(folder: str | None) -> float | None:
    """Of the first files below a folder; None where there are none."""
    if folder is None or not Path(folder).is_dir():
        return None
    sizes = []
    for path in Path(folder).rglob("*"):
        if path.is_file():
            sizes.append(path.stat().st_size)
        if len(sizes) == SAMPLED:
            break
    return sum(sizes) / len(sizes) if sizes else None
