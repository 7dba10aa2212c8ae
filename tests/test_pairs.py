"""Protocol `pairs`: a manifest made here in all three kinds, and the shared photographs, whose floors are known."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from depth_anything.data.benchmarks import pairs as reader
from depth_anything.evaluate.pairs import evaluate_pairs, run_pairs

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def manifest(tmp_path):
    """Four pairs in three scenes; the red channel of a picture is its true disparity, so that a model can know it."""
    rng = np.random.default_rng(0)
    entries = []
    for name, kind, group, env in [
        ("a", "metric_depth", "one", "indoor"),
        ("b", "relative_depth", "one", "indoor/attic"),
        ("c", "disparity", "two", "indoor"),
        ("d", "metric_depth", "one", "outdoor/driving"),
    ]:
        red = rng.integers(50, 250, (HEIGHT, WIDTH))
        gt_scale = 4000.0
        values = red / 50 if kind == "disparity" else 50 / red
        gt = np.round(values * gt_scale).astype(np.uint16)
        gt[rng.random(gt.shape) < 0.3] = 0
        (tmp_path / name).mkdir()
        Image.fromarray(np.stack([red, red * 0, red * 0], axis=2).astype(np.uint8)).save(tmp_path / name / "rgb.png")
        Image.fromarray(gt).save(tmp_path / name / "gt.png")
        entries.append(
            {"id": name, "rgb": f"{name}/rgb.png", "gt": f"{name}/gt.png", "gt_scale": gt_scale}
            | {"kind": kind, "scene_group": group, "env": env, "licence": "ignored"}
        )
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


def edit(manifest, change):
    entries = json.loads(manifest.read_text())
    change(entries)
    manifest.write_text(json.dumps(entries))
    return manifest


def red(image_HW3):
    return image_HW3[:, :, 0].astype(np.float32)


def test_reader_gives_what_the_manifest_says(manifest):
    cases = reader.read(manifest)
    assert [(c.key, c.group, c.region) for c in cases] == [
        ("a", "one", "indoor"),
        ("b", "one", "indoor"),
        ("c", "two", "indoor"),
        ("d", "one", "outdoor"),
    ]
    truth, image_HW3 = cases[0].read_truth(), cases[0].read_image()
    assert truth.kind == "metric_depth"
    assert image_HW3.dtype == np.uint8
    expected = 50 / red(image_HW3)
    assert np.abs(truth.values_HW - expected)[truth.valid_HW].max() <= 0.5 / 4000
    assert 0.6 < truth.valid_HW.mean() < 0.8


def test_the_model_that_knows_the_truth_is_nearly_perfect(manifest):
    result = evaluate_pairs(manifest, red, "oracle").as_dict()
    assert result["protocol"] == "pairs"
    assert result["model"] == "oracle"
    for region, groups, pairs in (("all", 3, 4), ("indoor", 2, 3), ("outdoor", 1, 1)):
        r = result[region]
        assert (r["groups"], r["pairs"], r["negative_scale"]) == (groups, pairs, 0)
        assert r["abs_rel"] < 2e-3  # the floor cuts the farthest hundredth
        assert r["delta1"] == 1


def by_hand(manifest, predict):
    """The protocol once more, written plainly: AbsRel per pair."""
    result = {}
    for entry in json.loads(manifest.read_text()):
        image = np.asarray(Image.open(manifest.parent / entry["rgb"]))
        gt = np.asarray(Image.open(manifest.parent / entry["gt"])).astype(np.float64)
        valid = gt > 0
        truth = gt[valid] / entry["gt_scale"]
        disparity = truth if entry["kind"] == "disparity" else 1 / truth
        s, t = np.polyfit(predict(image)[valid], disparity, 1)
        aligned = np.maximum(s * predict(image)[valid] + t, np.percentile(disparity, 1))
        answer = aligned if entry["kind"] == "disparity" else 1 / aligned
        result[entry["id"]] = np.mean(np.abs(answer - truth) / truth), s < 0
    return result


def test_averages_over_a_scene_first_and_counts_maps_that_run_backwards(manifest):
    def predict(image_HW3):
        noise = np.random.default_rng(int(image_HW3.sum())).normal(0, 60, image_HW3.shape[:2])
        return noise - red(image_HW3)

    hand = by_hand(manifest, predict)
    result = evaluate_pairs(manifest, predict, "reversed").as_dict()
    groups = [np.mean([hand["a"][0], hand["b"][0]]), hand["c"][0], hand["d"][0]]
    assert result["all"]["abs_rel"] == pytest.approx(np.mean(groups))
    assert result["indoor"]["abs_rel"] == pytest.approx(np.mean(groups[:2]))
    assert result["outdoor"]["abs_rel"] == pytest.approx(hand["d"][0])
    assert result["all"]["negative_scale"] == sum(negative for _, negative in hand.values()) == 4


def test_floors_go_through_the_same_protocol(manifest):
    row = json.loads(run_pairs(manifest, "row", as_json=True))
    hand = by_hand(manifest, lambda image: np.repeat(np.arange(HEIGHT)[:, None], WIDTH, axis=1).astype(float))
    assert row["outdoor"]["row_abs_rel"] == pytest.approx(hand["d"][0])
    assert row["all"]["abs_rel"] == pytest.approx(row["all"]["row_abs_rel"])
    constant = json.loads(run_pairs(manifest, "constant", as_json=True))
    assert constant["all"]["abs_rel"] == constant["all"]["constant_abs_rel"]
    assert constant["all"]["delta1_minus_row_95"][0] <= constant["all"]["delta1_minus_row_95"][1]
    assert row["all"]["delta1_minus_row_95"] == pytest.approx([0, 0])


def test_maps_of_any_size_and_metres_are_taken(manifest):
    small = evaluate_pairs(manifest, lambda image: red(image)[::2, ::2], "half size").as_dict()
    assert small["all"]["abs_rel"] > 0
    metres = evaluate_pairs(manifest, lambda image: 50 / red(image), "metric", quantity="depth_m").as_dict()
    assert metres["all"]["delta1"] == 1


def test_bootstrap_is_seeded_and_holds_the_mean(manifest):
    first, second = (evaluate_pairs(manifest, red, "oracle").as_dict() for _ in range(2))
    assert first == second
    low, high = first["all"]["abs_rel_minus_row_95"]
    assert low <= first["all"]["abs_rel"] - first["all"]["row_abs_rel"] <= high < 0


def test_text_shows_the_floors_beside_the_model(manifest):
    text = run_pairs(manifest, "constant")
    assert "protocol pairs, model constant" in text
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["all", "indoor", "outdoor"]


def test_page_of_pictures(manifest, tmp_path):
    assert run_pairs(manifest, "constant", out=tmp_path / "page", pictures=2) == run_pairs(manifest, "constant")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "protocol pairs, model constant" in page
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 2 * 6  # picture, truth, and map and error of the model and of the row
    assert all((tmp_path / "page" / source).is_file() for source in sources)


def test_a_region_without_pairs_is_left_out(manifest):
    edit(manifest, lambda entries: entries.pop())
    assert "outdoor" not in evaluate_pairs(manifest, red, "oracle").as_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[1].pop("kind"), r"entry 1 \(b\): missing kind"),
        (lambda e: e[2].update(kind="depth"), r"entry 2 \(c\): kind is 'depth', expected one of metric_depth"),
        (lambda e: e[0].update(gt_scale=0), "gt_scale is 0, expected a positive number"),
        (lambda e: e[0].update(gt_scale="1000"), "gt_scale is '1000', expected a number"),
        (lambda e: e[0].update(env="inside"), "env is 'inside', expected indoor or outdoor"),
        (lambda e: e[3].update(id="a"), "id 'a' occurs twice"),
        (
            lambda e: e[3].update(gt="d/lost.png"),
            r"7 of 8 files found under .*; the first missing one is .*d/lost\.png",
        ),
        (lambda e: e.clear(), "at least one entry"),
        (lambda e: e.append("b"), "entry 4: expected an object, got str"),
    ],
)
def test_a_broken_manifest_is_named(manifest, change, message):
    edit(manifest, change)
    with pytest.raises(ValueError, match=message):
        evaluate_pairs(manifest, red, "any")


def test_broken_files_are_named_and_nothing_is_averaged_without_them(manifest):
    gt = manifest.parent / "c" / "gt.png"
    whole = gt.read_bytes()
    gt.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"pair c: .*gt\.png: cannot be read as a PNG"):
        evaluate_pairs(manifest, red, "any")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(gt)
    with pytest.raises(ValueError, match=r"pair c: .*one channel \(16 bits\), got pixels L"):
        evaluate_pairs(manifest, red, "any")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(gt)
    with pytest.raises(ValueError, match="pair c: only 0 pixels to score"):
        evaluate_pairs(manifest, red, "any")


def test_wrong_places_are_named(tmp_path, manifest):
    with pytest.raises(ValueError, match=r"did you mean .*manifest\.json"):
        reader.read(manifest.parent)
    with pytest.raises(ValueError, match="no manifest at"):
        reader.read(tmp_path / "no.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        reader.read(tmp_path / "bad.json")


def test_paths_may_start_one_folder_above(manifest):
    inner = manifest.parent / "pairs"
    inner.mkdir()
    moved = manifest.rename(inner / "manifest.json")
    assert len(reader.read(moved)) == 4


def test_row_floors_of_the_shared_photographs(shared):
    """The figures that the project's tables quote: a change here is a change of protocol."""
    result = json.loads(run_pairs(shared / "data" / "pairs" / "manifest.json", "row", as_json=True))
    assert (result["all"]["groups"], result["all"]["pairs"]) == (25, 49)
    for region, abs_rel, delta1 in (("all", 0.295, 0.591), ("indoor", 0.223, 0.626), ("outdoor", 0.448, 0.514)):
        assert round(result[region]["row_abs_rel"], 3) == abs_rel
        assert round(result[region]["row_delta1"], 3) == delta1
        assert result[region]["negative_scale"] == 0


def test_our_own_predictor_is_taken_by_its_quantity(manifest):
    from types import SimpleNamespace

    from depth_anything.evaluate.models import from_predictor

    class Predictor:
        variant = SimpleNamespace(quantity="depth_m", name="v2-metric-any")

        def __call__(self, image_HW3):
            return SimpleNamespace(depth_m=50 / red(image_HW3), disparity=None)

    candidate = from_predictor(Predictor())  # type: ignore[arg-type]
    assert (candidate.name, candidate.quantity) == ("v2-metric-any", "depth_m")
    image_HW3 = reader.read(manifest)[0].read_image()
    assert np.array_equal(candidate.predict(image_HW3, "a"), 50 / red(image_HW3))
