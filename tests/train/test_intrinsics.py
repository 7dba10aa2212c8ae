"""Metres that hang on focal lengths: the canonical camera in closed form, in labels, predictions and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from depth_anything.__main__ import main
from depth_anything.checkpoints import file_metadata, official
from depth_anything.data.labeled.user_folder import UserFolder
from depth_anything.data.order import sample_number
from depth_anything.data.sample import Crop, Sample, cut, to_canonical
from depth_anything.export import export_model
from depth_anything.geometry import camera
from depth_anything.network.model import DepthAnything
from depth_anything.predict import backends
from depth_anything.predict.prediction import load
from depth_anything.predict.predictor import Predictor
from depth_anything.train import batches, metric
from depth_anything.train.batches import Data, build_slice
from depth_anything.train.finetune import finetune, metric_recipe
from depth_anything.train.intrinsics import cameras
from depth_anything.variants import VARIANTS, with_max_depth

SIDE = VARIANTS["nano"].input_size
AWARE = replace(with_max_depth(VARIANTS["nano"], 10.0), canonical_focal=250.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def chequered(focal: float, metres: float, height: int = 96, width: int = 128) -> Sample:
    """A wall with squares of 25 cm, straight ahead: only their size in pixels, f / metres / 4, says how far it is."""
    K_33 = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    x_W, y_H = ((np.arange(side) - (side - 1) / 2) / focal * metres / 0.25 for side in (width, height))
    dark_HW = (np.floor(y_H)[:, None] + np.floor(x_W)) % 2 == 0
    image_HW3 = np.repeat(np.where(dark_HW, 60, 200).astype(np.uint8)[..., None], 3, axis=2)
    known_HW = np.ones((height, width), bool)
    return Sample(
        image_HW3=image_HW3, disparity_HW=np.full((height, width), 1 / metres, np.float32), valid_HW=known_HW,
        sky_HW=~known_HW, K_33=K_33, scale="metric",
    )  # fmt: skip


def metres_at(sample: Sample) -> float:
    return float(1 / np.median(sample.disparity_HW))


# -- closed forms --


def test_the_same_pixels_have_the_same_label_whatever_took_them():
    near, far = chequered(100, 2.0), chequered(300, 6.0)
    assert np.array_equal(near.image_HW3, far.image_HW3)
    assert metres_at(to_canonical(near, 250.0)) == pytest.approx(5.0) == metres_at(to_canonical(far, 250.0))


@pytest.mark.parametrize(
    "crop",
    [
        Crop(0, 0, 96, 128, (42, 56)),
        Crop(10.5, 20, 48, 64, (84, 112), flip=True),
        Crop(0, 0, 96, 128, (96, 64)),  # stretched: fx is halved, fy is not
    ],
)
def test_a_crop_and_a_resize_change_the_focal_length_and_not_the_metres(crop):
    sample = chequered(120, 3.0)
    part = cut(sample, crop)
    fx, fy = 120 * crop.size[1] / crop.width, 120 * crop.size[0] / crop.height
    assert camera.mean_focal(part.K_33) == pytest.approx(np.sqrt(fx * fy))
    seen = camera.seen_focal(120, (round(crop.height), round(crop.width)), crop.size)
    assert seen == pytest.approx(np.sqrt(fx * fy))
    canonical = metres_at(to_canonical(part, 250.0))
    assert canonical == pytest.approx(3.0 * 250 / np.sqrt(fx * fy), rel=1e-6)
    assert camera.from_canonical(np.float32(canonical), seen, 250.0) == pytest.approx(3.0, rel=1e-6)


class Ruler(DepthAnything):
    """Knows that the white thing is 1 m wide: metres of the canonical camera from its width in pixels, nothing else."""

    def forward(self, image_B3HW):
        width = (image_B3HW[0, 0, image_B3HW.shape[2] // 2] > 0).sum()
        assert self.variant.canonical_focal is not None
        return torch.full(image_B3HW[:, 0].shape, float(self.variant.canonical_focal / width))


@pytest.mark.parametrize("input_size", [112, 224, 448])
def test_one_scene_through_two_lenses_is_as_far(input_size):
    ruler = Ruler(AWARE)
    for focal in (160.0, 320.0, 480.0):
        image_HW3 = np.zeros((240, 320, 3), np.uint8)
        half = focal / 4.0 / 2  # 1 m at 4 m
        image_HW3[:, round(160 - half) : round(160 + half)] = 255
        K_33 = camera.from_numbers([focal, focal, 159.5, 119.5])
        depth_m_HW = ruler.infer_rgb(image_HW3, input_size, K_33)
        assert np.median(depth_m_HW) == pytest.approx(4.0, rel=0.06)  # a pixel at either edge


def test_a_step_learns_the_canonical_metres_of_its_crops():
    class Walls:
        def __len__(self):
            return 4

        def __getitem__(self, number):
            return chequered((100, 150, 200, 250)[number], 1.0 + number)

    recipe = metric_recipe(VARIANTS["nano"], 4, 1, 4, 1e-3, 40.0, 0, canonical_focal=250.0)
    assert recipe.crop_scale == (0.5, 1.0) and recipe.row.canonical_focal == 250
    found = build_slice(recipe, Data(Walls()), 0, labeled_batch=metric.labeled_batch).labeled
    depth_B = (1 / found.disparity_BHW).flatten(1).median(1).values
    size = batches.draw_size(recipe, recipe.stages[0], 0)
    draws_45 = [rng.random(5) for rng in batches.rngs(recipe, batches.LABELED_DRAWS, 0, range(4))]
    order = [sample_number([0, batches.LABELED], Walls(), place) for place in range(4)]
    for depth, number, draws_5 in zip(depth_B, order, draws_45, strict=True):
        focal, metres = (100, 150, 200, 250)[number], 1.0 + number
        zoom = SIDE / (96 * (0.5 + 0.5 * draws_5[1]))  # so many pixels for the window's height
        assert size == (SIDE, SIDE) and depth == pytest.approx(metres * 250 / (focal * zoom), rel=1e-5)
    lacking = replace(Walls()[0], K_33=None)
    with pytest.raises(ValueError, match="no intrinsics"):
        to_canonical(lacking, 250.0)


# -- files and predictions --


@pytest.fixture(scope="module")
def aware(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "aware.safetensors"
    official.save(DepthAnything(AWARE), path)
    return path


def test_files_say_which_camera(aware, tmp_path):
    model = DepthAnything.from_pretrained(aware)
    assert model.variant.canonical_focal == 250 and model.variant.max_depth == 10
    assert "canonical_focal" not in file_metadata.metadata_of(VARIANTS["nano"])
    found = backends.variant_of(export_model.metadata(model.variant, bare=False), aware)
    assert found.canonical_focal == 250 and backends.variant_of(export_model.metadata(AWARE, False), aware) == found
    of_tokens = replace(with_max_depth(VARIANTS["nano-vit"], 10.0), canonical_focal=250.0)
    with pytest.raises(ValueError, match="camera-aware"):
        official.save_transformers(DepthAnything(of_tokens), tmp_path / "folder")


def test_predictions_are_for_the_given_camera_or_state_the_assumed_one(aware, tmp_path):
    image_HW3 = chequered(150, 2.0).image_HW3
    assumed = Predictor(aware, backend="torch")(image_HW3)
    # the canonical 250 pixels belong to the network's own shorter side
    assert assumed.focal is not None and assumed.focal == pytest.approx(250 * 96 / SIDE)
    assert assumed.depth_m is not None
    degrees = np.degrees(2 * np.arctan(128 / 2 / assumed.focal))
    assert f"assumed camera of {degrees:.0f} degrees" in assumed.describe() and "--intrinsics" in assumed.describe()
    K_33 = camera.from_numbers([300.0, 300.0, 63.5, 47.5])
    told = assumed.with_camera(K_33)
    np.testing.assert_allclose(told.depth_m, assumed.depth_m * 300 / assumed.focal, rtol=1e-6)
    assert "focal length of 300.0 pixels" in told.describe() and told.with_camera(K_33).describe() == told.describe()
    model = DepthAnything.from_pretrained(aware)
    np.testing.assert_allclose(told.depth_m, model.infer_rgb(image_HW3, K_33=K_33), rtol=1e-4)
    np.testing.assert_allclose(assumed.depth_m, model.infer_rgb(image_HW3), rtol=1e-4)
    assert "assumed camera" in load(assumed.save(tmp_path / "a", ["npz"])[0]).metres_from
    # what does not hang on the camera stays as it is
    plain = replace(assumed, focal=None, metres_from="model")
    assert np.array_equal(plain.with_camera(K_33).depth_m, plain.depth_m)


# -- the command --


def write_walls(root, seen):
    """A folder of chequered walls; `seen` is (focal, metres) of each."""
    for folder in ("images", "depth_m"):
        (root / folder).mkdir(parents=True)
    for number, (focal, metres) in enumerate(seen):
        sample = chequered(focal, metres)
        Image.fromarray(sample.image_HW3).save(root / "images" / f"{number:03}.png")
        np.save(root / "depth_m" / f"{number:03}.npy", 1 / sample.disparity_HW)
    lines = [f"{number:03}.png,{focal},{focal},63.5,47.5" for number, (focal, _) in enumerate(seen)]
    (root / "cameras.csv").write_text("# name,fx,fy,cx,cy\n" + "\n".join(lines) + "\n")
    return root


def test_cameras_are_read_from_every_source(tmp_path):
    root = write_walls(tmp_path / "walls", [(100.0, 2.0), (200.0, 2.0)])
    own = UserFolder(root)
    assert [one.K_33[0, 0] for one in cameras(own, str(root / "cameras.csv"))] == [100, 200]
    one = cameras(own, "150,140,63.5,47.5")[1]
    assert one.K_33.tolist() == [[150, 0, 63.5], [0, 140, 47.5], [0, 0, 1]] and (one.height, one.width) == (96, 128)
    assert one.seen_by(VARIANTS["nano"]) == pytest.approx(np.sqrt(150 * 140) * SIDE / 96)
    with pytest.raises(ValueError, match=r"2 of 2 images have no camera \(first: 000.png\)"):
        cameras(own, "exif")
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 50}  # FocalLengthIn35mmFilm
    for path in (root / "images").iterdir():
        Image.open(path).save(path, exif=exif)
    focal = 50 * np.hypot(128, 96) / np.hypot(36, 24)
    assert [one.K_33[0, 0] for one in cameras(own, "exif")] == pytest.approx([focal, focal])
    for wrong, expected in (("100,100", "expected fx,fy,cx,cy"), ("exif.csv", "expected fx,fy,cx,cy")):
        with pytest.raises(ValueError, match=expected):
            cameras(own, wrong)
    (root / "broken.csv").write_text("000.png,1,2\n")
    with pytest.raises(ValueError, match="line 1: expected fx,fy,cx,cy"):
        cameras(own, str(root / "broken.csv"))
    Image.new("RGB", (64, 48)).save(root / "images" / "001.png")
    with pytest.raises(ValueError, match="2 sizes"):
        cameras(own, "100,100,63.5,47.5")


def test_cameras_belong_to_metres_and_a_camera_aware_model_wants_them(tmp_path):
    root = write_walls(tmp_path / "walls", [(100.0, 2.0), (200.0, 2.0)])
    with pytest.raises(ValueError, match="camera-aware and needs the cameras"):
        finetune(DepthAnything(AWARE), root, tmp_path / "out")
    (root / "depth_m").rename(root / "disparity")
    with pytest.raises(ValueError, match="intrinsics need metres"):
        finetune(DepthAnything("nano"), root, tmp_path / "out", intrinsics="100,100,63.5,47.5")


def test_the_command_trains_in_one_camera_and_predict_takes_another(tmp_path, capsys):
    root = write_walls(tmp_path / "walls", [(100.0, 2.0), (200.0, 3.0), (160.0, 4.0), (160.0, 1.0)])
    out, maps = tmp_path / "out", tmp_path / "maps"
    command = ["finetune", "nano", str(root), str(out), "--epochs", "1", "--batch", "3"]
    main([*command, "--intrinsics", str(root / "cameras.csv")])
    assert "after" in capsys.readouterr().out
    settings = json.loads((out / "recipe.json").read_text())["metric"]
    assert settings["canonical_focal"] == round(160 * SIDE / 96)  # the median of 200, 160, 160
    assert settings["max_depth"] == pytest.approx(4.0, rel=2e-3)  # the farthest wall, through the widest lens: also 160
    model, image = str(out / "final.safetensors"), str(root / "images" / "000.png")
    found = {}
    for focal in ("", "100", "200"):
        lens = ["--intrinsics", f"{focal},{focal},63.5,47.5"] if focal else []
        main(["predict", image, "-o", str(maps / f"f{focal}"), "--model", model, "--save", "npz", *lens])
        found[focal] = np.load(maps / f"f{focal}" / "000_depth_m.npz")["depth_m"]
        assert ("assumed camera of" in capsys.readouterr().out) == (not focal)
    np.testing.assert_allclose(found["200"], 2 * found["100"], rtol=1e-5)
    median = settings["canonical_focal"] * 96 / SIDE
    np.testing.assert_allclose(found[""], median / 100 * found["100"], rtol=1e-5)


@pytest.mark.slow
def test_it_learns_what_no_fine_tuning_without_cameras_can(tmp_path):
    """Two lenses, one of twice the other's focal length: the same squares are at one distance or at twice that."""
    rng = np.random.default_rng(0)
    root = write_walls(tmp_path / "walls", [(float(rng.choice([80, 160])), rng.uniform(1, 4)) for _ in range(40)])
    asked = {"epochs": 24, "rate": 5e-3}
    nano = DepthAnything.from_pretrained("nano")
    nano.variant = replace(nano.variant, input_size=96)
    without = finetune(nano, root, tmp_path / "without", **asked)
    known = finetune(nano, root, tmp_path / "known", **asked, intrinsics=str(root / "cameras.csv"))
    assert known["after"]["abs_rel"] < 0.8 * without["after"]["abs_rel"]
    assert known["after"]["abs_rel"] < 0.6 * known["constant"]["abs_rel"]
