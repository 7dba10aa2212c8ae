"""Two processes on one machine: the same gradients as one process, the same run, the same answer after a kill."""

import inspect
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from drawn import FAMILIES
from safetensors.torch import load_file
from torch.distributed.run import get_args_parser

from depth_anything.cli.label import label
from depth_anything.cli.segment import Train as SegmentTrain
from depth_anything.cli.train import train
from depth_anything.train import distributed
from depth_anything.train.distributed import Machine, Ranks, any_rank, prepare
from depth_anything.train.recipes.nano import nano_teacher
from depth_anything.train.teacher import MapAndTokens
from depth_anything.variants import get_variant

PROGRAM = Path(__file__).parents[1] / "distributed_step.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(processes: int, *arguments: object) -> list[str]:
    start = [sys.executable, str(PROGRAM)]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        start.append(str(PROGRAM))
    return [*start, *map(str, arguments)]


def run(processes: int, *arguments: object) -> None:
    done = subprocess.run(command(processes, *arguments), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("mode", "tolerance"), [("ddp", 1e-5), ("fsdp", 1e-4)])
def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(mode, tolerance, family, tmp_path):
    run(1, "one", family, tmp_path / "one.pt")
    run(2, mode, family, tmp_path / "two.pt")
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    assert one.keys() == two.keys() and len(one) > 100
    largest = max(gradient.abs().max().item() for gradient in one.values())
    for name in one:
        difference = (one[name] - two[name]).abs().max().item()
        # The last bias shifts the map, which the loss does not notice: its gradient is what rounding leaves of a sum.
        floor = 0.1 if name.endswith("output_conv2.2.bias") else 1e-3
        assert difference <= tolerance * max(one[name].abs().max().item(), floor * largest), name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_processes_killed_and_started_again_end_as_if_they_had_not_been(mode, family, tmp_path):
    run(2, mode, family, tmp_path / "calm", 6)
    process = subprocess.Popen(
        command(2, mode, family, tmp_path / "killed", 6), env=ENVIRONMENT, start_new_session=True
    )
    deadline = time.monotonic() + 240
    state = "state.pt" if mode == "ddp" else "checkpoints/step-*"
    while time.monotonic() < deadline and not list((tmp_path / "killed").glob(state)):
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()  # of groups of their own
    for number in (process.pid, *map(int, workers)):
        os.kill(number, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # until the system has taken the workers' lock of the folder from them
    run(2, mode, family, tmp_path / "killed", 6)
    calm, killed = (load_file(tmp_path / name / "final.safetensors") for name in ("calm", "killed"))
    assert all(torch.equal(calm[key], killed[key]) for key in calm)


def test_one_process_needs_no_group_and_fsdp_says_how_to_start_one():
    from depth_anything.network.model import DepthAnything

    assert any_rank(True, "cpu") and not any_rank(False, "cpu")
    assert Ranks(1, 4).slices(Machine(accumulate=2)) == (8, range(2, 4))
    with pytest.raises(ValueError, match="torchrun"):
        prepare(MapAndTokens(DepthAnything("nano")), nano_teacher(), Machine(shard=True), Ranks())


class Listed:
    """A set that costs a listing, which the test counts."""

    listings = 0

    def __init__(self, names: list[str], hook: object = None):
        Listed.listings += 1
        self.names, self.hook = names, hook


def opened_by_three(open_it, monkeypatch) -> list:
    """What each of three processes gets, one after the other; `agreed` hands on what the first one says."""
    said: list = []

    def agreed(value):
        said.append(value)
        return said[0]

    monkeypatch.setattr(distributed, "agreed", agreed)
    return [distributed.opened_once(open_it, Ranks(rank, 3)) for rank in range(3)]


def test_the_first_process_lists_for_all(monkeypatch):
    Listed.listings = 0
    found = opened_by_three(lambda: Listed(["a", "b"]), monkeypatch)
    assert Listed.listings == 1 and [one.names for one in found] == [["a", "b"]] * 3
    assert len({id(one) for one in found}) == 3


def test_what_cannot_be_copied_is_opened_by_each_and_errors_reach_all(monkeypatch):
    Listed.listings = 0
    found = opened_by_three(lambda: Listed(["a"], hook=lambda: None), monkeypatch)
    assert Listed.listings == 3 and all(one.names == ["a"] for one in found)

    def missing():
        raise ValueError("nowhere: there is no such folder")

    for rank in (0, 1):
        monkeypatch.setattr(distributed, "agreed", lambda value: ("nowhere: there is no such folder", b""))
        with pytest.raises(ValueError, match="nowhere: there is no such folder"):
            distributed.opened_once(missing, Ranks(rank, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_changes_memory_and_not_the_gradients(family):
    from depth_anything.network.model import DepthAnything

    patch = get_variant(family).patch
    image_B3HW = torch.randn(2, 3, 2 * patch, 3 * patch)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = prepare(
            MapAndTokens(DepthAnything(family)), nano_teacher(), Machine(checkpointing=checkpointing), Ranks()
        )
        network(image_B3HW)[0].square().sum().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):  # the part at full size is summed image by image: another rounding
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * float(a.abs().max()))


@pytest.mark.parametrize(
    ("family", "checkpointing"),
    [("nano-vit", True), ("nano-vit", False), pytest.param("nano", False, marks=pytest.mark.slow)],
)
def test_every_block_runs_compiled_and_the_gradients_stay(monkeypatch, family, checkpointing):
    """torch compiles nothing around a checkpoint, and the blocks of a network share a limit of recompilations; both
    without an error."""
    from depth_anything.network.model import DepthAnything

    ran: list[int] = []

    def backend(graph, inputs):
        def compiled(*arguments):
            ran.append(1)
            return graph.forward(*arguments)

        return compiled

    patch = get_variant(family).patch
    image_B3HW = torch.randn(2, 3, 2 * patch, 3 * patch)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    gradients = []
    with torch._dynamo.config.patch(recompile_limit=8):
        for compiled in (False, True):
            torch.manual_seed(0)
            model, machine = DepthAnything(family), Machine(compile=compiled, checkpointing=checkpointing)
            network = prepare(MapAndTokens(model), nano_teacher(), machine, Ranks())
            network(image_B3HW)[0].square().sum().backward()
            gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    blocks = len(model.pretrained.blocks)
    # Recomputed: every block twice, four fusions, and the part at full size of each image.
    assert len(ran) == (2 * (blocks + 4 + 2) if checkpointing else blocks + 1)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * float(a.abs().max()))


def test_no_option_of_ours_abbreviates_one_of_torchruns():
    """torchrun takes --start for its --start-method, even behind the name of the program."""
    theirs = {name for action in get_args_parser()._actions for name in action.option_strings}
    for one_command in (train, label, SegmentTrain):
        ours = {f"--{name.replace('_', '-')}" for name in inspect.signature(one_command).parameters}
        assert not [(one, other) for one in ours for other in theirs if other.startswith(one)]
