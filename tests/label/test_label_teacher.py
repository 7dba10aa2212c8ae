"""The unit of work: maps against the network called directly, bytes against a second run, every fault told."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_teacher import RECIPE, ToyTeacher, write_photos

from depth_anything.data.pseudo_labels import PseudoLabels, decode
from depth_anything.data.shards import read_shard
from depth_anything.data.storage import Folder, open_store
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.data.unlabeled.sets import shards
from depth_anything.images.read import read_image
from depth_anything.label.jobs import Outcome, attempt
from depth_anything.label.teacher import WAITING, Labeller, LabelRecipe, Teacher
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import network_size, to_tensor

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def nano() -> DepthAnything:
    return DepthAnything.from_pretrained("nano")


def label_one(
    shard: ImageShard, out: Path, teacher, recipe: LabelRecipe = RECIPE, store: Folder | None = None
) -> Outcome:
    """One unit through `attempt`, in a labeller of its own."""
    labeller = Labeller(teacher, recipe, store or Folder(str(out)), threads=2)
    try:
        return attempt(labeller, shard)
    finally:
        labeller.close()


def shard_of(out: Path, shard: ImageShard) -> dict[str, dict[str, bytes]]:
    return dict(read_shard(out / "labels" / f"{shard.name}.tar"))


# -- maps ------------------------------------------------------------------------------------------


def test_labels_are_the_teachers_maps(nano: DepthAnything, tmp_path: Path):
    """Against the network called image by image; the images are the files' own bytes."""
    (shard,) = shards("folder", EXAMPLES)
    teacher = Teacher(nano, input_size=112)
    recipe = LabelRecipe("nano", teacher.sha256, 112, "fp32", 4, "png16")
    outcome = label_one(shard, tmp_path, teacher, recipe)
    assert (outcome.labelled, outcome.failed, outcome.error) == (8, [], None)
    samples = shard_of(tmp_path, shard)
    assert set(samples) == {path.stem for path in EXAMPLES.glob("*.jpg")}
    for key, members in samples.items():
        path = EXAMPLES / f"{key}.jpg"
        assert members["jpg"] == path.read_bytes()
        image_HW3 = read_image(path)
        size = network_size(*image_HW3.shape[:2], 112, nano.variant.patch)
        with torch.inference_mode():
            direct_HW = nano(to_tensor(image_HW3, size))[0].numpy()
        assert np.abs(decode(members) - direct_HW).max() <= np.ptp(direct_HW) / 131070 + 1e-5
        about = json.loads(members["json"])
        assert about["picture"] == list(image_HW3.shape[:2])
        assert about["teacher_sha256"] == teacher.sha256
        assert about["recipe"] == {"teacher": "nano", "input_size": 112, "dtype": "fp32", "encoding": "png16"}
    labels = PseudoLabels(tmp_path)
    assert {labels[number].key for number in range(8)} == set(samples)


def test_the_image_in_a_shard_has_the_orientation_of_its_map(tmp_path: Path):
    """A JPEG that its EXIF turns is stored upright: not every reader of shards turns it."""
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        path = tmp_path / f"photos/{orientation}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.open(EXAMPLES / "kodak_19.jpg").resize((96, 64)).save(path, exif=exif)
    (shard,) = shards("folder", tmp_path / "photos")
    label_one(shard, tmp_path / "out", ToyTeacher())
    samples = shard_of(tmp_path / "out", shard)
    assert samples["1"]["jpg"] == (tmp_path / "photos/1.jpg").read_bytes()
    stored = Image.open(io.BytesIO(samples["6"]["jpg"]))
    assert stored.size == (64, 96) and stored.getexif().get(0x0112, 1) == 1
    difference = np.abs(np.asarray(stored).astype(int) - read_image(tmp_path / "photos/6.jpg"))
    assert difference.mean() < 3


def test_bf16_keeps_the_maps_fine(nano: DepthAnything):
    """The encoder in bf16, the decoder in fp32: near the fp32 map, and without a bfloat16's 8 bits in its values."""
    image_HW3 = read_image(EXAMPLES / "kodak_19.jpg")
    plain, mixed = Teacher(nano, input_size=112), Teacher(nano, dtype="bf16", input_size=112)
    (plain_HW,), (mixed_HW,) = (teacher([teacher.prepare(image_HW3)]) for teacher in (plain, mixed))
    assert mixed_HW.dtype == np.float32
    assert np.corrcoef(plain_HW.ravel(), mixed_HW.ravel())[0, 1] > 0.999
    assert np.abs(plain_HW - mixed_HW).max() > 0
    rounded = torch.from_numpy(mixed_HW).bfloat16().float().numpy()
    assert len(np.unique(mixed_HW)) > 10 * len(np.unique(rounded))


def test_the_hash_is_of_the_weights(nano: DepthAnything):
    """It survives a change of file format and device; one changed weight changes it."""
    again = DepthAnything("nano")
    again.load_state_dict({key: value.clone() for key, value in nano.state_dict().items()})
    assert Teacher(again).sha256 == Teacher(nano).sha256
    with torch.no_grad():
        next(again.parameters()).view(-1)[0] += 1
    assert Teacher(again).sha256 != Teacher(nano).sha256


def test_a_metric_teacher_is_refused():
    with torch.device("meta"):
        model = DepthAnything("v2-metric-indoor-small")
    with pytest.raises(ValueError, match="predicts metres"):
        Teacher(model)


# -- bytes -----------------------------------------------------------------------------------------


def test_equal_work_gives_equal_bytes(tmp_path: Path):
    """Shard and manifest, whatever the threads did; no clock, no owner; the manifest states the shard's hash."""
    write_photos(tmp_path / "photos", 20)
    (shard,) = shards("folder", tmp_path / "photos")
    for out, seconds in (("a", 0.0), ("b", 0.003)):
        label_one(shard, tmp_path / out, ToyTeacher(seconds))
    for name in (f"labels/{shard.name}.tar", f"manifest/{shard.name}.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tar_path = tmp_path / "a/labels" / f"{shard.name}.tar"
    manifest = json.loads((tmp_path / f"a/manifest/{shard.name}.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(tar_path.read_bytes()).hexdigest()
    assert (manifest["bytes"], manifest["labelled"], manifest["failed"]) == (tar_path.stat().st_size, 20, [])
    assert manifest["recipe"]["batch"] == RECIPE.batch
    assert 0 < manifest["encoding_error"] <= 1 / 131070 * 1.01
    with tarfile.open(tar_path) as tar:
        assert {(info.mtime, info.uid, info.uname) for info in tar} == {(0, 0, "")}


def test_the_manifest_appears_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed between the two, a unit is labelled again: a manifest never speaks of a shard that is not there."""
    write_photos(tmp_path / "photos", 3)
    (shard,) = shards("folder", tmp_path / "photos")
    seen: list[bool] = []
    real = Folder.write

    def write(store: Folder, name: str, content: bytes) -> None:
        if name == f"manifest/{shard.name}.json":
            seen.append((tmp_path / f"out/labels/{shard.name}.tar").is_file())
        real(store, name, content)

    monkeypatch.setattr(Folder, "write", write)
    label_one(shard, tmp_path / "out", ToyTeacher())
    assert seen == [True]


def test_batches_hold_one_size_each_and_few_images_wait(tmp_path: Path):
    """Random sizes: all images once, no batch beyond its limit, never more waiting than stated."""
    labeller = Labeller(ToyTeacher(), RECIPE, Folder(str(tmp_path)), threads=1)
    rng = np.random.default_rng(0)
    sizes = [(28 + 14 * int(rng.integers(1, 12)), 28) for _ in range(300)]
    asked = 0

    def images():
        nonlocal asked
        for number, size in enumerate(sizes):
            asked += 1
            yield str(number), b"", np.zeros((*size, 3), np.uint8)

    seen: list[int] = []
    for batch in labeller._batches(images()):
        seen += [int(key) for key, _, _ in batch]
        assert len({network_size(*image.shape[:2], 28) for _, _, image in batch}) == 1
        assert 1 <= len(batch) <= RECIPE.batch
        assert asked - len(seen) < WAITING * RECIPE.batch
    assert sorted(seen) == list(range(300))
    labeller.close()


def test_what_is_no_jpeg_becomes_one_upright(tmp_path: Path):
    """A PNG and a turned TIFF: their upright pixels at quality 95; the label lies as the image does."""
    photo_HW3 = np.asarray(Image.open(EXAMPLES / "kodak_08.jpg").resize((60, 40)))
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo_HW3).save(folder / "a.png")
    Image.fromarray(np.rot90(photo_HW3)).save(folder / "b.tif", tiffinfo={274: 6})
    (shard,) = shards("folder", folder)
    label_one(shard, tmp_path / "out", ToyTeacher())
    for key, members in shard_of(tmp_path / "out", shard).items():
        image = Image.open(io.BytesIO(members["jpg"]))
        assert (image.format, image.size) == ("JPEG", (60, 40)), key
        assert np.abs(np.asarray(image).astype(int) - photo_HW3).mean() < 6  # upside down: 40
        assert decode(members).shape == (28, 42)


# -- faults ----------------------------------------------------------------------------------------


def test_broken_images_are_listed_and_the_rest_is_done(tmp_path: Path):
    keys = write_photos(tmp_path / "photos", 8)
    (tmp_path / "photos/002.jpg").write_bytes((tmp_path / "photos/002.jpg").read_bytes()[:200])
    (tmp_path / "photos/005.jpg").write_bytes(b"")
    (shard,) = shards("folder", tmp_path / "photos")
    (tmp_path / "photos/007.jpg").unlink()
    outcome = label_one(shard, tmp_path / "out", ToyTeacher())
    assert outcome.error is None
    assert sorted(failure["key"] for failure in outcome.failed) == ["002", "005", "007"]
    assert all(failure["error"].count("\n") == 0 for failure in outcome.failed)
    assert set(shard_of(tmp_path / "out", shard)) == set(keys) - {"002", "005", "007"}
    manifest = json.loads((tmp_path / f"out/manifest/{shard.name}.json").read_text())
    assert (manifest["labelled"], manifest["failed"]) == (5, outcome.failed)


class NanTeacher(ToyTeacher):
    """Answers one NaN for images of 40 x 60 pixels."""

    def __call__(self, images_1HW):
        maps_BHW = super().__call__(images_1HW)
        if maps_BHW.shape[2] > maps_BHW.shape[1]:
            maps_BHW[0, 3, 4] = np.nan
        return maps_BHW


def test_nan_from_the_teacher_fails_that_image_only(tmp_path: Path):
    write_photos(tmp_path / "photos", 12)
    (shard,) = shards("folder", tmp_path / "photos")
    outcome = label_one(shard, tmp_path / "out", NanTeacher())
    assert outcome.failed
    assert all("1 values that are NaN or infinite" in failure["error"] for failure in outcome.failed)
    samples = shard_of(tmp_path / "out", shard)
    assert len(samples) + len(outcome.failed) == 12
    assert all(np.isfinite(decode(members)).all() for members in samples.values())


def test_a_cut_archive_fails_as_a_shard_and_leaves_nothing(tmp_path: Path):
    write_photos(tmp_path / "photos", 6)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "photos", "photos")
    os.truncate(tmp_path / "a.tar", 5000)
    (shard,) = shards("tars", tmp_path / "a.tar")
    outcome = label_one(shard, tmp_path / "out", ToyTeacher())
    assert "a.tar" in str(outcome.error)
    assert "fetch it again" in str(outcome.error)
    assert not outcome.unwritable
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


class FullDisk(Folder):
    """Its scratch files lie on a device that has no space left, as the kernel itself says it."""

    def scratch(self) -> Path:
        self.root.mkdir(exist_ok=True)
        link = self.root / "full"
        link.symlink_to("/dev/full")
        return link


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_clear_line(tmp_path: Path):
    write_photos(tmp_path / "photos", 6)
    (shard,) = shards("folder", tmp_path / "photos")
    outcome = label_one(shard, tmp_path / "out", ToyTeacher(), store=FullDisk(str(tmp_path / "out")))
    assert outcome.unwritable
    assert "No space left on device" in str(outcome.error)
    assert "free some space and run the same command again" in str(outcome.error)
    assert list((tmp_path / "out").iterdir()) == []
    assert Path("/dev/full").exists()


def test_too_large_a_batch_is_one_clear_line(tmp_path: Path):
    class Small(ToyTeacher):
        def __call__(self, images_1HW):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    write_photos(tmp_path / "photos", 3)
    (shard,) = shards("folder", tmp_path / "photos")
    with pytest.raises(ValueError, match="a batch of 3 images does not fit into the device: use a smaller --batch"):
        label_one(shard, tmp_path / "out", Small())


def test_a_memory_store_gets_the_same_bytes(tmp_path: Path):
    write_photos(tmp_path / "photos", 7)
    (shard,) = shards("folder", tmp_path / "photos")
    store = open_store(f"memory://{tmp_path.name}")
    label_one(shard, tmp_path / "out", ToyTeacher())
    label_one(shard, tmp_path / "out", ToyTeacher(), store=store)  # type: ignore[arg-type]
    for name in (f"labels/{shard.name}.tar", f"manifest/{shard.name}.json"):
        assert store.read(name) == (tmp_path / "out" / name).read_bytes()
