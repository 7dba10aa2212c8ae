"""A labelled set is its reader and a row of LABELED; a benchmark is its reader and a row of BENCHMARKS."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image

from depth_anything.data.benchmarks.image import BenchmarkImage, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files
from depth_anything.data.benchmarks.sets import BENCHMARKS, Benchmark, read_benchmark
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label, files_in
from depth_anything.data.labeled.sets import LABELED, LabeledSet
from depth_anything.evaluate.protocol import PROTOCOLS
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.sources import open_data

DEPTH_M = np.linspace(9, 1, 40 * 60).reshape(40, 60)
"""Nearer row by row, so that the floor `row` does well."""


class Toy(LabeledFolder):
    """Images beside their metres."""

    title = "Toy"
    layout = "pictures/<digit>.png and .npy"
    scale = "metric"

    def find(self, base: Path) -> list[str]:
        return files_in(base, "pictures", r"\d\.png")

    def label_path(self, image: Path) -> Path:
        return image.with_suffix(".npy")

    def read_label(self, path: Path) -> Label:
        depth_m = np.load(path)
        return depth_label(depth_m, depth_m > 0)


def read_toy(root: Path) -> list[BenchmarkImage]:
    return [
        from_files(
            path.stem,
            path,
            path.with_suffix(".npy"),
            lambda ground_truth: metres(np.load(ground_truth)),
            group=path.stem,
        )
        for path in sorted(root.glob("pictures/*.png"))
    ]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "toy/pictures").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((40, 60, 3), 40 * number, np.uint8)).save(tmp_path / f"toy/pictures/{number}.png")
        np.save(tmp_path / f"toy/pictures/{number}.npy", DEPTH_M)
    return tmp_path


def test_a_labelled_set_is_checked_and_trained_on(root, monkeypatch, capsys):
    monkeypatch.setitem(LABELED, "toy", LabeledSet("toy", Toy, 2, "off", "this test"))
    assert run("data", "check", "toy", root / "toy", "-o", root / "out") == 0
    said = capsys.readouterr().out
    assert f"toy: 2 images in {root / 'toy'}: 100.0% of 2" in said and "read 2: 2 usable" in said

    recipe = replace(get_recipe("nano-teacher"), data=("toy",), validation_scenes=0)
    data, held_out = open_data(recipe, {"toy": root / "toy"}, root / "scenes")
    assert held_out is None and data.labeled is not None and len(data.labeled) == 2
    np.testing.assert_allclose(data.labeled[1].disparity_HW, 1 / DEPTH_M, rtol=1e-6)

    assert run("data", "check", "nonsense", root) == 2
    assert ", toy," in capsys.readouterr().err


def test_a_benchmark_is_measured_under_every_protocol_that_covers_it(root, monkeypatch, capsys):
    monkeypatch.setitem(BENCHMARKS, "toy", Benchmark("toy", "Toy", "toy", 2, read_toy, "this test"))
    chosen = [protocol for protocol in PROTOCOLS.values() if protocol.default_cut is not None]
    assert chosen
    for protocol in chosen:
        arguments = ("evaluate", "--data", root, "--sets", "toy", "--protocol", protocol.name, "--model", "row")
        assert run(*arguments, "--out", root / "out", "--json") == 0
        lines = json.loads(capsys.readouterr().out)["lines"]
        assert [line["metric"] for line in lines] == list(protocol.metrics)
        assert {(line["set"], line["images"], line["expected"]) for line in lines} == {("toy", 2, 2)}
        assert all(np.isfinite(line["ours"]) for line in lines)

    (root / "toy/pictures/1.npy").unlink()
    with pytest.raises(ValueError, match=rf"Toy: 1 of 2 images found .*layout: see {__name__}; source: this test"):
        read_benchmark("toy", root)
