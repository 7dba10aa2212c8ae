"""Faults of long runs, with real processes: killed, hung, told to stop, without space. Nothing saved is lost."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import distributed_run
import pytest
import torch
from safetensors.torch import load_file

from depth_anything.train.sharded_checkpoint import saved_steps, step_folder

PROGRAM = Path(distributed_run.__file__)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
LONG = 900
"""Seconds: the machine may be busy."""
pytestmark = pytest.mark.slow


FORKED = multiprocessing.get_context("forkserver")
"""Processes that have imported torch when they start."""


@pytest.fixture(scope="module", autouse=True)
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONWARNINGS", "ignore")
        FORKED.set_forkserver_preload(["distributed_run", "torch.distributed.fsdp", "torch.utils.tensorboard"])
        yield


def start(processes: int, out: Path, **options) -> list[BaseProcess]:
    """The processes of a run, without torchrun to look after them; each writes its log to OUT.rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        own = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environment = {name: str(value) for name, value in own.items()}
        arguments = (out.with_suffix(f".{rank}"), environment, out, options)
        started.append(FORKED.Process(target=distributed_run.rank, args=arguments))
        started[-1].start()
    return started


def finish(started: list[BaseProcess]) -> list[int | None]:
    for process in started:
        process.join(LONG)
    return [process.exitcode for process in started]


def run(processes: int, out: Path, **options) -> str:
    """A run to its end; what the first process logged."""
    assert finish(start(processes, out, **options)) == [0] * processes, out.with_suffix(".0").read_text()
    return out.with_suffix(".0").read_text()


def torchrun(out: Path, *arguments: str, **options) -> subprocess.Popen:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    log = out.with_suffix(".log").open("w")
    return subprocess.Popen([*launch, PROGRAM, out, json.dumps(options)], env=ENVIRONMENT, stderr=log)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return all(torch.equal(a[key], b[key]) for key in a)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["gradient"] for line in (out / "curve.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """A run that nothing happens to."""
    out = tmp_path_factory.mktemp("calm") / "run"
    run(2, out)
    return out


def test_killed_while_saving_and_gone_on_with_by_as_many_by_one_and_without_parts(calm, tmp_path):
    out = tmp_path / "killed"
    started, deadline = start(2, out), time.monotonic() + LONG
    while not (saved_steps(out) and list((out / "checkpoints").glob(".*.part"))):  # one is whole, another is written
        assert time.monotonic() < deadline and started[0].is_alive()
        time.sleep(0.002)
    for process in started:
        process.kill()
    finish(started)
    for name in ("one", "whole"):
        shutil.copytree(out, tmp_path / name)
    run(2, out)
    assert same(calm, out)  # bit for bit
    assert len(saved_steps(out)) == 2 and not list((out / "checkpoints").glob(".*"))
    run(1, tmp_path / "one", accumulate=2)
    run(1, tmp_path / "whole", accumulate=2, shard=False)
    for name in ("one", "whole"):
        assert len(losses(tmp_path / name)) == len(losses(calm)) == 8
        assert max(abs(a - b) for a, b in zip(losses(calm), losses(tmp_path / name), strict=True)) < 1e-5


def test_a_state_in_one_file_is_gone_on_from_in_parts(calm, tmp_path):
    """As of a run that an earlier version began."""
    out = tmp_path / "run"
    assert finish(start(1, out, shard=False, accumulate=2, fault="die", rank=0)) == [-signal.SIGKILL]
    assert (out / "state.pt").exists() and not saved_steps(out)
    assert "resuming after step" in run(2, out)
    assert max(abs(a - b) for a, b in zip(losses(calm), losses(out), strict=True)) < 1e-5
    assert saved_steps(out)[-1] == 8


def test_torchrun_resumes_from_the_last_checkpoint_after_a_process_was_killed(calm, tmp_path):
    out = tmp_path / "run"
    assert torchrun(out, "--max-restarts=2", fault="die", at=6).wait(LONG) == 0
    assert "resuming after step" in out.with_suffix(".log").read_text()
    assert same(calm, out) and len(losses(out)) == 8


def test_a_process_that_dies_is_one_line_of_the_others(tmp_path):
    started = start(2, tmp_path / "run", fault="die")
    assert finish(started) == [1, -signal.SIGKILL]
    last = (tmp_path / "run.0").read_text().splitlines()[-1]
    assert last.startswith("error: rank 0 of 2 lost another process (") and "to resume" in last


def test_a_process_that_hangs_is_named_by_the_first(tmp_path):
    started = start(2, tmp_path / "run", fault="stop", minutes=1.5)
    assert finish(started[:1]) == [1]
    started[1].kill()
    finish(started)
    log = (tmp_path / "run.0").read_text()
    assert re.search(r"rank 0 of 2: step \d+ took more than 1.5 minutes \(--timeout\); no response from rank 1;", log)
    assert "Traceback" not in log


def test_on_a_stop_signal_torchrun_saves_after_the_step(calm, tmp_path):
    out = tmp_path / "run"
    process = torchrun(out, f"--shutdown-timeout={LONG}", save=1e9, steps=10_000)
    deadline = time.monotonic() + LONG
    while not (out / "curve.jsonl").exists() or len(losses(out)) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    before = len(losses(out))
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) != 0
    (step,) = saved_steps(out)
    assert before <= step == len(losses(out))  # no step behind the one that is saved
    assert f"stopped and saved after step {step} of 10000" in out.with_suffix(".log").read_text()


@pytest.mark.parametrize("shard", [True, False])
def test_a_full_disk_is_survived_while_there_is_room_again(shard, tmp_path):
    """In the process that writes; in parts it is any."""
    rank = 1 if shard else 0
    log = run(2, tmp_path / "room", shard=shard, fault="room", rank=rank, steps=24)
    line = next(line for line in log.splitlines() if "not written" in line)
    assert ("File too large" if shard else "No space") in line and "the last good state is that of step" in line
    assert "training continues" in line and len(losses(tmp_path / "room")) == 24
    out = tmp_path / "full"
    started = start(2, out, shard=shard, fault="full", rank=rank, steps=16)
    assert all(code != 0 for code in finish(started))
    last = (tmp_path / f"full.{rank}").read_text().splitlines()[-1]
    assert last.startswith("error: ") and "not written" in last
    if shard:
        assert saved_steps(out) and not list((out / "checkpoints").glob(".*"))
        assert (step_folder(out, saved_steps(out)[-1]) / ".metadata").exists()
    else:
        assert torch.load(out / "state.pt", weights_only=True)["step"] == 2
        assert not list(out.glob(".*"))


def test_each_attempt_of_torchrun_has_names_of_its_own_in_the_store():
    """torchrun's store outlives the processes; with the names of an attempt before, they call dead ones."""
    program = """
import os, torch, torch.distributed as dist
from depth_anything.train.distributed import join
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
for attempt in "01":
    children = []
    for rank in "01":
        children.append(os.fork())
        if children[-1] == 0:
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RESTART_COUNT": attempt}
            with join():
                dist.all_reduce(torch.ones(1))
                dist.barrier()
                os._exit(9)
    assert [os.waitpid(child, 0)[1] >> 8 for child in children] == [9, 9]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
