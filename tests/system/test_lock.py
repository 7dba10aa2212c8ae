"""One job at a time in one place, and jobs that may share it."""

import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from transfer_inputs import with_inputs

from depth_anything.predict.prediction import Prediction
from depth_anything.system.files import replace_folder, write_text
from depth_anything.system.lock import alone

HOLD = """
import os, sys
from depth_anything.system.lock import alone
with alone(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def holder():
    """Starts a process that holds the lock of a folder until it is killed."""
    running = []

    def hold(folder: Path, name: str = ".lock") -> subprocess.Popen:
        pipe = subprocess.PIPE
        words = [sys.executable, "-c", HOLD, folder, name]
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.full((36, 48, 3), 60 * number, np.uint8)).save(tmp_path / f"photos/{number}.png")
    return tmp_path / "photos"


def test_a_second_job_is_refused_until_the_first_ends_or_is_killed(tmp_path, holder):
    first = holder(tmp_path / "out")
    said = "out: another job writes there; wait until it ends, or use another folder"
    with pytest.raises(ValueError, match=said), alone(tmp_path / "out"):
        pass
    with alone(tmp_path / "out", ".other.lock"):
        pass
    first.kill()
    first.wait()
    with alone(tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_of_many_at_once_never_two_hold_it(tmp_path):
    inside, most, done = 0, 0, 0
    counting = threading.Lock()

    def often() -> None:
        nonlocal inside, most, done
        for _ in range(200):
            try:
                with alone(tmp_path):
                    with counting:
                        inside += 1
                        most = max(most, inside)
                        done += 1
                    with counting:
                        inside -= 1
            except ValueError:
                pass

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and done > 4


COMMANDS = {
    "video": (["video", "{photos}", "-o", "{out}"], ".photos_color.lock", "av"),
    "render": (["render", "{out}", "--count", "1", "--width", "32", "--height", "24"], ".lock", "mitsuba"),
    "train": (["finetune", "nano", "{own}", "{out}", "--epochs", "1", "--batch", "2"], ".lock", "torch"),
    "segment train": (
        ["segment", "train", "nano-scenes-linear", "{out}", "--data", "{scenes}", "--from-scratch", "--steps", "1"],
        ".lock",
        "torch",
    ),
    "controlnet train": (
        ["controlnet", "train", "{photos}", "{controls}", "{out}", "--base", "{base}", "--size", "64", "--steps", "1"],
        ".lock",
        "diffusers",
    ),
    "export": (["export", "nano", "-o", "{out}/nano.onnx"], ".nano.onnx.lock", "onnxscript"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_whose_results_belong_together_refuse_a_second_job(tmp_path, photos, holder, capsys, command):
    words, name, needed = COMMANDS[command]
    if find_spec(needed) is None:  # not imported: Mitsuba must not be, before an LLVM library is chosen
        pytest.skip(f"needs {needed}")
    own = tmp_path / "own"
    (own / "disparity").mkdir(parents=True)
    (own / "images").symlink_to(photos)
    for number in range(2):
        Image.fromarray(np.arange(36 * 48, dtype=np.uint16).reshape(36, 48) + 1).save(own / f"disparity/{number}.png")
    holder(tmp_path / "out", name)
    words = [with_inputs(word, tmp_path).format(photos=photos, out=tmp_path / "out", own=own) for word in words]
    assert run(*words) == 2
    assert f"error: {tmp_path}/out: another job writes there" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_evaluations_of_one_set_in_one_place(tmp_path, holder):
    from depth_anything.data.benchmarks.sets import Contents
    from depth_anything.evaluate.candidate import ROW
    from depth_anything.evaluate.protocol import get_protocol
    from depth_anything.evaluate.run import evaluate_set

    class Kitti:
        name = "kitti"

    holder(tmp_path / "da-relative" / "kitti")
    with pytest.raises(ValueError, match="kitti: another job writes there"):
        evaluate_set(Contents(Kitti(), [], 0), [ROW], get_protocol("da-relative"), tmp_path)  # type: ignore[arg-type]


SHARING = [
    "predict {photos} -o {out} --save npy --overwrite",
    "calibrate {photos}/map_disparity.npz 10,10,1 20,30,4 -o {out} --overwrite",
    "data check folder {photos} -o {out}",
    pytest.param("segment predict {photos} --model {segmenter} -o {out} --overwrite", marks=pytest.mark.slow),
    pytest.param(
        "controlnet generate {controls}/0_control.png tree --is-control --base {base} --controlnet {controlnet} "
        "--size 64 --steps 1 -o {out} --overwrite",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("command", SHARING, ids=lambda command: command.split(" {")[0])
def test_predictions_may_share_a_folder(tmp_path, photos, command):
    """Each file is written under a name of its own and renamed: whoever ends last has the name, whole."""
    needed = {"segment": "torch", "controlnet": "diffusers"}.get(command.split()[0])
    if needed:
        pytest.importorskip(needed)
    Prediction(disparity=np.linspace(1, 0.1, 2000, dtype=np.float32).reshape(40, 50)).save(photos / "map", ["npz"])
    words = with_inputs(command, tmp_path)

    there, alone = (
        [part.format(photos=photos, out=tmp_path / name) for part in words.split()] for name in ("out", "alone")
    )
    both = [subprocess.Popen([sys.executable, "-m", "depth_anything", *there], cwd=ROOT) for _ in range(2)]
    assert run(*alone) == 0
    assert [process.wait(300) for process in both] == [0, 0]
    files = sorted((tmp_path / "alone").iterdir())
    assert files and files == sorted(tmp_path / "alone" / path.name for path in (tmp_path / "out").iterdir())
    for path in files:
        assert contents(path) == contents(tmp_path / "out" / path.name)


def contents(path: Path) -> bytes:
    """What is in a file, without the clock of zip archives."""
    if path.suffix != ".npz":
        return path.read_bytes()
    with np.load(path) as archive:
        return b"".join(archive[name].tobytes() for name in archive.files)


WRITER = """
import sys
from pathlib import Path
from depth_anything.system import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as temporary:
    (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
    print("writes", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder"])
def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path, kind):
    for name in (".unfinished", ".photo.settings.npy", "photo.unfinished-notes.npy"):
        (tmp_path / name).write_text("the user's")
    before = {path.name for path in tmp_path.iterdir()}

    def start(name: str) -> subprocess.Popen:
        words = [sys.executable, "-c", WRITER, kind, tmp_path / name]
        process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "writes\n"
        return process

    killed, writes = start("killed.npy"), start("whole.npy")
    killed.kill()
    killed.wait()
    left = {path.name for path in tmp_path.iterdir()} - before
    assert len(left) == 2 and all(name.startswith(".") for name in left)
    start("killed.npy").communicate("go on")
    assert {path.name for path in tmp_path.iterdir()} - before - left == {"killed.npy"}
    assert len({path.name for path in tmp_path.iterdir()} & left) == 1
    writes.communicate("go on")
    assert writes.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == before | {"killed.npy", "whole.npy"}


KILLED_IN_SAFETENSORS = """
import resource, signal, sys
import torch
from depth_anything.checkpoints.safe_write import write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_tensors(sys.argv[1], {"weights": torch.zeros(100_000)}, {})
"""


def test_what_safetensors_left_when_it_was_killed_is_removed(tmp_path):
    """It writes under a name of its own."""
    pytest.importorskip("torch")
    words = [sys.executable, "-c", KILLED_IN_SAFETENSORS, tmp_path / "killed.safetensors"]
    assert subprocess.run(words, cwd=ROOT, timeout=300).returncode == -signal.SIGXFSZ
    assert list(tmp_path.rglob("*.*"))
    write_text(tmp_path / "next.txt", "next")
    assert [path.name for path in tmp_path.iterdir()] == ["next.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["old", "old/new"]
