"""The papers' tables: printed numbers checked against the papers' text, and the run that sets ours beside them."""

import csv
import io
import json
import re

import numpy as np
import pytest
from command import run as command
from layouts.benchmarks import WRITERS, write_da2k

from depth_anything.data.benchmarks.sets import BENCHMARKS
from depth_anything.data.set_sizes import LABELED_IMAGES, UNLABELED_IMAGES, V1_TABLE_1
from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.protocol import PROTOCOLS, get_protocol
from depth_anything.evaluate.published import TABLES, get_table
from depth_anything.evaluate.report import FORMS
from depth_anything.evaluate.run_tables import run
from depth_anything.train.recipes.ablations import ABLATIONS
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.v1 import V1_LABELED
from depth_anything.variants import VARIANTS


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_table_is_consistent(table):
    for row in table.rows:
        table.published(row)  # as many numbers as columns
        assert row.model is None or row.model.startswith("hf:") or row.model in VARIANTS
    if table.protocol in (None, "da2k"):
        return
    protocol = get_protocol(table.protocol)
    assert set(table.metrics) <= set(protocol.metrics) <= set(METRICS)
    for name in table.sets:
        assert name in BENCHMARKS
        assert protocol.cut(name)
    assert set(table.marks) <= set(table.sets) | {"ddad"}


def test_every_table_has_a_source_and_every_ablation_its_published_rows():
    """A recipe that varies a paper's run stands beside the row that the paper prints for it."""
    named = set()
    for table in TABLES.values():
        assert re.match(r"Depth Anything V[12], |MoGe, ", table.source)
        assert set(table.recipes) <= {row.label for row in table.rows}
        assert all(get_recipe(name).name == name for name in table.recipes.values())
        named |= set(table.recipes.values())
    drawn = ("v2-gradient-weight-", "v2-teacher-giant-hrwsi")  # figures 10 and 12 show maps, no numbers
    ours = ("nano-",)
    for name in set(ABLATIONS) - named:
        printed_for_large_alone = name.startswith("v1-table9-") and not name.endswith("-large")
        assert name.startswith(drawn + ours) or printed_for_large_alone, name


def test_columns_of_v1s_table_1_stand_in_its_text(shared):
    text = next((shared / "seeds").glob("002_*.txt")).read_text()
    for name, row in V1_TABLE_1.items():
        ticks = " ".join(["\N{CHECK MARK}"] * (row.indoor + row.outdoor))
        count = (LABELED_IMAGES | UNLABELED_IMAGES)[name]
        size = f"{count / 1e6:.1f}M" if count >= 1_000_000 else f"{count // 1000}K"
        assert re.search(rf"{re.escape(row.title)} \[\d+\] {ticks} {row.label} {re.escape(size)}\n", text), name
    assert set(V1_TABLE_1) == {*V1_LABELED, *UNLABELED_IMAGES}


def test_printed_means_of_table_6_are_the_means_of_its_cells():
    """V1 prints a mean column, which the table does not hold: a slip in copying would show here."""
    printed = {"BlendedMVS": (0.210, 0.844), "DIML": (0.226, 0.837), "HRWSI": (0.200, 0.846), "IRS": (0.215, 0.840)}
    printed |= {"MegaDepth": (0.274, 0.780), "TartanAir": (0.222, 0.841), "all labelled": (0.180, 0.874)}
    table = get_table("v1-table6")
    for row in table.rows:
        values = table.published(row)
        for metric, mean in zip(table.metrics, printed[row.label], strict=True):
            cells = [v for (_, m), v in values.items() if m == metric and v is not None]
            assert np.mean(cells) == pytest.approx(mean, abs=6e-4)


def test_numbers_stand_in_the_papers_text(shared):
    text = "\n".join((shared / "seeds").glob("002_*.txt").__next__().read_text().splitlines())
    text = re.sub(r"\s+", " ", text)
    for name in ("v1-table2", "v1-table3", "v1-table4", "v1-table6", "v1-table8", "v1-table9"):
        for row in get_table(name).rows:
            assert row.values in text, (name, row.label)


def test_papers_agree_where_they_print_the_same_number():
    v1, v2 = get_table("v1-table2"), get_table("v2-table2")
    for model in ("v1-small", "v1-base", "v1-large"):
        for column, value in v2.published_for(model).items():
            assert v1.published_for(model)[column] == value
    for size in ("small", "base", "large"):
        chosen = get_table("v2-table5").published_for(f"v2-{size}")
        assert chosen and chosen == v2.published_for(f"v2-{size}")
    rows = {row.label: row.values for name in ("v2-table5", "v2-table13") for row in get_table(name).rows}
    assert rows["ViT-L, S"] == rows["DINOv2-L"] and rows["the teacher, ViT-G, S"] == rows["DINOv2-G"]
    da2k = {row.model: row.values for row in get_table("da2k").rows}
    assert all(da2k[row.model] == row.values for row in get_table("v2-table5-da2k").rows if row.model)
    ablation = get_table("v1-table9").published_for("v1-large")
    assert all(v1.published_for("v1-large")[column] == value for column, value in ablation.items())


@pytest.fixture
def root(tmp_path):
    for name in ("kitti", "nyuv2", "diode"):
        WRITERS[name](tmp_path / "data")
    return tmp_path / "data"


def go(root, **changes):
    arguments = {"sets": ["kitti", "nyuv2"], "partial": True, "out": root.parent / "out", "page_images": 1}
    return run("v1-table2", root, ["row"], **(arguments | changes))


def test_ours_stand_beside_the_published_numbers(root, monkeypatch):
    """A model with a row of its own: perfect maps under the name of ViT-S."""
    from depth_anything.evaluate import run_tables
    from depth_anything.evaluate.candidate import Candidate

    def predict(image_HW3, key):
        depth = np.linspace(1.5, 6.5, image_HW3.shape[1])
        return np.broadcast_to(1 / depth, image_HW3.shape[:2])

    monkeypatch.setattr(run_tables, "load_candidate", lambda name, **options: Candidate(name, "disparity", predict))
    report = json.loads(run("v1-table2", root, ["v1-small"], sets=["kitti", "diode-indoor"], partial=True,
                            out=root.parent / "out", form="json"))  # fmt: skip
    lines = {(line["set"], line["metric"]): line for line in report["lines"]}
    kitti = lines["kitti", "abs_rel"]
    assert kitti["ours"] < 1e-3
    assert kitti["published"] == 0.080
    assert kitti["difference"] == pytest.approx(kitti["ours"] - 0.080)
    assert kitti["mark"] == "reproducible"
    assert (kitti["images"], kitti["expected"]) == (2, 652)
    assert lines["diode-indoor", "delta1"]["published"] == 0.939


def test_every_form_of_the_report_and_the_page(root):
    text = go(root)
    assert text.splitlines()[0] == "V1 Table 2: zero-shot relative depth"
    assert "2 of 652" in text
    assert "kitti: only 2 of 652 images; not comparable with any publication" in text
    out = root.parent / "out"
    assert (out / "report.txt").read_text().strip() == text
    numbers = json.loads((out / "report.json").read_text())["lines"]
    rows = list(csv.DictReader(io.StringIO((out / "report.csv").read_text())))
    assert [float(row["ours"]) for row in rows] == [line["ours"] for line in numbers]
    assert (out / "report.md").read_text().count("\n|") == 2 + len(numbers)
    page = (out / "index.html").read_text()
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 2 * 4  # one image a set: image, truth, map, error
    assert all((out / source).is_file() for source in sources)
    for form in FORMS:
        assert go(root, form=form)


def test_another_protocol_hides_the_published_numbers(root):
    report = json.loads(go(root, protocol="midas", form="json"))
    assert {line["published"] for line in report["lines"]} == {None}
    assert {line["protocol"] for line in report["lines"]} == {"midas"}


def test_any_set_under_any_protocol_that_covers_it_without_a_table(root):
    """`diode` stands in no published table, Marigold's cut for it in no table's protocol."""
    pairs = [(name, rules) for name in ("kitti", "nyuv2", "diode") for rules in PROTOCOLS.values()
             if (name in rules.cuts or rules.default_cut) and rules.align != "none"]  # fmt: skip
    assert ("diode", get_protocol("marigold")) in pairs
    for name, rules in pairs:
        report = json.loads(run(None, root, ["row"], sets=[name, name], protocol=rules.name, partial=True,
                                out=root.parent / "out", page_images=0, form="json"))  # fmt: skip
        assert report["title"] == f"{name} under protocol {rules.name}"
        found = {(line["set"], line["protocol"], line["metric"], line["published"]) for line in report["lines"]}
        assert found == {(name, rules.name, metric, None) for metric in rules.metrics}


def test_the_command_takes_sets_and_a_protocol_in_place_of_a_table(root, capsys):
    arguments = ("evaluate", "--data", root, "--model", "row", "--partial", "--out", root.parent / "out")
    assert command(*arguments, "--sets", "diode", "--protocol", "marigold") == 0
    assert capsys.readouterr().out.startswith("diode under protocol marigold\n")
    for given, told in (
        (("--sets", "diode"), "nothing to measure: give a table (pairs, da2k, v1-table2, ...), or test sets and a"),
        (("--sets", "diode", "--protocol", "best"), "no protocol 'best'; expected one of pairs"),
        (("--sets", "dio", "--protocol", "moge"), "no test set 'dio'; did you mean diode? expected one of kitti"),
        (("--sets", "diode", "--protocol", "midas"), "protocol midas is not defined for diode; it covers: nyuv2"),
    ):
        assert command(*arguments, *given) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {told}") and error.count("\n") == 1


def test_mean_over_the_sets_needs_all_of_them(tmp_path):
    for name in ("kitti", "nyuv2", "sintel", "ddad", "eth3d", "diode"):
        WRITERS[name](tmp_path / "data")
    text = run("v1-table9", tmp_path / "data", ["constant"], partial=True, out=tmp_path / "out", page_images=0)
    assert "mean over the 6 sets, constant: abs_rel" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partial": False}, r"KITTI: 2 of 652 images found.*NYUv2: 2 of 654 images found"),
        ({"sets": ["kitti", "sintel"]}, r"Sintel: nothing found under .*--sets kitti$"),
        ({"sets": ["ibims"]}, "v1-table2 has no column ibims; it has: kitti.*--sets ibims --protocol NAME"),
        ({"protocol": "v2-metric"}, "needs a metric model"),
        ({"protocol": "best"}, "no protocol 'best'"),
        ({"form": "pdf"}, "no report form 'pdf'"),
    ],
)
def test_what_cannot_be_run_is_one_line(root, changes, message):
    changes = {"sets": ["kitti"]} | changes if "protocol" in changes else changes
    with pytest.raises(ValueError, match=message) as error:
        go(root, **changes)
    assert "\n" not in str(error.value)


def test_unknown_and_unmeasured_tables(tmp_path):
    with pytest.raises(ValueError, match="no table 'v3'; expected one of pairs, da2k-propose, v1-table2"):
        run("v3", tmp_path)
    with pytest.raises(ValueError, match="about segmentation"):
        run("v1-table7", tmp_path)
    with pytest.raises(ValueError, match=r"no folder .*nowhere: expected the folder"):
        run("v1-table2", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no released model"):
        run("v2-table4-nyu", tmp_path)
    with pytest.raises(ValueError, match="no model to measure; say which to measure: --model NAME"):
        run(None, tmp_path, sets=["diode"], protocol="moge")


# -- DA-2K -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def da2k_root(tmp_path):
    """Images whose first channel grows to the right: column order is what a map of that channel knows."""
    right_is_closer = {"point1": [3, 25], "point2": [17, 2], "closer_point": "point1"}
    left_is_closer = {"point1": [3, 2], "point2": [4, 20], "closer_point": "point1"}
    level = {"point1": [3, 9], "point2": [12, 9], "closer_point": "point1"}
    folder = tmp_path / "data" / "da2k"
    folder.mkdir(parents=True)
    write_da2k(folder, {
        "images/indoor/a.png": [right_is_closer, left_is_closer],
        "images/aerial/b.png": [right_is_closer, level, right_is_closer],
    })  # fmt: skip
    return tmp_path


def save_maps(root, sign):
    folder = root / "maps"
    for name in ("images/indoor/a.png", "images/aerial/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", sign * np.broadcast_to(np.arange(30.0), (20, 30)))
    return folder


@pytest.mark.parametrize(
    ("sign", "kind", "accuracy"), [(1, "disparity", 60), (-1, "disparity", 20), (0, "disparity", 0), (1, "depth_m", 20)]
)
def test_da2k_rules(da2k_root, sign, kind, accuracy):
    """3 of 5 right, 1 tie, which is wrong; a reversed map gets the rest, a constant one nothing; metres are negated."""
    model = f"predictions:{kind}:{save_maps(da2k_root, sign)}"
    report = json.loads(run("da2k", da2k_root / "data", [model], form="json", out=da2k_root / "out"))
    assert report["lines"][0]["ours"] == pytest.approx(accuracy)
    if (sign, kind) == (1, "disparity"):
        assert "indoor 50.0, aerial 66.7; ties 20.0, of 5 pairs" in report["notes"][0]


def test_da2k_refuses_points_outside_the_image(da2k_root):
    file = da2k_root / "data/da2k/annotations.json"
    file.write_text(file.read_text().replace("[17, 2]", "[20, 2]"))
    with pytest.raises(ValueError, match=r"images/indoor/a\.png: a point lies outside the image of 20 rows and 30"):
        run("da2k", da2k_root / "data", ["row"], out=da2k_root / "out")


def test_da2k_resumes(da2k_root):
    from depth_anything.data.benchmarks import da2k
    from depth_anything.evaluate.candidate import Candidate
    from depth_anything.evaluate.da2k import evaluate_da2k

    def right(image_HW3, key):
        if key.endswith(stop_at):
            raise KeyboardInterrupt
        asked.append(key)
        return np.broadcast_to(np.arange(float(image_HW3.shape[1])), image_HW3.shape[:2])

    root, out, asked = da2k_root / "data/da2k", da2k_root / "out", []
    first, second = (image.key for image in da2k.read(root))
    stop_at = second
    with pytest.raises(KeyboardInterrupt):
        evaluate_da2k(root, [Candidate("right", "disparity", right)], out)
    stop_at = "nothing"
    (result,) = evaluate_da2k(root, [Candidate("right", "disparity", right)], out)
    assert asked == ["probe", first, "probe", second]
    assert result.accuracy == pytest.approx(0.6)
    assert result.ties == pytest.approx(0.2)
