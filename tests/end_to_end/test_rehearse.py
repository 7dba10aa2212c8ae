"""`make rehearse`: its commands are understood, and what it checks is noticed. The rehearsal itself takes minutes."""

import functools
import json
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("lmdb")
from benchmark_scripts import SCRIPTS, script
from layouts import unlabeled

from depth_anything.__main__ import COMMANDS, main
from depth_anything.checkpoints.hub import find_weights
from depth_anything.data.labeled.sets import open_labeled
from depth_anything.data.pseudo_labels import encode
from depth_anything.data.shards import write_shard
from depth_anything.variants import NANO

rehearse = script("rehearse", SCRIPTS)


@pytest.mark.parametrize("chain", ["small", "paper"])
def test_every_command_is_understood(chain, tmp_path, monkeypatch, capsys):
    """Nothing is carried out; options, recipes and folders are looked at."""
    steps, parsed = [], []

    def recorder(command):
        @functools.wraps(command)
        def record(*args, **kwargs):
            parsed.append(command.__name__)

        return record

    monkeypatch.setattr(rehearse.Rehearsal, "run", lambda self, step: steps.append(step))
    monkeypatch.setattr(rehearse, "write_dinov2", lambda variant, folder: folder / f"{variant}.pth")
    monkeypatch.setattr(rehearse, "write_segformer", lambda folder: folder)
    monkeypatch.setattr("depth_anything.__main__.COMMANDS", tuple(recorder(command) for command in COMMANDS))
    rehearse.rehearse(tmp_path / "out", chain=chain)
    for step in steps:
        words = [str(word) for word in step.words]
        start = words.index("depth_anything" if words[0] == "torchrun" else "depth-anything")
        main(words[start + 1 :])
        for given in words[words.index("--data") + 1 :] if "train" in words and "--data" in words else ():
            if "=" in given:
                name, folder = given.split("=")
                assert len(open_labeled(name, folder)) > 0
    v1 = ["train", *["label"] * 8, "train", "evaluate"]
    assert parsed == [*v1, "train", *["label"] * 2, *["train"] * 2, "evaluate", "export"]
    assert [step.killed for step in steps].count(True) == 1
    with pytest.raises(ValueError, match="not empty"):
        rehearse.rehearse(tmp_path / "out")


def test_a_step_that_fails_is_one_line(tmp_path):
    rehearsal = rehearse.Rehearsal(tmp_path, processes=2)

    def run(program: str, check=lambda: None):
        rehearsal.run(rehearse.Step("a step", [sys.executable, "-c", program], tmp_path / "file", check))

    def broken():
        raise rehearse.Broken("no file")

    with pytest.raises(rehearse.Broken, match=r"^a step: exit code 3: error: this; .*logs/00-a-step\.log$"):
        run("print('error: this'); print('a tail'); raise SystemExit(3)")
    with pytest.raises(rehearse.Broken, match=r"^a step: no file; the whole output is in "):
        run("", broken)
    run("")
    assert [done.name for done in rehearsal.done] == ["a step"]
    assert rehearsal.table().splitlines()[1].split() == ["a", "step", "0", "0", str(tmp_path / "file")]


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], start_new_session=True)
open(sys.argv[1] + ".child", "w").write(str(child.pid))
os.makedirs(sys.argv[1] + "/checkpoints/step-00000001")
open(sys.argv[1] + "/checkpoints/step-00000001/.metadata", "w").close()
time.sleep(99)
"""


def test_a_run_is_killed_with_its_workers_when_a_state_is_there(tmp_path):
    rehearsal = rehearse.Rehearsal(tmp_path, processes=2)
    out, began = tmp_path / "run", time.monotonic()
    words = [sys.executable, "-c", PARENT, str(out)]
    rehearsal.run(rehearse.Step("killed", words, out, killed=True))
    assert not rehearse.running(int(out.with_suffix(".child").read_text()))
    assert time.monotonic() - began < 60
    with pytest.raises(rehearse.Broken, match="exit code 0 before a state was saved"):
        rehearsal.run(rehearse.Step("over", [sys.executable, "-c", ""], tmp_path / "other", killed=True))
    (out / "final.safetensors").touch()
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(rehearse.Broken, match="ended before it was killed: use more --steps"):
        rehearsal.run(rehearse.Step("late", words, out, killed=True))


@pytest.fixture
def run(tmp_path) -> Path:
    """What a run of three steps leaves."""
    for step in (1, 2, 3):
        add(tmp_path, step)
    shutil.copy(find_weights(NANO), tmp_path / "final.safetensors")
    return tmp_path


def add(out: Path, step: int, **more) -> None:
    with (out / "curve.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "rate": 0.1, "labeled": 1.0} | more) + "\n")


def test_a_good_run_passes(run):
    rehearse.check_training(run, "nano", 3)
    (run / "log").write_text("resuming after step 1 of 3\n")
    rehearse.check_resumed(run, "nano", 3, run / "log")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda out: add(out, 3), r"steps \[1, 2, 3, 3\]; expected each once, up to 3"),
        (lambda out: add(out, 4), r"up to 3"),
        (lambda out: add(out, 3, rate=float("nan")), "each once"),
        (lambda out: (out / "curve.jsonl").write_text('{"step": 3, "rate": NaN}'), "step 3: rate"),
        (lambda out: (out / "curve.jsonl").write_text('{"step": 3, "rate": 1, "skipped_steps": 1}'), "step 3: skipped"),
        (lambda out: (out / "final.safetensors").write_bytes(b"0" * 100), r"final\.safetensors"),
    ],
)
def test_a_run_that_is_not_as_it_should_be_is_told(run, spoil, told):
    spoil(run)
    with pytest.raises(rehearse.Broken, match=told):
        rehearse.check_training(run, "nano", 3)


def test_another_model_and_a_run_from_nothing_are_told(run):
    with pytest.raises(rehearse.Broken, match="nano, 0 tensors that are not finite; expected v1-small"):
        rehearse.check_training(run, "v1-small", 3)
    (run / "log").write_text("step 1\n")
    with pytest.raises(rehearse.Broken, match="started again from nothing"):
        rehearse.check_resumed(run, "nano", 3, run / "log")


@pytest.mark.parametrize(
    ("width", "high", "images", "told"),
    [
        (28, 1.0, 2, None),
        (28, 1.0, 3, "2 labelled images; expected 3"),
        (30, 1.0, 2, "a map of 14 x 30 pixels"),
        (28, float("inf"), 2, "not finite"),
    ],
)
def test_labels_are_looked_at(tmp_path, width, high, images, told):
    """As `label` writes them: a shard with two images, and its manifest."""
    members, _ = encode(np.arange(14 * width, dtype=np.float32).reshape(14, width), "png16")
    members |= {"jpg": unlabeled.image(1), "json": json.dumps({"min": 0.0, "max": high}).encode()}
    write_shard(tmp_path / "labels/a.tar", [("x", members), ("y", members)])
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest/a.json").write_text(json.dumps({"unit": "a", "labelled": 2}))
    with pytest.raises(rehearse.Broken, match=told) if told else nullcontext():
        rehearse.check_labels(tmp_path, images)


def test_a_table_and_an_export_are_looked_at(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"lines": [{"set": "kitti", "ours": 0.1}]}))
    rehearse.check_table(tmp_path, 1)
    with pytest.raises(rehearse.Broken, match="1 sets, 0 numbers that are not finite; expected 2"):
        rehearse.check_table(tmp_path, 2)
    (tmp_path / "report.json").write_text(json.dumps({"lines": [{"set": "kitti", "ours": None}]}))
    with pytest.raises(rehearse.Broken, match="1 sets, 1 numbers"):
        rehearse.check_table(tmp_path, 1)
    rehearse.check_export(find_weights(NANO).with_suffix(".onnx"))
