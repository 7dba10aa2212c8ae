"""A disk of 10 MB that is full, or only for reading: one line that names the file, nothing half-written."""

import errno
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transfer_inputs import with_inputs

from depth_anything.predict.prediction import Prediction
from depth_anything.system import files

ROOT = Path(__file__).parents[2]
DISK = "mount -t tmpfs -o size=10m tmpfs {0} && head -c $((10485760 - 1024 * {1})) /dev/zero > {0}/filler; "


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """A shell's prefix in which this user may mount a disk of his own."""
    folder = tmp_path_factory.mktemp("try")
    unshare = ["unshare", "-rm", "bash", "-c"]
    try:
        tried = subprocess.run([*unshare, DISK.format(folder, 1)], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        tried = None
    if tried is None or tried.returncode != 0:
        pytest.skip("no disk can be mounted here without root")
    return unshare


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(4):
        image = rng.integers(0, 256, (300, 400, 3), np.uint8)
        Image.fromarray(image).save(folder / f"photos/{number}.png")
        (folder / f"frame_{number}.png").symlink_to(folder / f"photos/{number}.png")
    noise = Prediction(disparity=rng.random((900, 1200), np.float32))
    noise.save(folder / "map", ["npz"])
    return folder


NEEDS = {
    "controlnet": "diffusers",
    "export": "onnxscript",
    "label": "torch",
    "page": "fastapi",
    "render": "mitsuba",
    "segment": "torch",
    "video": "av",
}
SEGMENT_TRAIN = "segment train nano-scenes-linear {disk}/out --data {scenes} --from-scratch --steps 1"
CONTROLNET = "--base {base} --size 64 --steps 1"
CONTROLNET_TRAIN = "controlnet train {inputs}/photos {controls} {disk}/out --batch 1 " + CONTROLNET
CONTROLNET_GENERATE = (
    "controlnet generate {controls}/0_control.png tree --is-control --controlnet {controlnet} -o {disk} " + CONTROLNET
)
COMMANDS = [
    ("predict {inputs}/photos -o {disk}/out --save npy,color", 1048, "out/2_disparity.npy", True),
    ("predict {inputs}/photos -o {disk}/out --save glb --near 1 --far 9 --fov 60", 148, "out/0_mesh.glb", True),
    (
        "calibrate {inputs}/map_disparity.npz 10,10,1 20,30,4 -o {disk} --save pfm",
        2048,
        "map_depth_m.pfm",
        False,
    ),
    ("video {inputs}/frame_%01d.png -o {disk}/out --save npz", 148, "out/frame_disparity_npz", False),
    ("data check folder {inputs}/photos -o {disk}/out", 12, "out/folder.png", False),
    pytest.param("label {inputs}/photos {disk}/out --shard-size 2", 148, "No space", False, marks=pytest.mark.slow),
    pytest.param("export nano -o {disk}/nano.onnx", 2048, "nano.onnx", False, marks=pytest.mark.slow),
    pytest.param("export nano --to openvino -o {disk}/nano.xml", 2048, "nano.xml", False, marks=pytest.mark.slow),
    pytest.param("render {disk}/out --count 40", 548, "out/scenes-00000.tar", False, marks=pytest.mark.slow),
    pytest.param(SEGMENT_TRAIN, 2048, "out/state.pt", False, marks=pytest.mark.slow),
    pytest.param(CONTROLNET_TRAIN, 7000, "out/diffusion_pytorch_model.safetensors", False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("command", "kilobytes", "named", "counts"), COMMANDS, ids=lambda value: str(value).split()[0])
def test_the_line_names_the_file(namespace, inputs, tmp_path, command, kilobytes, named, counts):
    needs = NEEDS.get(command.split()[0])
    if needs and find_spec(needs) is None:  # not imported: Mitsuba must not be, before an LLVM library is chosen
        pytest.skip(f"needs {needs}")
    disk = tmp_path / "disk"
    disk.mkdir()
    words = with_inputs(command, inputs).format(inputs=inputs, disk=disk)
    python = f"{sys.executable} -m depth_anything {words}; code=$?; find {disk} -type f | sort; exit $code"
    shell = [*namespace, DISK.format(disk, kilobytes) + f"cd {ROOT}; {python}"]
    run = subprocess.run(shell, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in run.stderr, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert lines and "No space left on device" in lines[0] and named in lines[0], run.stderr
    assert run.returncode in (1, 2)
    left = {Path(line) for line in run.stdout.splitlines() if line.startswith(str(disk))}
    assert not [path for path in left if str(path).endswith(named)]
    if counts:
        done = len([path for path in left if path.suffix == ".npy"])
        assert f"{done} of 4 images are done" in lines[0] and run.returncode == (1 if done else 2)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("predict {inputs}/photos -o {disk}/out", "out"),
        ("predict {inputs}/photos -o {disk}", "0_color.png"),
        ("video {inputs}/frame_%01d.png -o {disk}/out --save npz", "out"),
        ("calibrate {inputs}/map_disparity.npz 10,10,1 20,30,4 -o {disk}/out", "out"),
        ("calibrate {inputs}/map_disparity.npz 10,10,1 20,30,4 -o {disk} --save pfm", "map_depth_m.pfm"),
        ("data check folder {inputs}/photos -o {disk}/out", "out"),
        ("data check folder {inputs}/photos -o {disk}", "folder.png"),
        pytest.param(
            "segment predict {inputs}/photos --model {segmenter} -o {disk}/out", "out", marks=pytest.mark.slow
        ),
        pytest.param(SEGMENT_TRAIN, "out", marks=pytest.mark.slow),
        pytest.param(CONTROLNET_TRAIN, "out", marks=pytest.mark.slow),
        pytest.param(CONTROLNET_GENERATE, "0_control_control.png", marks=pytest.mark.slow),
        pytest.param("label {inputs}/photos {disk}/out", "out", marks=pytest.mark.slow),
        pytest.param("page {disk}/page", "page", marks=pytest.mark.slow),
        pytest.param("export nano -o {disk}/nano.onnx", "nano.onnx", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_is_only_for_reading_is_one_line(namespace, inputs, tmp_path, command, named):
    needs = NEEDS.get(command.split()[0])
    if needs and find_spec(needs) is None:
        pytest.skip(f"needs {needs}")
    words = with_inputs(command, inputs).format(inputs=inputs, disk=tmp_path)
    python = f"mount -t tmpfs -o ro tmpfs {tmp_path} && cd {ROOT} && {sys.executable} -m depth_anything {words}"
    run = subprocess.run([*namespace, python], capture_output=True, text=True, timeout=300)
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and len(lines) == 1 and "Traceback" not in run.stderr, run.stderr
    assert lines[0].startswith(f"error: {tmp_path}/") and "not written (Read-only file system)" in lines[0]
    assert named in lines[0]


def test_a_librarys_own_error_leads_to_a_check_of_the_disk(tmp_path, monkeypatch):
    class OfALibrary(Exception):
        pass

    free = shutil.disk_usage(tmp_path)
    for left, raised in ((0, files.NotWritten), (10**9, OfALibrary)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, left=left: free._replace(free=left))
        with pytest.raises(raised), files.atomic_path(tmp_path / "x.bin"):
            raise OfALibrary("failed writing")
        assert not list(tmp_path.iterdir())


def test_a_library_that_has_removed_its_part_leads_to_the_same_line(tmp_path):
    """safetensors writes under a name of its own; torch's writer has an error of its own."""
    for said in (
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "inline_container.cc:603",
    ):
        with pytest.raises(files.NotWritten, match="not written"), files.atomic_path(tmp_path / "x.bin"):
            raise RuntimeError(said)
    with pytest.raises(RuntimeError), files.atomic_path(tmp_path / "x.bin"):
        raise RuntimeError("I/O error: No such file or directory (os error 2)")


def test_only_errors_of_this_folder_get_this_name(tmp_path):
    said = r"x\.bin: not written \(No space left on device\)"
    with pytest.raises(files.NotWritten, match=said) as full, files.atomic_path(tmp_path / "x.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.errno == errno.ENOSPC and full.value.filename == str(tmp_path / "x.bin")
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "x.bin"):
        open("/no/such/file")  # noqa: SIM115
    with pytest.raises(ValueError, match="bad"), files.atomic_path(tmp_path / "x.bin"):
        raise ValueError("bad")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    for words in ("first", "second"):
        with files.atomic_folder(tmp_path / "f") as part:
            (part / words).write_text(words)
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["second"]
    with pytest.raises(KeyError), files.atomic_folder(tmp_path / "f") as part:
        (part / "third").touch()
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "second"]
