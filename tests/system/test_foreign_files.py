"""Folders and texts as file managers and editors of other systems leave them: readers pass over what is no data."""

import ast
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from layouts import benchmarks, labeled
from PIL import Image

from depth_anything.data.benchmarks import da2k, pairs, sets
from depth_anything.data.labeled.sets import open_labeled
from depth_anything.data.labeled.user_folder import UserFolder
from depth_anything.data.shards import index_tar, read_shard
from depth_anything.data.unlabeled.read import read_images
from depth_anything.data.unlabeled.sets import shards
from depth_anything.images import inputs
from depth_anything.system import files
from depth_anything.train.intrinsics import read_cameras

APPLE_DOUBLE = struct.pack(">II16xH", 0x00051607, 0x00020000, 0).ljust(4096, b"\0")
"""RFC 1740's header, as macOS writes it on disks that cannot hold its metadata."""
MARK = b"\xef\xbb\xbf"
TEXTS = (".txt", ".csv", ".json")


def litter(root: Path) -> None:
    """What macOS, Windows and a Synology server leave in folders, and a byte order mark before every text."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if path.suffix in TEXTS:
            path.write_bytes(MARK + path.read_bytes())
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
        thumbnail = path.parent / "@eaDir" / path.name / "SYNOPHOTO_THUMB_M.jpg"
        thumbnail.parent.mkdir(parents=True, exist_ok=True)
        thumbnail.write_bytes(b"no image")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            path.with_name(name).write_bytes(b"no data")
    (root / "__MACOSX").mkdir()
    for path in [path for path in root.iterdir() if path.is_file()]:
        (root / "__MACOSX" / path.name).write_bytes(b"no data")


def grey(path: Path, value: int = 90, size: tuple[int, int] = (16, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 120, 60)).save(path)


def ground_truth(path: Path, size: tuple[int, int] = (16, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), 2000, np.uint16)).save(path)


@pytest.mark.parametrize("name", labeled.WRITERS)
def test_labelled_sets(name, tmp_path):
    labeled.WRITERS[name](tmp_path)
    before = [sample(one) for one in listed(open_labeled(name, tmp_path))]
    litter(tmp_path)
    assert [sample(one) for one in listed(open_labeled(name, tmp_path))] == before


def listed(samples):
    return [samples[number] for number in range(len(samples))]


def sample(one) -> tuple:
    return one.key, one.disparity_HW.tobytes(), None if one.K_33 is None else one.K_33.tobytes()


@pytest.mark.parametrize("name", benchmarks.WRITERS)
def test_benchmark_sets(name, tmp_path):
    benchmarks.WRITERS[name](tmp_path)
    before = read_all(name, tmp_path)
    litter(tmp_path)
    assert read_all(name, tmp_path) == before and before


def read_all(name: str, root: Path) -> list[tuple]:
    cases = sets.read_benchmark(name, root, incomplete=True).images
    return [(case.key, case.read_image().tobytes(), case.read_ground_truth().values_HW.tobytes()) for case in cases]


def test_moge_s_bundle(tmp_path):
    benchmarks.write_moge(tmp_path, [[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]])
    before = read_all("moge-nyuv2", tmp_path)
    litter(tmp_path)
    assert read_all("moge-nyuv2", tmp_path) == before and before


def test_a_folder_of_one_s_own_its_list_and_its_cameras(tmp_path):
    for number in range(3):
        grey(tmp_path / f"images/day/r{number}.jpg", number)
        ground_truth(tmp_path / f"depth_m/day/r{number}.png")
    (tmp_path / "cameras.csv").write_bytes(b"day/r0.jpg,110,110,7.5,5.5\r\n")
    litter(tmp_path)
    assert [Path(image).name for image in UserFolder(tmp_path).images] == ["r0.jpg", "r1.jpg", "r2.jpg"]
    assert read_cameras(tmp_path / "cameras.csv").keys() == {"day/r0.jpg"}
    (tmp_path / "pictures.txt").write_bytes(MARK + b"images/day/r2.jpg\r\nimages/day/r0.jpg\r\n")
    assert [Path(image).name for image in UserFolder(tmp_path).images] == ["r2.jpg", "r0.jpg"]
    assert len(listed(UserFolder(tmp_path))) == 2


def test_pairs_and_da2k(tmp_path):
    grey(tmp_path / "a/rgb.jpg")
    ground_truth(tmp_path / "a/gt.png")
    grey(tmp_path / "images/indoor/b.jpg")
    entry = {"id": "a", "rgb": "a/rgb.jpg", "gt": "a/gt.png", "gt_scale": 1000.0, "kind": "metric_depth"}
    (tmp_path / "manifest.json").write_text(json.dumps([{**entry, "scene_group": "a", "env": "indoor"}]))
    pair = {"point1": [3, 5], "point2": [7, 2], "closer_point": "point1"}
    (tmp_path / "annotations.json").write_text(json.dumps({"images/indoor/b.jpg": [pair]}))
    litter(tmp_path)
    assert [case.key for case in pairs.read(tmp_path / "manifest.json")] == ["a"]
    assert [one.scenario for one in da2k.read(tmp_path)] == ["indoor"]


def test_images_of_the_command_line_and_unlabelled_sets(tmp_path):
    for number in range(3):
        grey(tmp_path / f"photos/below/r{number}.jpg", number)
    (tmp_path / "list.txt").write_text("photos/below/r1.jpg\n")
    with tarfile.open(tmp_path / "some.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("r0", "r1"):
            for member, content in ((f"./._{name}.jpg", APPLE_DOUBLE), (f"./{name}.jpg", b"picture")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    litter(tmp_path)
    assert [source.name for source in inputs.find_images([tmp_path / "photos"])] == [
        str(tmp_path / f"photos/below/r{number}.jpg") for number in range(3)
    ]
    assert len(inputs.find_images([f"{tmp_path}/photos/**/*.jpg"])) == 3
    assert [source.stem for source in inputs.find_images([tmp_path / "list.txt"])] == ["r1"]
    for kind, root, count in (("folder", "photos", 3), ("list", "list.txt", 1), ("tars", "some.tar", 2)):
        assert sum(shard.count or 0 for shard in shards(kind, tmp_path / root)) == count, kind
    (shard,) = shards("folder", tmp_path / "photos")
    assert len(list(read_images(shard))) == 3
    assert index_tar(tmp_path / "some.tar").names == ["./r0.jpg", "./r1.jpg"]


def test_scene_shards_that_macos_packed_again(tmp_path):
    with tarfile.open(tmp_path / "scenes-00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in ("._0.json", "0.json", "._0.rgb.jpg", "0.rgb.jpg", "._1.json", "1.json"):
            tar.addfile(tarfile.TarInfo(member))
    assert [key for key, _ in read_shard(tmp_path / "scenes-00000.tar")] == ["0", "1"]


def test_class_maps_and_control_images(tmp_path):
    pytest.importorskip("torch")
    from depth_anything.transfer.controlnet_train import ControlSet
    from depth_anything.transfer.segmentation_data import ADE20K, open_classes

    for number in range(2):
        grey(tmp_path / f"ade/images/training/r{number}.jpg")
        grey(tmp_path / f"city/leftImg8bit/train/a/a_{number}_leftImg8bit.png")
        grey(tmp_path / f"photos/r{number}.jpg")
        (tmp_path / f"photos/r{number}.txt").write_text(f"photo {number}")
        for place in ("ade/annotations/training", "city/gtFine/train/a", "controls"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
        classes = Image.fromarray(np.full((12, 16), 7, np.uint8))
        classes.save(tmp_path / f"ade/annotations/training/r{number}.png")
        classes.save(tmp_path / f"city/gtFine/train/a/a_{number}_gtFine_labelIds.png")
        classes.save(tmp_path / f"controls/r{number}_control.png")
    rows = ["Idx\tName", *(f"{number}\tthing {number}" for number in range(1, 151))]
    (tmp_path / "ade/objectInfo150.txt").write_text("\n".join(rows))
    litter(tmp_path)
    assert len(open_classes("ade20k", tmp_path / "ade")) == len(open_classes("cityscapes", tmp_path / "city")) == 2
    assert ADE20K(tmp_path / "ade").names[0] == "thing 1"
    assert [one.caption for one in listed(ControlSet(tmp_path / "photos", tmp_path / "controls"))] == [
        "photo 0",
        "photo 1",
    ]


# -- texts and arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1", "cp1252"])
def test_another_encoding_is_named(tmp_path, encoding):
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "cameras.csv").write_bytes(mark + "Tür.jpg,110,110,7.5,5.5\n".encode(encoding))
    said = "UTF-16; save it again as UTF-8" if "16" in encoding else r"not a text file in UTF-8 \(byte 1 is 0xfc\)"
    with pytest.raises(ValueError, match=rf"cameras\.csv: .*{said}"):
        read_cameras(tmp_path / "cameras.csv")


def test_json_that_is_none(tmp_path):
    for text, said in (
        ("{", "not readable as JSON"),
        ("[1]", "a JSON list: expected an object"),
        ("[" * 10**5, "JSON"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=rf"a\.json .*{said}"):
            files.read_json(tmp_path / "a.json")


def test_a_table_without_its_columns_or_cut(tmp_path):
    (tmp_path / "a.csv").write_bytes(MARK + b'a,"b, c"\r\n1,"x\r\ny"\r\n')
    assert files.read_csv(tmp_path / "a.csv", ("a", "b, c")) == [{"a": "1", "b, c": "x\r\ny"}]
    with pytest.raises(ValueError, match=r"a\.csv: no column d"):
        files.read_csv(tmp_path / "a.csv", ("a", "d"))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 3: too few columns"):
        files.read_csv(tmp_path / "a.csv", ("b",))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


WHOLE = npy(np.ones((12, 16), np.float32))
NPZ = io.BytesIO()
np.savez(NPZ, depth_m=np.ones((12, 16)))
HUGE = WHOLE.replace(b"(12, 16)", b"(9**9,)")  # no shape, but an expression
ODD_ARRAYS = {
    "empty": (b"", "0 bytes"),
    "cut in its header": (WHOLE[:40], "40 bytes"),
    "cut in its numbers": (WHOLE[:-100], "bytes"),
    "text": (b"1.0 2.0\n", "not an .npy"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an .npy"),
    "objects": (npy(np.array([{"a": 1}], object)), "Object arrays cannot be loaded"),
    "an npz": (NPZ.getvalue(), "not an .npy"),
    "words": (npy(np.full((12, 16), "far")), "an .npy of <U3; expected numbers"),
    "complex": (npy(np.ones((12, 16), complex)), "expected numbers"),
    "fields": (npy(np.zeros((12, 16), [("z", "f4")])), "expected numbers"),
    "a shape that is code": (HUGE, "not an .npy"),
    "more than there is memory": (WHOLE.replace(b"(12, 16), }        ", b"(4096,4096,4096), }"), "not an .npy"),
}


@pytest.mark.parametrize("kind", ODD_ARRAYS)
def test_odd_arrays_are_named_by_every_reader(tmp_path, kind):
    from depth_anything.data.benchmarks.read_ground_truth import read_npy
    from depth_anything.evaluate.load_candidate import read_map

    content, said = ODD_ARRAYS[kind]
    for number in range(2):
        grey(tmp_path / f"images/r{number}.jpg")
        (tmp_path / "depth_m").mkdir(exist_ok=True)
        (tmp_path / f"depth_m/r{number}.npy").write_bytes(content)
    path = tmp_path / "depth_m/r0.npy"
    for read in (
        files.read_npy,
        read_npy,
        lambda path: read_map(path.parent, "r0", "depth_m"),
        lambda _: UserFolder(tmp_path)[0],
    ):
        with pytest.raises(ValueError, match=r"r0\.npy") as error:
            read(path)
        assert said in str(error.value) and "\n" not in str(error.value)


# -- one function each -------------------------------------------------------------------------------------------------

OURS = {
    "system/files.py": "the functions themselves",
    "data/labeled/diml.py": "walks into links, and not into LR beside HR",
    "data/unlabeled/sets.py": "patterns of tars, filtered by is_hidden",
    "data/storage.py": "the folder of results",
    "data/shard_cache.py": "the cache's own folder",
    "images/inputs.py": "a pattern of the user's, filtered by is_hidden",
}
"""Modules that look into folders or texts themselves, and why they may."""


def test_folders_and_texts_are_read_in_one_place():
    """Calls of .rglob, os.walk, os.listdir, read_text, np.load in what reads data that others wrote."""
    package = Path(files.__file__).parents[1]
    found = set()
    for folder in ("data", "transfer", "train/intrinsics.py", "images/inputs.py"):
        for path in [package / folder] if folder.endswith(".py") else (package / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    call = ast.unparse(node.func)
                    if call.endswith((".rglob", ".glob", ".iterdir", ".read_text")) or call in (
                        "os.walk", "os.listdir", "os.scandir", "np.load",
                    ):  # fmt: skip
                        found.add((path.relative_to(package).as_posix(), call))
    found = {(module, call) for module, call in found if not module.startswith("data/scenes/")}  # what render wrote
    left = {(module, call) for module, call in found if module not in OURS}
    bytes_of_a_shard = {
        (module, "np.load") for module in ("data/pseudo_labels.py", "data/labeled/rendered.py", "data/shards.py")
    }
    assert left == bytes_of_a_shard
