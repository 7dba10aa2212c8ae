"""`data check` over the official layouts: counts, ranges, faults, exit codes, the sheet."""

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from layouts.labeled import HEIGHT, HOLE, TRUTH_M, WIDTH, WRITERS, save_h5, save_image, save_png8, save_png16
from PIL import Image
from scene_shards import SIZES, scene

from depth_anything.cli.data import short
from depth_anything.data import check as module
from depth_anything.data.check import check, spread
from depth_anything.data.labeled.sets import LABELED
from depth_anything.data.sample import Sample
from depth_anything.data.set_sizes import LABELED_IMAGES
from depth_anything.data.shards import write_shard


@pytest.mark.parametrize("name", WRITERS)
def test_a_whole_copy(name, tmp_path, capsys):
    WRITERS[name](tmp_path / "data")
    assert run("data", "check", name, tmp_path / "data", "-o", tmp_path / "out") == 0
    said = capsys.readouterr().out
    expected = LABELED[name].images
    printed = short(LABELED_IMAGES[name])
    assert f"2 images in {tmp_path / 'data'}; the papers train on {printed}: 0.0% of {expected:,}" in said
    assert "read 2: 2 usable, 0 refused, 0 broken" in said and f"sizes: {WIDTH} x {HEIGHT} (2)" in said
    assert "lower half nearer than upper half in 100% of the images\n" in said
    invalid = 6 if name != "megadepth" else 6 + 6  # its nearest 1 % and farthest 2 %
    assert f"not valid: {invalid / (HEIGHT * WIDTH):.1%} of the pixels; sky: 0.0%" in said
    if LABELED[name].open.scale == "metric":
        found = re.search(r"metres: ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) ", said)
        known = np.ones(TRUTH_M.shape, bool)
        known[HOLE] = False
        ground_truth = np.quantile(TRUTH_M[known], [0, 0.01, 0.5, 0.99, 1], method="closest_observation")
        np.testing.assert_allclose([float(number) for number in found.groups()], ground_truth, rtol=0.04)
    else:
        assert f"disparity ({LABELED[name].open.scale}): " in said
    with Image.open(tmp_path / f"out/{name}.png") as sheet:
        assert sheet.size == (2 * 2 * module.TILE[0], module.TILE[1])
    listed = (tmp_path / f"out/{name}_pictures.txt").read_text().splitlines()
    assert listed == LABELED[name].open(tmp_path / "data").images
    assert not (tmp_path / f"out/{name}_left_out.txt").exists()


def test_counts_are_shown_as_the_papers_print_them():
    assert [short(count) for count in (11_100_000, 115_000, 24_231)] == ["11.1M", "115K", "24,231"]


def test_a_broken_file_is_named_and_left_out(tmp_path, capsys):
    label = WRITERS["tartanair"](tmp_path / "data")
    label.write_bytes(label.read_bytes()[:100])
    assert run("data", "check", "tartanair", tmp_path / "data", "-o", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "read 2: 1 usable, 0 refused, 1 broken" in told.out
    assert told.err.count("error:") == 1 and f"error: {label}: " in told.err
    left_out = (tmp_path / "out/tartanair_left_out.txt").read_text()
    assert left_out.startswith(f"{label}: ") and left_out.count("\n") == 1
    # the list of the rest, put where the reader looks for it, makes a whole set
    (tmp_path / "data/pictures.txt").write_bytes((tmp_path / "out/tartanair_pictures.txt").read_bytes())
    assert run("data", "check", "tartanair", tmp_path / "data", "-o", tmp_path / "again") == 0
    assert "read 1: 1 usable" in capsys.readouterr().out


def test_every_image_broken_another_folder_and_an_unknown_set(tmp_path, capsys):
    for path in [WRITERS["nyuv2"](tmp_path / "data"), *(tmp_path / "data/sync").rglob("*.png")]:
        path.write_bytes(b"no PNG")
    assert run("data", "check", "nyuv2", tmp_path / "data", "-o", tmp_path / "out") == 2
    assert "0 usable, 0 refused, 2 broken" in capsys.readouterr().out
    assert not (tmp_path / "out/nyuv2.png").exists()
    assert run("data", "check", "irs", tmp_path / "data", "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Home,Office,Restaurant,Store" in error and error.count("\n") == 1
    assert run("data", "check", "redweb", tmp_path, "-o", tmp_path / "out") == 2
    assert "expected one of blendedmvs" in capsys.readouterr().err
    assert run("data", "check", "nyuv2", tmp_path / "data", "--limit", 0) == 2


def test_orders_are_refused_and_counted_apart(tmp_path, capsys):
    label = WRITERS["megadepth"](tmp_path / "data")
    save_h5(label, "depth", np.full((HEIGHT, WIDTH), -1, np.float32))
    assert run("data", "check", "megadepth", tmp_path / "data", "-o", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert "read 2: 1 usable, 1 refused, 0 broken" in told.out
    assert f"refused: {label}: an order" in told.err
    assert (tmp_path / "out/megadepth_pictures.txt").read_text() == "0000/dense0/imgs/Old_Photo.JPG\n"


def test_labels_that_are_upside_down_raise_doubt(tmp_path, capsys):
    WRITERS["hrwsi"](tmp_path / "data")
    for name in ("0001", "0002"):
        save_png8(tmp_path / f"data/train/gts/{name}.png", 20 * TRUTH_M)  # depth, not disparity
    assert run("data", "check", "hrwsi", tmp_path / "data", "-o", tmp_path / "out") == 0
    assert "in 0% of the images: fewer than half; is it upside down" in capsys.readouterr().out


def test_sky_is_counted_and_drawn(tmp_path, capsys):
    WRITERS["vkitti2"](tmp_path / "data")
    for label in (tmp_path / "data").rglob("Camera_0/depth_*.png"):
        centimetres = TRUTH_M * 100
        centimetres[:3] = 65535
        save_png16(label, centimetres)
    assert run("data", "check", "vkitti2", tmp_path / "data", "-o", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "not valid: 0.0% of the pixels; sky: 25.0%" in said and "metres: 1.5 |" in said
    with Image.open(tmp_path / "out/vkitti2.png") as image:
        disparity = np.asarray(image)[: module.TILE[1], module.TILE[0] : 2 * module.TILE[0]]
    assert not disparity[:55].any()  # black sky: a quarter of 240 rows
    near, far = disparity[-5, 5].astype(int), disparity[70, -5].astype(int)
    assert near[0] > near[2] and far[2] > far[0]  # red is near, blue far
    assert run("data", "check", "vkitti2", tmp_path / "data", "-o", tmp_path / "out", "--sky", "off") == 0
    assert "not valid: 25.0% of the pixels; sky: 0.0%" in capsys.readouterr().out


def test_rendered_scenes(tmp_path, capsys):
    write_shard(tmp_path / "data/scenes-00000.tar", [scene(seed, *size) for seed, size in enumerate(SIZES)])
    assert run("data", "check", "scenes", tmp_path / "data", "-o", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"scenes: 5 images in {tmp_path / 'data'}\n") and "5 usable" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scenes.png"]


def test_sky_by_segformer_fills_the_cache(tmp_path, capsys):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    four = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4}
    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, decoder_hidden_size=8, **four))
    with torch.no_grad():
        network.decode_head.classifier.bias[2] = 1e4  # sky everywhere
    network.save_pretrained(tmp_path / "model")
    WRITERS["blendedmvs"](tmp_path / "data")
    options = ("--sky", "segformer", "--segmenter", tmp_path / "model", "--cache", tmp_path / "masks")
    assert run("data", "check", "blendedmvs", tmp_path / "data", "-o", tmp_path / "out", *options) == 0
    said = capsys.readouterr().out
    assert "not valid: 0.0% of the pixels; sky: 100.0%" in said and "disparity" not in said
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 1  # both images have the same pixels


def jpeg(seed: int, width: int, height: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write_sa1b(root: Path) -> None:
    """Two archives of three images each with their masks, as they are fetched."""
    for shard in range(2):
        with tarfile.open(root / f"sa_{shard:06d}.tar", "w") as tar:
            for number in range(3):
                for name, content in (
                    (f"sa_{number}.jpg", jpeg(number, 60 + 10 * shard, 40)),
                    (f"sa_{number}.json", b"{}"),
                ):
                    member = tarfile.TarInfo(f"./{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def test_an_unlabelled_set(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    write_sa1b(tmp_path / "data")
    assert run("data", "check", "sa1b", tmp_path / "data", "-o", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "sa1b: 6 images in" in said and "the papers train on 11.1M: 0.0% of 11,100,000" in said
    assert "read 6: 6 usable, 0 broken" in said and "shorter side: 40 | 40 | 40 pixels" in said
    with Image.open(tmp_path / "out/sa1b.png") as sheet:
        assert sheet.size == (2 * module.TILE[0], module.TILE[1])  # one image of each archive
    assert run("data", "check", "sa1b", tmp_path / "data", "-o", tmp_path / "out", "--limit", "2") == 0
    assert "read 2: 2 usable" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sa1b.png"]


def test_a_broken_image_and_a_broken_archive_of_an_unlabelled_set(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    write_sa1b(folder)
    (folder / "sa_000001.tar").write_bytes((folder / "sa_000001.tar").read_bytes()[:700])
    assert run("data", "check", "sa1b", folder, "-o", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert f"error: {folder / 'sa_000001.tar'}: " in told.err and "3 usable, 1 broken" in told.out
    lines = (tmp_path / "out/sa1b_left_out.txt").read_text().splitlines()
    assert lines and all(line.startswith(str(folder / "sa_000001.tar")) for line in lines)
    images = tmp_path / "pictures"
    images.mkdir()
    (images / "a.jpg").write_bytes(jpeg(0, 60, 40))
    (images / "b.jpg").write_bytes(jpeg(1, 60, 40)[:200])
    assert run("data", "check", "folder", images, "-o", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "folder: 2 images in" in told.out and "papers" not in told.out
    assert told.err.count("error:") == 1 and f"error: {images}: b: " in told.err
    (images / "a.jpg").unlink()
    assert run("data", "check", "folder", images, "-o", tmp_path / "out") == 2
    assert run("data", "check", "folder", tmp_path / "home", "-o", tmp_path / "out") == 2


DOCS = (Path(__file__).parents[2] / "docs/datasets.md").read_text()


def test_the_docs_table_is_the_code_s():
    rows = {name: row for row, name in re.findall(r"^(\| `(\w+)` .*)$", DOCS, re.MULTILINE)}
    for name, one in LABELED.items():
        cells = [cell.strip() for cell in rows[name].strip("|").split("|")]
        assert one.images is None or f"{one.images:,}" in cells[1], name
        assert (
            cells[2] == (short(LABELED_IMAGES[name]) if name in LABELED_IMAGES else "")
            and one.obtain.split(":")[0].split(",")[0] in cells[5]
        ), name
        if name != "scenes":
            assert cells[3] == one.open.scale


def test_what_the_docs_show_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    WRITERS["tartanair"](tmp_path / "tartanair")
    (command,) = re.findall(r"^    depth-anything (data .*)$", DOCS, re.MULTILINE)
    assert run(*command.replace("/data/", f"{tmp_path}/").split()) == 0
    assert (tmp_path / "data_check/tartanair.png").is_file()
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(code.replace("/data/", f"{tmp_path}/"), "docs/datasets.md", "exec"), names)
    assert len(names["samples"]) == 2 and names["sample"].scale == "metric"


class Many:
    """Labelled images made on the spot: their number is their disparity."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, number: int) -> Sample:
        if number == 49:
            raise ValueError("number 49 is broken")
        ones = np.ones((2, 3), bool)
        return Sample(
            image_HW3=np.zeros((2, 3, 3), np.uint8),
            disparity_HW=np.full((2, 3), number + 1, np.float32),
            valid_HW=ones,
            sky_HW=~ones,
            scale="affine",
        )


def test_limit_spreads_and_threads_change_nothing(tmp_path):
    assert spread(10, 4) == [0, 3, 6, 9] and spread(3, 10) == [0, 1, 2] and spread(5, 1) == [0]
    reports = [check(Many(), threads=threads) for threads in (1, 3)]
    for report in reports:
        assert len(report.usable) == 99 and report.broken == ["number 49 is broken"]
        assert report.usable == [number for number in range(100) if number != 49]
        assert (report.lowest, report.highest) == (1, 100)
        for share in (0.01, 0.25, 0.5, 0.9):
            assert report.quantile(share) == pytest.approx(max(100 * share, 1), rel=0.03)
    assert reports[0].lines() == reports[1].lines()
    some = check(Many(), limit=12)
    assert len(some.usable) == 12 and some.usable[0] == 0 and some.usable[-1] == 99 and not some.broken


def test_a_limited_walk_writes_no_list(tmp_path, capsys):
    WRITERS["kitti"](tmp_path / "data")
    assert run("data", "check", "kitti", tmp_path / "data", "-o", tmp_path / "out", "--limit", 1) == 0
    assert "2 images in" in (said := capsys.readouterr().out) and "read 1: 1 usable" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["kitti.png"]


def test_sheet_keeps_shapes_and_holds_only_some(tmp_path):
    for number in range(30):
        size = (40, 20) if number % 2 else (20, 40)
        save_image(tmp_path / f"data/train/imgs/{number:02}.jpg", size=size)
        save_png8(tmp_path / f"data/train/gts/{number:02}.png", np.arange(800).reshape(size[1], size[0]) % 251)
        save_png8(tmp_path / f"data/train/valid_masks/{number:02}.png", np.full((size[1], size[0]), 255))
    check(LABELED["hrwsi"].open(tmp_path / "data"), sheet=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (3 * 2 * module.TILE[0], 8 * module.TILE[1])  # 24 of 30
        first = np.asarray(image)[: module.TILE[1], : module.TILE[0]]
    assert (first[:, 125:] > 250).all()  # a portrait 120 wide in a box of 320


def test_nothing_is_read_where_nothing_can_be_written(tmp_path):
    class Unread:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, number: int) -> Sample:
            raise AssertionError("read")

    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="expected a folder for the results"):
        check(Unread(), sheet=tmp_path / "file" / "sheet.png")  # type: ignore[arg-type]
