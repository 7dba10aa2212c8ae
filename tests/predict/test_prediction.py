"""What a Prediction holds, what may be made of it, what it refuses, and its files."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import photo

from depth_anything.geometry import camera
from depth_anything.images import colormap
from depth_anything.images.formats import FORMATS, SaveOptions
from depth_anything.images.formats import paths as planned_paths
from depth_anything.predict import prediction_files
from depth_anything.predict.prediction import Prediction, load

TRUTH = (1 + 9 * np.random.default_rng(0).random((30, 40))).astype(np.float32)  # metres
SCALE, SHIFT = 2.5, -0.2
RELATIVE = ((1 / TRUTH - SHIFT) / SCALE).astype(np.float32)  # 1/metres = SCALE * RELATIVE + SHIFT


@pytest.fixture
def relative() -> Prediction:
    return Prediction(
        disparity=RELATIVE, model="v2-small", licence="Apache-2.0", network_size=(518, 686), notes=("A note.",),
        image=photo(30, 40), K=camera.from_fov(40, 30, 60),
    )  # fmt: skip


@pytest.fixture
def metric() -> Prediction:
    depth = TRUTH.copy()
    depth[0, :5] = 0
    return Prediction(
        depth_m=depth, model="v2-metric-indoor-small", licence="none stated", image=photo(30, 40),
        K=camera.from_fov(40, 30, 60), sky=depth > 9,
    )  # fmt: skip


# -- what it holds -----------------------------------------------------------------------------------------------------


def test_it_states_its_quantity(relative, metric):
    assert relative.quantity == "disparity" and metric.quantity == "depth_m"
    assert relative.depth_m is None and metric.disparity is None
    assert "larger is nearer" in relative.describe() and "no unit" in relative.describe()
    assert "metres" in metric.describe() and "from the model" in metric.describe()
    assert relative.valid.all() and metric.valid.sum() == 30 * 40 - 5
    assert relative.text()["licence"] == "Apache-2.0" and relative.text()["network_size"] == "686 x 518"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one"),
        ({"disparity": TRUTH, "depth_m": TRUTH}, "exactly one"),
        ({"disparity": TRUTH[0]}, r"\(40,\)"),
        ({"disparity": TRUTH.astype(np.uint8)}, "uint8"),
        ({"disparity": np.array([[1, np.nan]], np.float32)}, "1 values are NaN"),
        ({"depth_m": np.array([[1, np.inf]], np.float32)}, "infinite"),
        ({"depth_m": np.array([[1, -2]], np.float32)}, "smallest is -2"),
        ({"disparity": TRUTH, "image": photo(30, 41)}, r"image: got shape \(30, 41, 3\)"),
        ({"disparity": TRUTH, "sky": np.zeros((3, 4), bool)}, "sky: got shape"),
        ({"disparity": TRUTH, "K": np.eye(4)}, "K: got shape"),
    ],
)
def test_it_refuses_what_makes_no_sense(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        Prediction(**fields)
    assert "\n" not in str(error.value)


def test_metres_need_known_distances(relative):
    for ask in (relative.to_depth, relative.to_points, relative.normals):
        with pytest.raises(ValueError, match=r"--near --far.*calibrate.*metric model"):
            ask()
    with pytest.raises(ValueError, match=r"expected metres with 0 < near < far"):
        relative.to_depth(near=5, far=2)
    with pytest.raises(ValueError, match="same everywhere"):
        Prediction(disparity=np.ones((4, 4), np.float32)).to_depth(near=1, far=2)


# -- from disparity to metres ------------------------------------------------------------------------------------------


def test_near_and_far_place_the_whole_map(relative):
    depth = relative.to_depth(near=TRUTH.min(), far=TRUTH.max())
    np.testing.assert_allclose(depth.values, TRUTH, rtol=1e-4)  # affine disparity: two distances fix all others
    assert "not measured" in depth.describe()
    assert depth.model == relative.model and depth.licence == relative.licence


def test_a_metric_map_stays_and_takes_no_distances(metric):
    assert metric.to_depth() is metric
    with pytest.raises(ValueError, match="predicts metres already"):
        metric.to_depth(near=1, far=2)
    with pytest.raises(ValueError, match=r"\(1, 0\): the map is unknown"):
        metric.align_to([(1, 0, 2.0), (5, 5, 3.0)])


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_known_distances_recover_the_ground_truth(count, seed):
    random = np.random.default_rng(seed)
    flat = random.choice(TRUTH.size, count, replace=False)
    points = [(index % 40, index // 40, TRUTH.flat[index]) for index in flat]
    fitted = Prediction(disparity=RELATIVE).align_to(points)
    spread = np.ptp(1 / TRUTH.flat[flat])
    np.testing.assert_allclose(fitted.values, TRUTH, rtol=1e-5 + 1e-6 / spread)
    assert f"{count} known distances" in fitted.metres_from


def test_noisy_distances_are_fitted_by_least_squares():
    random = np.random.default_rng(1)
    y, x = random.integers(0, 30, 50), random.integers(0, 40, 50)
    inverse = 1 / TRUTH[y, x] + random.normal(0, 0.01, 50)
    keep = inverse > 0.05
    points = np.column_stack([x, y, 1 / inverse])[keep]
    fitted = Prediction(disparity=RELATIVE).align_to(points)
    scale, shift = np.polyfit(RELATIVE[y, x][keep].astype(np.float64), inverse[keep], 1)
    np.testing.assert_allclose(1 / fitted.values, scale * RELATIVE + shift, rtol=1e-5)
    assert any("off by" in note for note in fitted.notes)


def test_what_the_fit_puts_beyond_the_horizon_is_unknown():
    disparity = np.array([[3.0, 2.0, 1.0, 0.5]], np.float32)
    fitted = Prediction(disparity=disparity).align_to([(0, 0, 1.0), (1, 0, 2.0)])  # 1/m = 0.5 d - 0.5: 0 at d = 1
    np.testing.assert_allclose(fitted.values, [[1, 2, 0, 0]], rtol=1e-6)
    assert "50.0% of the image" in " ".join(fitted.notes)


def test_a_metric_map_can_be_corrected(metric):
    y, x = np.array([3, 10, 20]), np.array([4, 30, 11])
    points = np.column_stack([x, y, 1 / (1.2 / metric.values[y, x] + 0.01)])
    corrected = metric.align_to(points)
    expected = np.where(metric.valid, 1 / (1.2 / np.where(metric.valid, metric.values, 1) + 0.01), 0)
    np.testing.assert_allclose(corrected.values, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "two or more"),
        ([(1, 1, 2.0)], "two or more"),
        ([(1, 1), (2, 2)], "two or more"),
        ([(40, 1, 2.0), (1, 1, 3.0)], r"\(40, 1\): outside the image of 40 x 30"),
        ([(1, 1, 0.0), (2, 2, 3.0)], "got 0; expected metres above 0"),
        ([(1, 1, 2.0), (1, 1, 3.0)], "lie on one value"),
    ],
)
def test_unusable_points_are_one_line(relative, points, message):
    with pytest.raises(ValueError, match=message) as error:
        relative.align_to(points)
    assert "\n" not in str(error.value)


def test_points_that_contradict_the_map_are_refused():
    with pytest.raises(ValueError, match="contradict the map"):
        Prediction(disparity=np.array([[2.0, 1.0]], np.float32)).align_to([(0, 0, 9.0), (1, 0, 1.0)])


# -- images of it ----------------------------------------------------------------------------------------------------


def test_near_is_red_whatever_it_holds(relative, metric):
    table = colormap.table("Spectral_r")
    for prediction in (relative, metric):
        nearest = np.unravel_index(np.where(TRUTH[prediction.valid].min() == TRUTH, 1, 0).argmax(), TRUTH.shape)
        farthest = np.unravel_index(np.where(TRUTH[prediction.valid].max() == TRUTH, 1, 0).argmax(), TRUTH.shape)
        colored = prediction.colored()
        np.testing.assert_array_equal(colored[nearest], table[255])
        np.testing.assert_array_equal(colored[farthest], table[0])
    assert not metric.colored()[0, :5].any(), "unknown is black"


def test_control_image_is_what_the_released_controlnet_was_fed(relative, metric):
    expected = np.round((RELATIVE - RELATIVE.min()) / np.ptp(RELATIVE) * 255)
    control = relative.control_image()
    assert control.dtype == np.uint8 and control.shape == (30, 40, 3)
    for channel in range(3):
        assert np.abs(control[:, :, channel] - expected).max() <= 1
    # of metres: disparity again, near white
    inverse = 1 / TRUTH[metric.valid]
    expected = np.round((inverse - inverse.min()) / np.ptp(inverse) * 255)
    assert np.abs(metric.control_image()[metric.valid][:, 0] - expected).max() <= 1
    low, high = np.percentile(RELATIVE, (10, 80))
    expected = np.clip((RELATIVE - low) / (high - low), 0, 1) * 255
    assert np.abs(relative.control_image(percentile=(10, 80))[:, :, 0] - expected).max() <= 1
    assert not Prediction(disparity=np.full((3, 3), 7, np.float32)).control_image().any()
    with pytest.raises(ValueError, match="0 <= low < high <= 100"):
        relative.control_image(percentile=(98, 2))


@given(st.sampled_from([0.0, 1e-30, 1e30, -5.0]), st.floats(0, 1e4, width=32))
def test_images_of_degenerate_maps_are_whole(base, spread):
    disparity = np.float32(base) + np.linspace(0, spread, 12, dtype=np.float32).reshape(3, 4)
    prediction = Prediction(disparity=disparity)
    for image in (prediction.colored("turbo"), prediction.control_image()):
        assert image.shape == (3, 4, 3) and image.dtype == np.uint8
    assert (
        np.isfinite(prediction.nearness()).all()
        and 0 <= prediction.nearness().min() <= prediction.nearness().max() <= 1
    )


# -- sky ---------------------------------------------------------------------------------------------------------------


def test_sky_policies(relative, metric):
    sky = np.zeros((30, 40), bool)
    sky[:8] = True
    kept = relative.with_sky(sky)
    np.testing.assert_array_equal(kept.disparity, RELATIVE)
    np.testing.assert_array_equal(kept.sky, sky)
    zero = relative.with_sky(sky, "zero", found_by="hand").values
    assert (zero[sky] == 0).all() and (zero[~sky] == RELATIVE[~sky]).all() and (zero[sky].max() <= zero[~sky].min())
    capped = relative.with_sky(sky, "cap").values
    assert (capped[sky] == RELATIVE[~sky].min()).all()
    assert (metric.with_sky(sky, "zero").values[sky] == 0).all()
    assert (metric.with_sky(sky, "cap").values[sky] == TRUTH[~sky].max()).all()
    assert (metric.with_sky(sky, "cap", cap_m=80).values[sky] == 80).all()
    assert (relative.disparity == RELATIVE).all(), "the original is as it was"
    everything = relative.with_sky(np.ones((30, 40), bool), "cap").values
    np.testing.assert_array_equal(everything, RELATIVE)
    assert "found by hand" in relative.with_sky(sky, found_by="hand").text()["notes"]


def test_zero_sky_is_farthest_even_below_zero():
    prediction = Prediction(disparity=np.array([[-2.0, 1.0]], np.float32))
    assert prediction.with_sky(np.array([[False, True]]), "zero").values.tolist() == [[-2, -2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2), bool),), "sky: got shape"),
        ((np.zeros((30, 40), bool), "drop"), "keep, zero or cap"),
        ((np.zeros((30, 40), bool), "cap", 80), "cap_m is for"),
    ],
)
def test_impossible_sky_is_one_line(relative, arguments, message):
    with pytest.raises(ValueError, match=message):
        relative.with_sky(*arguments)


# -- files -------------------------------------------------------------------------------------------------------------

NAMES = {
    "color": "color.png", "side": "side.png", "png16": "{}.png", "pfm": "{}.pfm", "npz": "{}.npz", "exr": "{}.exr",
    "npy": "{}.npy", "json": "{}.json",
    "normals": "normals.png", "sky": "sky.png", "confidence": "confidence.png", "control": "control.png",
    "ply": "points.ply", "glb": "mesh.glb",
    "rgbz": "rgbz.exr", "sbs": "sbs.png", "anaglyph": "anaglyph.png", "colmap": "depth_map.bin",
    "colmap_camera": "cameras.bin",
}  # fmt: skip


def test_every_format_has_its_name_and_text(tmp_path, metric, relative):
    sure = np.full((30, 40), 0.7, np.float32)
    metric, relative = replace(metric, confidence=sure), replace(relative, confidence=sure)
    with_sky = relative.with_sky(np.zeros((30, 40), bool))
    for prediction, folder, options in ((metric, "m", {}), (with_sky, "d", {"near": 1, "far": 9})):
        paths = prediction.save(tmp_path / folder / "p.1", FORMATS, **options)
        expected = [f"p.1_{NAMES[name].format(prediction.quantity)}" for name in FORMATS]
        assert [path.name for path in paths] == expected
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted(expected)
        for path in paths:
            says = path.suffix not in (".pfm", ".npy", ".npz", ".bin")
            assert not says or prediction.licence.encode() in path.read_bytes()
            if path.suffix == ".png":
                with Image.open(path) as image:
                    assert image.text["licence"] == prediction.licence  # type: ignore[attr-defined]
                    width = 80 if path.stem.endswith(("side", "sbs")) else 40
                    assert image.size == (width, 30)
        with np.load(tmp_path / folder / f"p.1_{prediction.quantity}.npz") as archive:
            assert str(archive["licence"]) == prediction.licence


@pytest.mark.parametrize("suffix", ["png", "npz", "npy", "exr", "pfm"])
def test_what_was_saved_is_loaded(tmp_path, metric, relative, suffix):
    for prediction in (metric, relative):
        (path,) = prediction.save(tmp_path / "p", ["png16" if suffix == "png" else suffix])
        again = load(path)
        assert again.quantity == prediction.quantity
        step = np.ptp(prediction.values) / 65535 if prediction is relative else 0.001
        np.testing.assert_allclose(again.values, prediction.values, atol=step * 0.51 if suffix == "png" else 0)
        if suffix not in ("pfm", "npy"):
            for field in ("model", "licence", "version", "metres_from", "network_size", "notes"):
                assert getattr(again, field) == getattr(prediction, field), field
        if suffix == "npz":
            np.testing.assert_array_equal(again.K, prediction.K)
            if prediction.sky is not None:
                np.testing.assert_array_equal(again.sky, prediction.sky)


def test_a_map_of_unknown_quantity_is_refused(tmp_path, relative):
    (path,) = relative.save(tmp_path / "p", ["pfm"])
    path = path.rename(tmp_path / "map.pfm")
    with pytest.raises(ValueError, match="quantity='disparity'"):
        load(path)
    assert load(path, quantity="disparity").quantity == "disparity"
    for name, message in (("a.jpg", "no such file"), ("b.txt", "cannot load a map from .txt")):
        if name == "b.txt":
            (tmp_path / name).touch()
        with pytest.raises(ValueError, match=message):
            load(tmp_path / name)
    np.savez(tmp_path / "c.npz", other=RELATIVE)
    with pytest.raises(ValueError, match="does not state its quantity"):
        load(tmp_path / "c.npz")


def test_all_is_written_or_nothing(tmp_path, relative):
    for formats, message in (
        (["color", "gif"], "unknown output 'gif'"),
        (["color", "ply"], "--near --far"),
        (["color", "sky"], "there is no mask"),
    ):
        with pytest.raises(ValueError, match=message):
            relative.save(tmp_path / "p", formats)
    with pytest.raises(ValueError, match="jet"):
        relative.save(tmp_path / "p", ["png16", "color"], colors="jet")
    with pytest.raises(ValueError, match="channel 'X'"):
        relative.save(tmp_path / "p", ["color", "exr"], exr_channel="X")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 <= low < high"):
        relative.save(tmp_path / "p", ["color", "control"], percentile=(50, 50))
    with pytest.raises(
        ValueError, match="near and far are for normals, ply, glb, colmap; color, npz would stay disparity"
    ):
        relative.save(tmp_path / "p", ["color", "npz"], near=1, far=2)
    bare = Prediction(disparity=RELATIVE)
    with pytest.raises(ValueError, match="side: the image is needed"):
        bare.save(tmp_path / "p", ["color", "side"])
    with pytest.raises(ValueError, match="--fov, --focal-mm or --intrinsics"):
        bare.save(tmp_path / "p", ["color", "ply"], near=1, far=2)
    assert list(tmp_path.iterdir()) == []
    relative.save(tmp_path / "p", ["png16"])
    with pytest.raises(ValueError, match="exists already"):
        relative.save(tmp_path / "p", ["color", "png16"])
    assert [path.name for path in tmp_path.iterdir()] == ["p_disparity.png"]
    relative.save(tmp_path / "p", ["color", "png16"], overwrite=True)


def test_what_may_be_written_is_known_before(tmp_path, relative):
    forms = list(FORMATS)[:7]
    planned = planned_paths(tmp_path / "p", forms, "disparity", SaveOptions())
    assert list(planned) == forms
    assert list(planned.values()) == relative.save(tmp_path / "p", forms)
    with pytest.raises(ValueError, match="exists already"):
        planned_paths(tmp_path / "p", ["npz"], "disparity", SaveOptions())
    assert planned_paths(tmp_path / "p", ["npz"], "disparity", SaveOptions(overwrite=True))["npz"].exists()


def test_every_format_has_a_writer_and_says_what_it_needs(metric, tmp_path):
    assert set(prediction_files.WRITERS) == set(FORMATS)
    bare = replace(metric, K=None, image=None, sky=None, confidence=None)
    for name, row in FORMATS.items():
        lacking = [need for need in ("camera", "image", "sky", "confidence") if need in row.needs]
        if not lacking:
            bare.save(tmp_path / "p", [name])
            continue
        with pytest.raises(ValueError):
            bare.save(tmp_path / "p", [name])


@pytest.mark.parametrize(
    ("pattern", "formats", "names"),
    [
        ("{stem}.png", ["color"], ["p.1.png"]),
        ("{stem}.{ext}", ["color", "npy", "json"], ["p.1.png", "p.1.npy", "p.1.json"]),
        ("{kind}-{stem}.{ext}", ["color", "png16"], ["color-p.1.png", "disparity-p.1.png"]),
        ("{kind}/{stem}.{ext}", ["color", "npz"], ["color/p.1.png", "disparity/p.1.npz"]),
        ("map.png", ["control"], ["map.png"]),
    ],
)
def test_names_by_a_pattern(tmp_path, relative, pattern, formats, names):
    paths = relative.save(tmp_path / "p.1", formats, name=pattern)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == names
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize(
    ("pattern", "formats", "said"),
    [
        ("{stem}", ["color"], r"color is a file \.png"),
        ("{stem}.jpg", ["color"], r"color is a file \.png"),
        ("{stem}.png", ["color", "png16"], r"two of color, png16 would be p\.png; add \{kind\}"),
        ("{stem}.png", ["color", "npz"], r"npz is a file \.npz"),
        ("{name}.png", ["color"], "expected a pattern of"),
        ("{}.png", ["color"], "expected a pattern of"),
        ("{stem.parent}.png", ["color"], "expected a pattern of"),
        ("{stem!r}.png", ["color"], "expected a pattern of"),
        ("{stem:>99999999999}.png", ["color"], "expected a pattern of"),
        ("{stem.png", ["color"], "expected a pattern of"),
        ("", ["color"], "expected a pattern of"),
        ("..", ["color"], r"color is a file \.png"),
    ],
)
def test_patterns_that_name_nothing(tmp_path, relative, pattern, formats, said):
    with pytest.raises(ValueError, match=said):
        relative.save(tmp_path / "p", formats, name=pattern)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path, relative, monkeypatch):
    paths = relative.save(tmp_path / "p", ["png16", "npz"])
    before = [path.read_bytes() for path in paths]

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    changed = Prediction(disparity=2 * RELATIVE)
    with pytest.raises(OSError, match="No space"):
        changed.save(tmp_path / "p", ["png16", "npz"], overwrite=True)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths), "no temporary file stays"
