"""Protocol `pairs`: a manifest made here in all three kinds, and the shared photographs, whose floors are known."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from scene_shards import scene

from depth_anything.data.benchmarks import pairs as reader
from depth_anything.data.benchmarks.image import GroundTruth
from depth_anything.data.shards import write_shard
from depth_anything.evaluate.candidate import CONSTANT, ROW
from depth_anything.evaluate.pairs import CLEAR_RATIO, evaluate_pairs, point_pairs, run_pairs
from depth_anything.evaluate.protocol import PAIRS, Cut
from depth_anything.evaluate.score import align

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def manifest(tmp_path):
    """Four pairs in three scenes; the red channel of an image is its true disparity, so that a model can know it."""
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
    ground_truth, image_HW3 = cases[0].read_ground_truth(), cases[0].read_image()
    assert ground_truth.kind == "metric_depth"
    assert image_HW3.dtype == np.uint8
    expected = 50 / red(image_HW3)
    assert np.abs(ground_truth.values_HW - expected)[ground_truth.valid_HW].max() <= 0.5 / 4000
    assert 0.6 < ground_truth.valid_HW.mean() < 0.8


def test_the_ground_truth_as_a_model_is_nearly_perfect(manifest):
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
        ground_truth = gt[valid] / entry["gt_scale"]
        disparity = ground_truth if entry["kind"] == "disparity" else 1 / ground_truth
        s, t = np.polyfit(predict(image)[valid], disparity, 1)
        aligned = np.maximum(s * predict(image)[valid] + t, np.percentile(disparity, 1))
        answer = aligned if entry["kind"] == "disparity" else 1 / aligned
        result[entry["id"]] = np.mean(np.abs(answer - ground_truth) / ground_truth), s < 0
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


def test_baselines_use_the_same_protocol(manifest):
    row = json.loads(run_pairs(manifest, ROW, "json"))
    hand = by_hand(manifest, lambda image: np.repeat(np.arange(HEIGHT)[:, None], WIDTH, axis=1).astype(float))
    assert row["outdoor"]["row_abs_rel"] == pytest.approx(hand["d"][0])
    assert row["all"]["abs_rel"] == pytest.approx(row["all"]["row_abs_rel"])
    constant = json.loads(run_pairs(manifest, CONSTANT, "json"))
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
    low, high = first["all"]["ordinal_minus_row_95"]
    assert 0 < low <= first["all"]["ordinal"] - first["all"]["row_ordinal"] <= high


def noisy(image_HW3):
    """Half right, never the same value twice."""
    return red(image_HW3) + np.random.default_rng(int(image_HW3.sum())).normal(0, 60, image_HW3.shape[:2])


def order_of_all_pairs(manifest, predict):
    """Of every two pixels whose depths differ by a tenth, how often is the nearer one nearer: all of them, no draw."""
    result = {}
    for entry in json.loads(manifest.read_text()):
        image = np.asarray(Image.open(manifest.parent / entry["rgb"]))
        gt = np.asarray(Image.open(manifest.parent / entry["gt"])).astype(np.float64)
        ground_truth, answer = gt[gt > 0], predict(image)[gt > 0]
        nearness = ground_truth if entry["kind"] == "disparity" else 1 / ground_truth
        clear = nearness[:, None] >= 1.1 * nearness[None, :]
        result[entry["id"]] = (answer[:, None] > answer[None, :])[clear].mean()
    return result


def test_ordinal_accuracy_is_that_of_all_pairs_within_the_draw(manifest):
    hand = order_of_all_pairs(manifest, noisy)
    rows = list(csv.DictReader(io.StringIO(evaluate_pairs(manifest, noisy, "noisy").report().render("csv"))))
    assert [row["key"] for row in rows] == list(hand)
    for row in rows:  # of about 16,000 pairs: 0.015 is four deviations
        assert 0.6 < hand[row["key"]] < 0.95
        assert float(row["model_ordinal"]) == pytest.approx(hand[row["key"]], abs=0.015)
    hand = order_of_all_pairs(manifest, lambda image: np.repeat(np.arange(HEIGHT)[:, None], WIDTH, axis=1))
    for row in rows:
        assert float(row["row_ordinal"]) == pytest.approx(hand[row["key"]], abs=0.015)


def test_order_needs_no_fit_and_forgives_none(manifest):
    def accuracy(predict, quantity="disparity"):
        return evaluate_pairs(manifest, predict, "any", quantity).as_dict()["all"]["ordinal"]

    assert accuracy(red) == 1
    assert accuracy(lambda image: np.exp(red(image) / 50)) == 1
    assert accuracy(lambda image: -red(image)) == 0  # the fit turns this map round, the order stays wrong
    assert accuracy(lambda image: 50 / red(image), "depth_m") == 1
    assert evaluate_pairs(manifest, red, "any").as_dict()["all"]["constant_ordinal"] == 0


@pytest.mark.parametrize("kind", ["metric_depth", "disparity"])
def test_point_pairs_are_clear_scored_and_always_the_same(kind):
    rng = np.random.default_rng(1)
    ground_truth = GroundTruth(rng.uniform(1, 3, (40, 50)), rng.random((40, 50)) < 0.5, kind)
    aligned = align(rng.random((40, 50)), "disparity", ground_truth, PAIRS, Cut())
    nearer, farther = point_pairs(aligned)
    assert ground_truth.valid_HW.ravel()[nearer].all() and ground_truth.valid_HW.ravel()[farther].all()
    near, far = ground_truth.values_HW.ravel()[nearer], ground_truth.values_HW.ravel()[farther]
    ratio = near / far if kind == "disparity" else far / near
    assert ratio.min() >= CLEAR_RATIO
    other = align(rng.random((40, 50)), "disparity", ground_truth, PAIRS, Cut())
    assert all(np.array_equal(a, b) for a, b in zip(point_pairs(other), (nearer, farther), strict=True))


def test_ground_truth_without_clear_pairs_has_no_ordinal_accuracy(manifest):
    wall = np.full((HEIGHT, WIDTH), 4000, np.uint16)
    wall[: HEIGHT // 2] = 4200
    Image.fromarray(wall).save(manifest.parent / "d" / "gt.png")
    result = evaluate_pairs(manifest, red, "oracle")
    outdoor = result.as_dict()["outdoor"]
    assert (outdoor["ordinal"], outdoor["row_ordinal"], outdoor["ordinal_minus_row_95"]) == (None, None, None)
    assert (outdoor["ordinal_pairs"], result.as_dict()["all"]["ordinal_pairs"]) == (0, 3)
    assert not re.search(r"ordinal accuracy \S+ +outdoor", result.report().render("text"))


def slow_edges(depth_HW, ground_truth_HW, t):
    """Depth Pro's four relations, pixel by pixel: hits, claims and edges for each direction."""
    counts = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        hits = claims = edges = 0
        for y in range(ground_truth_HW.shape[0]):
            for x in range(ground_truth_HW.shape[1]):
                if 0 <= y + dy < ground_truth_HW.shape[0] and 0 <= x + dx < ground_truth_HW.shape[1]:
                    claim = depth_HW[y + dy, x + dx] > t * depth_HW[y, x]
                    edge = ground_truth_HW[y + dy, x + dx] > t * ground_truth_HW[y, x]
                    hits, claims, edges = hits + (claim and edge), claims + claim, edges + edge
        counts.append((hits, claims, edges))
    return counts


def test_outlines_are_measured_on_dense_ground_truth_after_the_fit(manifest):
    """Pair d becomes dense: a box before a wall. The others miss 30 % of their pixels and stay out."""
    ground_truth = np.full((HEIGHT, WIDTH), 2.0)
    ground_truth[8:16, 10:20] = 1.0
    Image.fromarray((ground_truth * 4000).astype(np.uint16)).save(manifest.parent / "d" / "gt.png")

    def displaced(image_HW3):
        return np.roll(1 / ground_truth, 1, axis=1)

    result = evaluate_pairs(manifest, displaced, "displaced").as_dict()
    assert (result["indoor"]["boundary_f1"], result["indoor"]["boundary_f1_pairs"]) == (None, 0)
    assert result["all"]["boundary_f1_groups"] == result["all"]["coarse_boundary_f1_pairs"] == 1
    s, t = np.polyfit(displaced(None).ravel(), (1 / ground_truth).ravel(), 1)
    depth = 1 / np.maximum(s * displaced(None) + t, np.percentile(1 / ground_truth, 1))
    f1, thresholds = [], np.linspace(1.05, 1.25, 10)
    for threshold in thresholds:
        counts = slow_edges(depth, ground_truth, threshold)
        precision = np.mean([hits / max(claims, 1) for hits, claims, _ in counts])
        recall = np.mean([hits / max(edges, 1) for hits, _, edges in counts])
        f1.append(2 * precision * recall / (precision + recall))
    hand = np.average(f1, weights=thresholds)
    assert 0.3 < hand < 0.6
    assert result["outdoor"]["boundary_f1"] == pytest.approx(hand)
    assert result["outdoor"]["row_boundary_f1"] < 0.1
    perfect = evaluate_pairs(manifest, lambda image: 1 / ground_truth, "perfect").as_dict()
    assert perfect["outdoor"]["boundary_f1"] == pytest.approx(1)


def test_rendered_scenes_have_outlines_however_much_of_them_is_sky(tmp_path):
    write_shard(tmp_path / "scenes-00000.tar", [scene(seed, 8, 32) for seed in range(2)])  # one row of eight is sky
    (case, _), result = reader.read(tmp_path), evaluate_pairs(tmp_path, red, "red").as_dict()
    assert case.read_ground_truth().valid_HW.mean() < 0.9
    assert list(result) == ["protocol", "model", "all"]
    assert result["all"]["boundary_f1_pairs"] == result["all"]["pairs"] == 2


def test_text_and_markdown_show_the_baselines_beside_the_model(manifest):
    result = evaluate_pairs(manifest, noisy, "noisy")
    found = result.as_dict()
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in result.report().render("markdown").splitlines()
    ]
    table = {(line[0], line[1]): line[2:] for line in lines if len(line) == 8}
    for label, metric in (("AbsRel ↓", "abs_rel"), ("δ1 ↑", "delta1"), ("ordinal accuracy ↑", "ordinal")):
        for region in ("all", "indoor", "outdoor"):
            r = found[region]
            means = [f"{r[name]:.3f}" for name in (metric, f"row_{metric}", f"constant_{metric}")]
            assert table[label, region][:5] == [str(r["groups"]), str(r["pairs"]), *means]
            low, high = r[f"{metric}_minus_row_95"]
            interval = f"[{low:+.3f}, {high:+.3f}]" if r["groups"] > 1 else "(one scene)"
            assert table[label, region][5] == f"{r[metric] - r[f'row_{metric}']:+.3f} {interval}"
    text = result.report().render("text")
    assert "Protocol pairs, model noisy" in text and "upside down: 0 of 4 maps" in text
    for (label, region), cells in table.items():
        if region in ("all", "indoor", "outdoor"):
            assert re.search(rf"^{label} +{region} +{' +'.join(map(re.escape, cells))}$", text, flags=re.MULTILINE)


def test_page_of_images_and_report_in_every_form(manifest, tmp_path):
    assert run_pairs(manifest, CONSTANT, out=tmp_path / "page", page_images=2) == run_pairs(manifest, CONSTANT)
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<td>ordinal accuracy ↑</td><td>outdoor</td>" in page
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 2 * 6  # image, truth, and map and error of the model and of the row
    assert all((tmp_path / "page" / source).is_file() for source in sources)
    for form, suffix in (("text", "txt"), ("json", "json"), ("csv", "csv"), ("markdown", "md")):
        assert (tmp_path / "page" / f"report.{suffix}").read_text() == run_pairs(manifest, CONSTANT, form) + "\n"
    with pytest.raises(ValueError, match="no report form 'yaml'; expected one of text"):
        run_pairs(manifest, CONSTANT, "yaml")


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


def test_row_baselines_of_the_shared_photographs(shared):
    """The figures that the project's tables quote: a change here is a change of protocol."""
    result = json.loads(run_pairs(shared / "data" / "pairs" / "manifest.json", ROW, "json"))
    assert (result["all"]["groups"], result["all"]["pairs"]) == (25, 49)
    for region, abs_rel, delta1 in (("all", 0.295, 0.591), ("indoor", 0.223, 0.626), ("outdoor", 0.448, 0.514)):
        assert round(result[region]["row_abs_rel"], 3) == abs_rel
        assert round(result[region]["row_delta1"], 3) == delta1
        assert result[region]["negative_scale"] == 0
    for region, accuracy in (("all", 0.775), ("indoor", 0.761), ("outdoor", 0.805)):
        assert round(result[region]["row_ordinal"], 3) == accuracy
    assert (result["all"]["boundary_f1_groups"], result["all"]["boundary_f1_pairs"]) == (6, 10)


def test_our_own_predictor_is_taken_by_its_quantity(manifest):
    from types import SimpleNamespace

    from depth_anything.evaluate.load_candidate import from_predictor

    class Predictor:
        variant = SimpleNamespace(quantity="depth_m", name="v2-metric-any")

        def __call__(self, image_HW3):
            return SimpleNamespace(depth_m=50 / red(image_HW3), disparity=None)

    candidate = from_predictor(Predictor())  # type: ignore[arg-type]
    assert (candidate.name, candidate.quantity) == ("v2-metric-any", "depth_m")
    image_HW3 = reader.read(manifest)[0].read_image()
    assert np.array_equal(candidate.predict(image_HW3, "a"), 50 / red(image_HW3))
