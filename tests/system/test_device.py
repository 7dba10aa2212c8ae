"""A device that is not there: one line at once, wherever a device can be asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_anything import DepthAnything
from depth_anything.__main__ import main
from depth_anything.system.device import check_device
from depth_anything.train.distributed import join
from depth_anything.transfer import controlnet, controlnet_train, segmentation

ROOT = Path(__file__).parents[2]
EXAMPLES = str(ROOT / "examples")
PHOTOGRAPH = f"{EXAMPLES}/kodak_08.jpg"
ABSENT = "cuda:99"


@pytest.fixture
def gpus(monkeypatch):
    """A torch that sees as many GPUs as asked."""

    def see(count: int):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return see


@pytest.mark.parametrize(
    ("count", "there", "absent", "expected"),
    [
        (0, ["cpu", "cpu:0"], ["cuda", "cuda:0", "mps", "gpu", ""], "expected one of cpu$"),
        (1, ["cpu", "cuda", "cuda:0"], ["cuda:1", "cuda:", "cuda:-1", "cuda:²", "mps"], "expected one of cpu, cuda$"),
        (4, ["cuda", "cuda:3"], ["cuda:4", "cuda:01"], "expected one of cpu, cuda:0 to cuda:3$"),
    ],
)  # fmt: skip
def test_a_device_by_its_name_and_number(gpus, count, there, absent, expected):
    gpus(count)
    for device in there:
        check_device(device)
    for device in absent:
        with pytest.raises(ValueError, match=expected):
            check_device(device)


@pytest.mark.parametrize(
    "command",
    [
        ["predict", PHOTOGRAPH, "-o", "OUT"],
        ["label", EXAMPLES, "OUT", "--teacher", "nano"],
        ["train", "nano-teacher", "OUT"],
        ["finetune", "nano", EXAMPLES, "OUT"],
    ],
    ids=lambda command: command[0],
)
def test_commands_refuse_it_before_they_read_render_or_write(tmp_path, capsys, command):
    command = [str(tmp_path / "out") if word == "OUT" else word for word in command]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--device", ABSENT])
    assert stopped.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "'cuda:99': not on this machine" in told[0]
    assert not list((tmp_path / "out").glob("[!.]*"))  # label leaves the folder of its lock


def test_functions_refuse_it_before_weights_are_read(tmp_path):
    nowhere = tmp_path / "nowhere"
    asked = [
        lambda: DepthAnything.from_pretrained(nowhere, device=ABSENT),
        lambda: segmentation.load(nowhere, ABSENT),
        lambda: controlnet.generate(None, "", nowhere, None, device=ABSENT),  # type: ignore[reportArgumentType]
        lambda: controlnet_train.train(None, nowhere, None, nowhere, device=ABSENT),  # type: ignore[reportArgumentType]
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="not on this machine"):
            ask()


def test_a_rank_without_a_gpu_of_its_own(monkeypatch, gpus):
    gpus(2)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    told = "'cuda:2': not on this machine; expected one of cpu, cuda:0 to cuda:1"
    with pytest.raises(ValueError, match=told), join("cuda"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_make_nano_for_a_gpu_that_torch_does_not_see_renders_nothing(tmp_path):
    out = tmp_path / "nano"
    command = ["make", "nano", "DEVICE=cuda", f"DEV={sys.prefix}", f"NANO={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "sees no GPU" in done.stderr and not out.exists()
