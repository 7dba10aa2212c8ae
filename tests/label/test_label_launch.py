"""Who labels what: going on after kill -9 anywhere, ranks, refusals, exit codes. Real processes."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from toy_teacher import RECIPE, ToyTeacher, write_photos

from depth_anything.data.pseudo_labels import PseudoLabels
from depth_anything.data.shards import read_shard
from depth_anything.data.storage import Folder, open_store
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.data.unlabeled.sets import shards
from depth_anything.label.jobs import LabelOptions, Outcome, claimed, remaining
from depth_anything.label.launch import GIVE_UP, Report, follow, label, label_here
from depth_anything.label.teacher import Labeller

HERE = Path(__file__).parents[1]
EXAMPLES = HERE.parent / "examples"


def contents(out: Path) -> dict[str, bytes]:
    """Everything that counts: shards, manifests, the recipe."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".work" not in path.parts
    }


def keys(out: Path) -> Counter[str]:
    """How often each image was labelled."""
    return Counter(key for path in (out / "labels").glob("*.tar") for key, _ in read_shard(path))


def run_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "depth_anything", "label", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


# -- kill -9 ---------------------------------------------------------------------------------------


def run_killed(command: list[str], out: Path, rng: random.Random, pause_s: float) -> bool:
    """Start a program and kill it: at any moment, or a little after it finished a shard; True if it was running."""

    def finished() -> int:
        return len(list(out.glob("manifest/*.json")))

    before, wait_for_a_shard = finished(), rng.random() < 0.75
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while wait_for_a_shard and process.poll() is None and finished() == before:
        time.sleep(0.005)
    try:
        process.wait(rng.uniform(0, pause_s))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_until_done(command: list[str], out: Path, kills: int, pause_s: float, seed: int) -> int:
    """Kill so many times, then let it end; how often it was still at work."""
    rng = random.Random(seed)
    killed = sum(run_killed(command, out, rng, pause_s) for _ in range(kills))
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0
    return killed


def test_killed_anywhere_it_ends_as_if_undisturbed(tmp_path: Path):
    """Six random kill -9 of a small program with the real labeller: every image once, equal bytes."""
    expected = write_photos(tmp_path / "photos", 60)
    program = [sys.executable, str(HERE / "toy_teacher.py"), str(tmp_path / "photos")]
    assert subprocess.run([*program, str(tmp_path / "calm")]).returncode == 0
    assert keys(tmp_path / "calm") == Counter(expected)
    killed = kill_until_done([*program, str(tmp_path / "out"), "0.05"], tmp_path / "out", 6, 0.3, seed=1)
    assert killed >= 3
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_of_the_command(tmp_path: Path):
    """nano as the teacher, 20 random kill -9 of `depth-anything label`: every image once, equal bytes."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(14):
        for path in EXAMPLES.glob("*.jpg"):
            shutil.copy(path, photos / f"{number:02d}_{path.name}")
    options = ("--shard-size", 2, "--threads", 1, "--batch", 2)
    assert run_command(photos, tmp_path / "calm", *options).returncode == 0
    command = [sys.executable, "-m", "depth_anything", "label", photos, tmp_path / "out", *options]
    killed = kill_until_done([str(part) for part in command], tmp_path / "out", 20, 0.3, seed=20)
    assert killed >= 10
    assert keys(tmp_path / "out") == Counter(path.stem for path in photos.iterdir())
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


def test_what_is_done_is_not_done_again(tmp_path: Path):
    write_photos(tmp_path / "photos", 12)
    found = shards("folder", tmp_path / "photos", size=4)
    store, teacher = Folder(str(tmp_path / "out")), ToyTeacher()
    remaining(store, RECIPE, found)
    list(label_here(Labeller(teacher, RECIPE, store), found[:2]))
    assert [shard.name for shard in remaining(store, RECIPE, found)] == [found[2].name]
    (tmp_path / f"out/manifest/{found[0].name}.json").unlink()  # killed between shard and manifest
    before = contents(tmp_path / "out")
    todo = remaining(store, RECIPE, found)
    assert todo == [found[0], found[2]]
    list(label_here(Labeller(teacher, RECIPE, store), todo))
    after = contents(tmp_path / "out")
    assert all(after[name] == content for name, content in before.items())
    assert remaining(store, RECIPE, found) == []


# -- refusals --------------------------------------------------------------------------------------


def test_another_recipe_or_other_images_are_refused(tmp_path: Path):
    from dataclasses import replace

    write_photos(tmp_path / "photos", 8)
    found = shards("folder", tmp_path / "photos", size=4)
    store = Folder(str(tmp_path / "out"))
    remaining(store, RECIPE, found)
    with pytest.raises(ValueError, match=r"another recipe \(teacher_sha256 0{64} there, 1{64} now\)"):
        remaining(store, replace(RECIPE, teacher_sha256="1" * 64), found)
    list(label_here(Labeller(ToyTeacher(), RECIPE, store), found[1:]))
    assert remaining(store, RECIPE, [*found, ImageShard("more", "files", "")]) == [
        found[0],
        ImageShard("more", "files", ""),
    ]
    with pytest.raises(ValueError, match="has 1 shards of other images"):
        remaining(store, RECIPE, shards("folder", tmp_path / "photos", size=3))
    (tmp_path / "photos/0005.jpg").write_bytes((tmp_path / "photos/000.jpg").read_bytes())
    with pytest.raises(ValueError, match="has changed since this folder was started"):
        remaining(store, RECIPE, shards("folder", tmp_path / "photos", size=4))


def test_a_second_job_on_the_same_output_is_refused(tmp_path: Path):
    with open_store(tmp_path / "out").lock("mine", first=True), pytest.raises(ValueError, match="another job writes"):
        label(str(EXAMPLES), str(tmp_path / "out"), LabelOptions("nano"))


# -- sharing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 5])
def test_workers_share_shards_without_overlap(tmp_path: Path, world: int):
    """Workers take turns in any order: together they get each unit once, and none is left behind with work."""
    rng = random.Random(world)
    found = [ImageShard(f"unit-{number}", "files", "") for number in range(50)]
    store = Folder(str(tmp_path))
    with store.lock("job", first=True):
        workers = [claimed(found, store, rank, world) for rank in range(world)]
        taken: list[ImageShard] = []
        while workers:
            worker = rng.choice(workers)
            shard = next(worker, None)
            taken += [shard] if shard else []
            if shard is None:
                workers.remove(worker)
    assert sorted(shard.name for shard in taken) == sorted(shard.name for shard in found)


def test_workers_seldom_ask_what_is_left(tmp_path: Path):
    """8 workers, 500 units: an object store bills each question."""
    found = [ImageShard(f"unit-{number}", "files", "") for number in range(500)]
    asked = 0

    class Asking(Folder):
        def names(self, folder: str) -> set[str]:
            nonlocal asked
            asked += 1
            return super().names(folder)

    store = Asking(str(tmp_path))
    with store.lock("job", first=True):
        workers = [claimed(found, store, rank, 8) for rank in range(8)]
        workers[0] = iter([next(workers[0])])  # dead after one unit: the others do its part
        taken = 0
        while workers:
            for worker in list(workers):
                if next(worker, None) is None:
                    workers.remove(worker)
                else:
                    taken += 1
    assert taken == 500
    assert asked < 100


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(source: Path, out: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [*TORCHRUN, "-m", "depth_anything", "label", str(source), str(out)]
    command += ["--shard-size", "2", "--threads", "1", "--input-size", "112", "--batch", "2"]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


@pytest.mark.slow
def test_two_ranks_of_torchrun_share_the_work(tmp_path: Path):
    """Each image once, the same bytes as one process gives; a broken image is told, and ends no other rank."""
    photos = tmp_path / "photos"
    shutil.copytree(EXAMPLES, photos)
    (photos / "kodak_21.jpg").write_bytes(b"\xff\xd8\xff broken")
    shared = torchrun(photos, tmp_path / "shared")
    assert shared.returncode == 1, shared.stderr
    assert "kodak_21" in shared.stderr
    assert keys(tmp_path / "shared") == Counter(path.stem for path in EXAMPLES.glob("*.jpg"))
    asked = LabelOptions("nano", input_size=112, batch=2, threads=1)
    report = label(str(photos), str(tmp_path / "alone"), asked, shard_size=2)
    assert (report.labelled, report.failed_images, report.exit_code) == (8, 1, 1)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_a_rank_that_dies_leaves_its_part_to_the_next_run(tmp_path: Path):
    """kill -9 of one rank in the middle: torchrun ends the job; run again, everything is there once."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        for path in EXAMPLES.glob("*.jpg"):
            shutil.copy(path, photos / f"{number}_{path.name}")
    command = [*TORCHRUN, "-m", "depth_anything", "label", str(photos), str(tmp_path / "out")]
    command += ["--shard-size", "2", "--threads", "1", "--batch", "2"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("manifest/*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    holder = json.loads((tmp_path / "out/.work/lock").read_text())
    os.kill(holder["pid"], signal.SIGKILL)
    assert process.wait() != 0
    done = len(list((tmp_path / "out").glob("manifest/*.json")))
    assert 0 < done < 24
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0
    assert keys(tmp_path / "out") == Counter(path.stem for path in photos.iterdir())


# -- what is reported ------------------------------------------------------------------------------


def test_exit_codes():
    assert Report(total=3, done_before=3).exit_code == 0
    assert Report(total=3, done_before=0, finished=3, labelled=30).exit_code == 0
    assert Report(total=3, done_before=0, finished=3, labelled=30, failed_images=1).exit_code == 1
    assert Report(total=3, done_before=2, failed_shards=1).exit_code == 1
    assert Report(total=3, done_before=0, failed_shards=3).exit_code == 2


def test_a_disk_that_stays_full_ends_the_run(capsys: pytest.CaptureFixture):
    report = Report(total=100, done_before=0)
    outcomes = iter([Outcome(str(number), error=f"{number}: full", unwritable=True) for number in range(100)])
    follow(outcomes, report, total=100)
    assert report.failed_shards == GIVE_UP
    assert len(list(outcomes)) == 100 - GIVE_UP
    assert "shards in a row could not be written" in capsys.readouterr().err


def test_a_memory_store_and_a_damaged_archive(tmp_path: Path, capsys: pytest.CaptureFixture):
    """The whole road in one process, to an object store: what can be read is labelled, then the rest later."""
    shutil.copytree(EXAMPLES, tmp_path / "in/photos")
    subprocess.run(["tar", "-cf", tmp_path / "in/a.tar", "-C", tmp_path / "in", "photos"], check=True)
    shutil.rmtree(tmp_path / "in/photos")
    whole = (tmp_path / "in/a.tar").read_bytes()
    (tmp_path / "in/b.tar").write_bytes(whole[:100_000])
    asked, where = LabelOptions("nano", input_size=56, batch=4), f"memory://{tmp_path.name}/labels"
    report = label(str(tmp_path / "in"), where, asked)
    assert (report.total, report.labelled, report.failed_shards, report.exit_code) == (2, 8, 1, 1)
    assert "b.tar" in capsys.readouterr().err
    store = open_store(where)
    assert len(store.names("labels")) == len(store.names("manifest")) == 1
    (tmp_path / "in/b.tar").write_bytes(whole)
    report = label(str(tmp_path / "in"), where, asked)
    assert (report.done_before, report.labelled, report.exit_code) == (1, 8, 0)
    with pytest.raises(ValueError, match="memory is not shared"):
        label(str(tmp_path / "in"), where, asked, ray="local")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture):
    from depth_anything.__main__ import main

    out = str(tmp_path / "labels")
    main(["label", str(EXAMPLES), out, "--input-size", "56", "--encoding", "fp16", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "0 of 1 shards were there; 1 more, 8 images" in printed
    assert "largest error of the encoding" in printed
    for options, complaint in (
        ([str(EXAMPLES), out, "--input-size", "70"], "has labels of another recipe"),
        ([str(tmp_path / "absent"), str(tmp_path / "other")], "no such file or folder"),
        ([str(EXAMPLES), str(tmp_path / "other"), "--teacher", "v2-metric-indoor-smal"], "v2-metric-indoor-smal"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["label", *options])
        assert stop.value.code == 2
        line = capsys.readouterr().err
        assert complaint in line
        assert line.count("\n") == 1


def test_the_document_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """docs/label.md; test_label_simulate.py runs its rehearsal."""
    from depth_anything.__main__ import main

    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    text = (HERE.parent / "docs/label.md").read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    assert [line for line in lines if "rehearse" in line] == ["python scripts/rehearse_labelling.py"]
    (line,) = [line for line in lines if "rehearse" not in line]
    main(shlex.split(line)[1:])
    assert len(list((tmp_path / "labels/manifest").glob("*.json"))) == 2
    assert len(PseudoLabels("labels")) == 8
