"""`depth-anything label`: pseudo-labels for unlabelled images."""

from __future__ import annotations

from typing import Literal

from tyro.conf import Positional

from depth_anything.cli.exits import Failed
from depth_anything.cli.options import AcceptLicense, Device, InputSize, Variant


def label(
    source: Positional[str],
    out: Positional[str],
    teacher: str = "nano",
    kind: str = "auto",
    encoding: Literal["png16", "fp16"] = "png16",
    variant: Variant = None,
    device: Device = "cpu",
    dtype: Literal["fp32", "bf16"] | None = None,
    input_size: InputSize = None,
    batch: int = 8,
    shard_size: int = 1000,
    threads: int | None = None,
    ray: str | None = None,
    accept_license: AcceptLicense = False,
) -> None:
    """Label images without ground truth: the disparity that a teacher predicts, in tar shards.

    Run the same command again to resume a run that was stopped or killed. Under torchrun the ranks share the work.

    Args:
        source: a folder of images, a .txt list, tar files (also s3://...), or the root of a set that --kind names.
        out: folder, or URL such as s3://bucket/labels, for labels/*.tar and manifest/*.json.
        teacher: a name that `depth-anything models` lists, a hub id, a checkpoint, a transformers folder.
        kind: auto, folder, list, tars; or the official layout of bdd100k, imagenet21k, landmarks, lsun, objects365,
            openimages, places365, sa1b.
        encoding: png16 (16 bits between the minimum and maximum of each map) or fp16 (half precision).
        dtype: precision of the encoder, fp32 or bf16; by default bf16 on cuda, else fp32.
        batch: largest number of images of one size in a batch.
        shard_size: images per shard, for sources that can be divided.
        threads: processor threads for the network and for decoding and encoding; by default one per core.
        ray: label on a Ray cluster: its address, auto, or local.
    """
    from depth_anything.label.jobs import LabelOptions
    from depth_anything.label.launch import label as run

    asked = LabelOptions(
        teacher=teacher,
        variant=variant,
        device=device,
        dtype=dtype or ("bf16" if device.startswith("cuda") else "fp32"),
        input_size=input_size,
        batch=batch,
        encoding=encoding,
        threads=threads,
        accept_license=accept_license,
    )
    report = run(source, out, asked, kind=kind, shard_size=shard_size, ray=ray)
    print(report)
    if report.exit_code:
        raise Failed(report.exit_code)
