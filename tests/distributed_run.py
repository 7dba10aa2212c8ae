"""What test_faults.py starts: a run of a tiny network under FSDP2, or whole, with faults.

    distributed_run.py OUT ['{"steps": 8, "shard": true, "fault": "die", "rank": 1, "at": 3, ...}']

Each process reads RANK and WORLD_SIZE as torchrun sets them; without them there is one. `fault` happens to `rank` in
the first attempt after step `at`, once a state is saved: die (SIGKILL), stop (SIGSTOP, as a machine that hangs), full
(no file may grow beyond SMALL from then on) or room (until a save has failed).
"""

import json
import logging
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from drawn import Boxes, tiny
from tiny_models import tiny as tiny_variant

from depth_anything import variants
from depth_anything.system.files import NotWritten
from depth_anything.train import loop, steps
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, join
from depth_anything.train.saving import Saver
from depth_anything.train.sharded_checkpoint import saved_steps

SMALL = 200_000
"""Bytes: logs fit, states do not."""
OPTIONS = {
    "steps": 8,
    "shard": True,
    "keep": 2,
    "minutes": 30,
    "accumulate": 1,
    "save": 0,
    "fault": "",
    "rank": 1,
    "at": 3,
}


def recipe(count: int):
    """With a running mean of the weights; plain colours and float32 are quick."""
    variants.VARIANTS["tiny"] = tiny_variant(name="tiny")
    return replace(tiny(count), variant="tiny", precision="float32", perturbation="none", ema=0.9)


def main(out: Path, **given) -> None:
    options = OPTIONS | given
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    update, begun = steps.update, []

    def faulty(run) -> None:
        update(run)
        mine = int(os.environ.get("RANK", 0)) == options["rank"]
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        saved = (out / "state.pt").exists() or saved_steps(out)  # what must not be lost
        if not begun and mine and first and run.step >= options["at"] and saved:
            begun.append(run.step)
            happen(options["fault"])
        if options["fault"] == "room" and failed:
            limit_files(resource.RLIM_INFINITY)

    fail, failed = Saver.fail, []

    def noted(saver: Saver, failure: NotWritten) -> None:
        failed.append(failure)
        fail(saver, failure)

    Saver.fail = noted
    steps.update = faulty
    machine = Machine(shard=options["shard"], keep=options["keep"], accumulate=options["accumulate"])
    with join(minutes=options["minutes"]) as ranks:
        loop.train(
            recipe(options["steps"]), out, Data(Boxes(7)), machine=machine, ranks=ranks, save_seconds=options["save"]
        )


def happen(fault: str) -> None:
    """A fault of this process."""
    kinds = {"die": signal.SIGKILL, "stop": signal.SIGSTOP}
    if fault in kinds:
        os.kill(os.getpid(), kinds[fault])
    if fault in ("full", "room"):
        limit_files(SMALL)


def limit_files(size: int) -> None:
    """No file of this process may grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def rank(log: Path, environment: dict[str, str], out: Path, options: dict) -> None:
    """A process of its own, which writes its log to a file."""
    os.environ |= environment
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    command(out, options)


def command(out: Path, options: dict) -> None:
    """The run, with the exit codes of the command."""
    try:
        main(out, **options)
    except (OSError, ValueError) as error:  # as the command does
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stopped:
        logging.info("%s", stopped)
        sys.exit(130)


if __name__ == "__main__":
    command(Path(sys.argv[1]), json.loads(sys.argv[2]))
