"""Every labelled set, read from its official layout: values back to the right metres, and each set's traps."""

import re
import shutil
import sys

import numpy as np
import pytest
from layouts.labeled import (
    HEIGHT,
    HOLE,
    HYPERSIM_SPLIT,
    TRUTH_M,
    WIDTH,
    WRITERS,
    hypersim_distance,
    save_exr,
    save_h5,
    save_image,
    save_pfm,
    save_png8,
    save_png16,
    with_hole,
)
from PIL import Image

from depth_anything.data.benchmarks.kitti import EIGEN_652
from depth_anything.data.labeled.kitti import EIGEN_TRAIN
from depth_anything.data.labeled.sets import LABELED, open_labeled
from depth_anything.data.samples import OnlyUsable, Unusable
from depth_anything.system.extras import EXTRA_OF, lacking

FILES = tuple(WRITERS)
METRIC = [name for name in FILES if LABELED[name].open.scale == "metric"]
HOLED = np.zeros((HEIGHT, WIDTH), bool)
HOLED[HOLE] = True


def opened(name, root):
    """As `data check` opens it: nothing passed over."""
    return LABELED[name].open(root)


def test_every_set_of_files_has_a_writer():
    assert set(FILES) == set(LABELED) - {"scenes"}


@pytest.mark.parametrize("name", FILES)
def test_values_and_holes(name, tmp_path):
    WRITERS[name](tmp_path)
    samples = opened(name, tmp_path)
    assert len(samples) == 2
    for number in range(2):
        sample = samples[number]
        assert sample.image_HW3.shape == (HEIGHT, WIDTH, 3) and sample.image_HW3.dtype == np.uint8
        assert sample.disparity_HW.dtype == np.float32
        assert samples.path(number).is_file() and sample.key == samples.images[number]
        assert not sample.valid_HW[HOLE].any() and not sample.disparity_HW[HOLE].any() and not sample.sky_HW.any()
        assert sample.scale == LABELED[name].open.scale
        if sample.scale == "affine":
            np.testing.assert_array_equal(sample.disparity_HW[~HOLED], np.round(255 * 1.5 / TRUTH_M)[~HOLED])
            continue
        valid = sample.valid_HW
        assert valid[~HOLED].mean() > (0.95 if name == "megadepth" else 0.9999)
        np.testing.assert_allclose(1 / sample.disparity_HW[valid], TRUTH_M[valid], rtol=2e-3)


@pytest.mark.parametrize("name", FILES)
def test_nearer_is_larger(name, tmp_path):
    WRITERS[name](tmp_path)
    sample = open_labeled(name, tmp_path)[0]
    rows, columns = np.nonzero(sample.valid_HW)
    order = np.argsort(TRUTH_M[rows, columns])
    disparity = sample.disparity_HW[rows, columns][order]
    assert (np.diff(disparity) <= 0).all() and disparity[0] > 2 * disparity[-1]


@pytest.mark.parametrize("name", FILES)
def test_a_broken_label_is_one_line_that_names_it(name, tmp_path):
    label = WRITERS[name](tmp_path)
    samples = opened(name, tmp_path)
    whole = label.read_bytes()
    label.write_bytes(whole[: len(whole) // 2])
    for read in (opened, open_labeled):
        with pytest.raises(ValueError) as told:
            read(name, tmp_path)[0]
        assert str(label) in str(told.value) and "\n" not in str(told.value)
        assert not isinstance(told.value, Unusable)
    label.unlink()
    with pytest.raises(ValueError, match="no such file; expected the label of") as told:
        samples[0]
    assert str(label) in str(told.value) and str(samples.path(0)) in str(told.value)


@pytest.mark.parametrize("name", FILES)
def test_a_label_of_another_size_is_refused(name, tmp_path):
    label = WRITERS[name](tmp_path)
    samples = opened(name, tmp_path)
    save_image(samples.path(0), size=(WIDTH + 2, HEIGHT))
    with pytest.raises(ValueError, match=f"{WIDTH} x {HEIGHT} pixels, but its image .* has {WIDTH + 2} x {HEIGHT}"):
        samples[0]
    assert label.is_file()


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_image_is_one_line_that_names_it(name, tmp_path):
    WRITERS[name](tmp_path)
    samples = opened(name, tmp_path)
    samples.path(0).write_bytes(samples.path(0).read_bytes()[:50])
    with pytest.raises(ValueError) as told:
        samples[0]
    assert str(samples.path(0)) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", FILES)
def test_another_folder_says_what_was_expected(name, tmp_path):
    with pytest.raises(ValueError, match="expected") as told:
        open_labeled(name, tmp_path)
    message = str(told.value)
    assert str(tmp_path) in message and LABELED[name].open.layout in message and "\n" not in message
    with pytest.raises(ValueError, match="no such folder"):
        open_labeled(name, tmp_path / "absent")


def test_an_unknown_set_lists_all():
    with pytest.raises(ValueError, match="no labelled set 'redweb'; expected one of blendedmvs, diml"):
        open_labeled("redweb", "anywhere")


@pytest.mark.parametrize("name", FILES)
def test_the_table_knows_the_library_of_a_reader(name, tmp_path, monkeypatch):
    """Without it the first image cannot be read, and the line is the one that `train` gives before; without the others
    it can."""
    WRITERS[name](tmp_path)
    needed = LABELED[name].needed_library
    for library in EXTRA_OF:
        if library != needed:
            monkeypatch.setitem(sys.modules, library, None)
    assert opened(name, tmp_path)[0].valid_HW.any()
    if needed:
        monkeypatch.setitem(sys.modules, needed, None)
        (told,) = lacking(needed, name)
        with pytest.raises(ValueError, match=re.escape(told.removeprefix(f"{name} "))):
            opened(name, tmp_path)[0]


@pytest.mark.parametrize("name", FILES)
def test_images_txt_chooses(name, tmp_path):
    WRITERS[name](tmp_path)
    second = opened(name, tmp_path).images[1]
    (tmp_path / "pictures.txt").write_text(f"/{second} some/other.png 518.8579\n")
    samples = opened(name, tmp_path)
    assert samples.images == [second]
    assert samples[0].key == second
    (tmp_path / "pictures.txt").write_text("all of them\n")
    with pytest.raises(ValueError, match=r"pictures\.txt: 'all of them' names no image"):
        opened(name, tmp_path)


def test_a_usable_image_replaces_an_unusable_one(tmp_path):
    label = WRITERS["megadepth"](tmp_path)
    second = opened("megadepth", tmp_path)[1]
    save_h5(label, "depth", np.full((HEIGHT, WIDTH), -1, np.float32))
    samples = open_labeled("megadepth", tmp_path)
    assert isinstance(samples, OnlyUsable) and len(samples) == 2
    assert samples[0].key == samples[1].key == second.key
    with pytest.raises(IndexError):
        samples[2]
    save_h5(label.with_name("Old_Photo.h5"), "depth", np.full((HEIGHT, WIDTH), -1, np.float32))
    with pytest.raises(ValueError, match="not one usable label"):
        samples[0]


@pytest.mark.parametrize("name", METRIC)
def test_what_touches_the_camera_is_dropped(name, tmp_path):
    """A pixel at 2 cm, in each set's own unit: it would take the whole range of the map."""
    label = WRITERS[name](tmp_path)
    values_m = TRUTH_M.copy()
    values_m[0, 0] = 0.02
    if name == "hypersim":
        save_h5(label, "dataset", values_m.astype(np.float32))
    elif name == "irs":
        save_exr(label, {"G": 48 / values_m})
    elif name == "tartanair":
        np.save(label, values_m)
    else:
        save_png16(label, values_m * {"diml": 1000, "vkitti2": 100, "nyuv2": 1000, "kitti": 256}[name])
    sample = opened(name, tmp_path)[0]
    assert not sample.valid_HW[0, 0] and sample.disparity_HW.max() < 1


# -- each set's own traps ----------------------------------------------------------------------------------------------


def test_blendedmvs_reads_either_byte_order_empty_maps_and_cameras(tmp_path):
    label = WRITERS["blendedmvs"](tmp_path)
    samples = opened("blendedmvs", tmp_path)
    np.testing.assert_array_equal(samples[0].disparity_HW, samples[1].disparity_HW)  # little-endian, big-endian
    np.testing.assert_array_equal(samples[0].K_33, [[580, 0, 383.5], [0, 581, 287.5], [0, 0, 1]])
    save_pfm(label, np.zeros((HEIGHT, WIDTH)))
    with pytest.raises(Unusable, match="not one usable pixel"):
        samples[0]
    (tmp_path / "5a3ca9cb270f0e3f14d0eddb/cams/00000001_cam.txt").write_text("extrinsic\n1 2\n")
    with pytest.raises(ValueError, match=r"00000001_cam\.txt: not a camera file"):
        samples[1]


def test_diml_drops_saturation_and_pixels_without_confidence(tmp_path):
    WRITERS["diml"](tmp_path)
    folder = tmp_path / "outdoor/160725_C2/A"
    millimetres = TRUTH_M * 1000
    millimetres[0, 0], millimetres[0, 1], millimetres[0, 2] = 65535, 65000, 90
    save_png16(folder / "depth/out_zed_000001_depth.png", millimetres)
    confidence = np.full((HEIGHT, WIDTH), 128)
    confidence[7, 3] = 0
    save_png8(folder / "conf/out_zed_000001_conf.png", confidence)
    sample = opened("diml", tmp_path)[1]
    dropped = {(y, x) for y, x in zip(*np.nonzero(~sample.valid_HW), strict=True)}
    assert dropped == {(0, 0), (0, 1), (0, 2), (7, 3)}
    (folder / "conf/out_zed_000001_conf.png").unlink()
    assert opened("diml", tmp_path)[1].valid_HW[7, 3]


def test_diml_reads_sample_packs_once_and_other_endings(tmp_path):
    for size in ("HR", "LR"):
        scene = tmp_path / f"indoor/train/{size}/02. Cafe"
        save_image(scene / "color/000001_c.png")
        save_png16(scene / "depth_filled/000001_depth_filled.png", TRUTH_M * 1000)
        outdoor = tmp_path / f"outdoor/train/{size}"
        save_image(outdoor / "outleft/0.png")
        save_png16(outdoor / "depthmap/0.png", TRUTH_M * 1000)
        save_png8(outdoor / "confidencemap/0.png", with_hole(np.full((HEIGHT, WIDTH), 255), 0))
    save_image(tmp_path / "indoor/4/16.01.19/7/col/a_b_c.png")
    save_png16(tmp_path / "indoor/4/16.01.19/7/up_png/a_b_filled.png", TRUTH_M * 1000)
    samples = opened("diml", tmp_path)
    assert samples.images == [
        "indoor/4/16.01.19/7/col/a_b_c.png",
        "indoor/train/HR/02. Cafe/color/000001_c.png",
        "outdoor/train/HR/outleft/0.png",
    ]
    for number in range(3):
        np.testing.assert_allclose(1 / samples[number].disparity_HW[0], TRUTH_M[0], rtol=1e-3)
    assert not samples[2].valid_HW[HOLE].any() and samples[1].valid_HW.all()


def test_eight_bit_depth_is_refused(tmp_path):
    label = WRITERS["diml"](tmp_path)
    save_png8(label, TRUTH_M)
    with pytest.raises(ValueError, match="16 bits"):
        opened("diml", tmp_path)[0]


def test_hrwsi_zero_is_a_value_where_the_mask_says_so_and_both_depths_are_read(tmp_path):
    label = WRITERS["hrwsi"](tmp_path)
    levels = np.round(60000 * 1.5 / TRUTH_M)
    levels[0] = 0  # the sky, mostly
    save_png16(label, levels)
    sample = opened("hrwsi", tmp_path)[0]
    assert sample.valid_HW[0].all() and not sample.disparity_HW[0].any()
    np.testing.assert_array_equal(sample.disparity_HW[~HOLED], levels[~HOLED])
    colours = np.stack([np.round(255 * 1.5 / TRUTH_M), np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(label)
    np.testing.assert_array_equal(opened("hrwsi", tmp_path)[0].disparity_HW[~HOLED], colours[:, :, 0][~HOLED])


@pytest.mark.parametrize("channels", [("V",), ("Z",), ("R", "G", "B")])
def test_irs_takes_the_channel_whatever_its_name(channels, tmp_path):
    label = WRITERS["irs"](tmp_path)
    pixels = 48 / TRUTH_M
    pixels[0, 0], pixels[0, 1], pixels[0, 2], pixels[0, 3], pixels[0, 4] = np.nan, np.inf, -5, 0.2, 0.5
    save_exr(label, dict.fromkeys(channels, pixels))
    sample = opened("irs", tmp_path)[0]
    assert sample.valid_HW[0].tolist() == [False, False, False, False] + [True] * (WIDTH - 4)  # 0.2 pixels: 240 m
    assert 1 / sample.disparity_HW[0, 4] == pytest.approx(96)
    np.testing.assert_allclose(1 / sample.disparity_HW[1:], TRUTH_M[1:], rtol=1e-5)
    assert sample.K_33 is not None and sample.K_33[0, 0] == 480


@pytest.mark.parametrize("kind", ["negative", "small whole numbers", "few values"])
def test_megadepth_refuses_an_order(kind, tmp_path):
    label = WRITERS["megadepth"](tmp_path)
    rng = np.random.default_rng(0)
    maps = {
        "negative": with_hole(TRUTH_M, -1),
        "small whole numbers": rng.integers(0, 4, (HEIGHT, WIDTH)),
        "few values": rng.integers(0, 20, (HEIGHT, WIDTH)) * 1.37,
    }
    save_h5(label, "depth", maps[kind].astype(np.float32))
    with pytest.raises(Unusable, match="an order of foreground and background") as told:
        opened("megadepth", tmp_path)[0]
    assert str(label) in str(told.value)


def test_megadepth_drops_both_ends_and_knows_empty_maps(tmp_path):
    label = WRITERS["megadepth"](tmp_path)
    depth = np.sort(np.random.default_rng(0).uniform(3, 7, HEIGHT * WIDTH)).reshape(HEIGHT, WIDTH)
    depth[0, 0], depth[-1, -1] = 1e-3, 1e6  # one too near, one too far
    save_h5(label, "depth", depth.astype(np.float32))
    samples = opened("megadepth", tmp_path)
    sample = samples[0]
    count = HEIGHT * WIDTH
    assert not sample.valid_HW[0, 0] and not sample.valid_HW[-1, -1]
    assert count - sample.valid_HW.sum() == int(0.01 * count) + 1 + int(0.02 * count) + 1  # 2 nearest, 4 farthest
    assert samples[1].image_HW3.shape == (HEIGHT, WIDTH, 3)  # a grey photograph
    save_h5(label, "depth", np.zeros((HEIGHT, WIDTH), np.float32))
    with pytest.raises(Unusable, match="not one usable pixel"):
        samples[0]
    save_h5(label, "something", np.zeros((HEIGHT, WIDTH), np.float32))
    with pytest.raises(ValueError, match="no field named depth"):
        samples[0]


def test_megadepth_as_its_archive_unpacks(tmp_path):
    WRITERS["megadepth"](tmp_path / "phoenix/S6/zl548")
    assert len(opened("megadepth", tmp_path)) == 2
    assert len(opened("megadepth", tmp_path / "phoenix/S6/zl548/MegaDepth_v1")) == 2


def test_tartanair_sky_is_a_sphere(tmp_path):
    label = WRITERS["tartanair"](tmp_path)
    depth = TRUTH_M.copy()
    depth[0, :4], depth[0, 4], depth[0, 5], depth[0, 6] = 1000, 0, np.nan, np.inf
    depth[1, 0], depth[1, 1] = 14000, 999
    np.save(label, depth.astype(np.float32))
    sample = opened("tartanair", tmp_path)[0]
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[0, :4] = sky[1, 0] = True
    np.testing.assert_array_equal(sample.sky_HW, sky)
    assert sample.valid_HW[sky].all() and not sample.disparity_HW[sky].any()
    assert not sample.valid_HW[0, 4:7].any()
    assert 1 / sample.disparity_HW[1, 1] == pytest.approx(999)


def test_vkitti2_sky_is_the_largest_number_in_either_layout(tmp_path):
    WRITERS["vkitti2"](tmp_path / "merged")
    for kind in ("rgb", "depth"):
        frames = tmp_path / f"merged/Scene01/clone/frames/{kind}"
        shutil.copytree(frames, tmp_path / f"apart/{kind}/Scene01/clone/frames/{kind}")
    for root in (tmp_path / "merged", tmp_path / "apart"):
        label = next(root.rglob("Scene01/clone/frames/depth/Camera_0/depth_00000.png"))
        centimetres = TRUTH_M * 100
        centimetres[:2] = 65535
        centimetres[2, 0] = 65534
        save_png16(label, centimetres)
        sample = opened("vkitti2", root)[0]
        assert sample.sky_HW[:2].all() and sample.valid_HW.all() and not sample.disparity_HW[:2].any()
        assert not sample.sky_HW[2:].any() and 1 / sample.disparity_HW[2, 0] == pytest.approx(655.34)


def test_hypersim_needs_the_split_and_reads_only_its_training_part(tmp_path):
    WRITERS["hypersim"](tmp_path)
    keys = opened("hypersim", tmp_path).images
    assert [key.split("/")[0] for key in keys] == ["ai_001_001"] * 2
    assert [key[-16:] for key in keys] == ["0000.tonemap.jpg", "0001.tonemap.jpg"]
    (tmp_path / HYPERSIM_SPLIT).unlink()
    with pytest.raises(ValueError, match=HYPERSIM_SPLIT):
        opened("hypersim", tmp_path)


# of ai_007_005 in the authors' list: the image plane is tilted against the camera's axis
TILTED = [[0.5926, 0.0, 0.0], [0.0, 0.4331, 0.0], [0.0, 0.0996, -1.0263]]


def write_cameras(root, rows):
    names = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    lines = ["scene_name," + ",".join(names)]
    lines += [f"{scene}," + ",".join(str(number) for row in matrix for number in row) for scene, matrix in rows.items()]
    (root / "metadata_camera_parameters.csv").write_text("\n".join(lines) + "\n")


def test_hypersim_uses_the_scene_s_own_camera(tmp_path):
    """A wall parallel to the image plane, 3 m away, ray by ray: its z must be the same everywhere."""
    label = WRITERS["hypersim"](tmp_path)
    matrix = np.array(TILTED)
    normal = np.cross(matrix[:, 0], matrix[:, 1])
    normal /= np.linalg.norm(normal)
    distance = np.empty((HEIGHT, WIDTH))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            u, v = 2 * (x + 0.5) / WIDTH - 1, 1 - 2 * (y + 0.5) / HEIGHT
            ray = matrix @ [u, v, 1.0]
            distance[y, x] = 3 * np.linalg.norm(ray) / abs(ray @ normal)
    save_h5(label, "dataset", distance.astype(np.float32))
    assert np.ptp(1 / opened("hypersim", tmp_path)[0].disparity_HW) > 0.1  # by the usual camera
    write_cameras(tmp_path, {"ai_001_001": TILTED})
    sample = opened("hypersim", tmp_path)[0]
    np.testing.assert_allclose(1 / sample.disparity_HW, 3, rtol=1e-5)
    K = sample.K_33
    assert K is not None and K[2].tolist() == [0, 0, 1] and K[1, 0] == pytest.approx(0) and K[0, 0] > 0 < K[1, 1]
    # K sends a point on the ray of a pixel back to this pixel, whichever way the camera was turned: same angles
    inverse = np.linalg.inv(K)
    for (y, x), (other_y, other_x) in (((0, 0), (11, 15)), ((2, 13), (9, 1))):
        rays = [inverse @ [x, y, 1], inverse @ [other_x, other_y, 1]]
        true = [
            matrix @ [2 * (c + 0.5) / WIDTH - 1, 1 - 2 * (r + 0.5) / HEIGHT, 1] for r, c in ((y, x), (other_y, other_x))
        ]
        angles = [np.dot(*pair) / np.prod([np.linalg.norm(one) for one in pair]) for pair in (rays, true)]
        assert angles[0] == pytest.approx(angles[1], abs=1e-9)
    write_cameras(tmp_path, {"ai_002_002": TILTED})
    with pytest.raises(ValueError, match=r"metadata_camera_parameters\.csv: no row for the scene ai_001_001"):
        opened("hypersim", tmp_path)[0]


def test_hypersim_s_usual_camera_is_the_released_one(tmp_path):
    """With the list's untilted matrix (60 degrees across, square pixels) as without the list."""
    WRITERS["hypersim"](tmp_path)
    without = opened("hypersim", tmp_path)[0]
    write_cameras(tmp_path, {"ai_001_001": [[0.57735028, 0, 0], [0, 0.57735028 * HEIGHT / WIDTH, 0], [0, 0, -1]]})
    sample = opened("hypersim", tmp_path)[0]
    np.testing.assert_allclose(sample.disparity_HW, without.disparity_HW, rtol=1e-5)
    np.testing.assert_allclose(sample.K_33, without.K_33, atol=1e-4)
    assert hypersim_distance()[0, 0] > 1.1 * TRUTH_M[0, 0]  # distance taken for z would be 10 % off here


def test_nyuv2_never_reads_the_test_images_and_takes_bts_list(tmp_path):
    WRITERS["nyuv2"](tmp_path)
    assert opened("nyuv2", tmp_path).images == ["kitchen_0028b/rgb_00045.jpg", "office_0001/rgb_00045.jpg"]
    for scene in list((tmp_path / "sync").iterdir()):
        scene.rename(tmp_path / scene.name)
    (tmp_path / "sync").rmdir()
    assert opened("nyuv2", tmp_path).images == ["kitchen_0028b/rgb_00045.jpg", "office_0001/rgb_00045.jpg"]
    line = "/office_0001/rgb_00045.jpg /office_0001/sync_depth_00045.png 518.8579\n"
    (tmp_path / "nyudepthv2_train_files_with_gt.txt").write_text(line)
    samples = opened("nyuv2", tmp_path)
    assert samples.images == ["office_0001/rgb_00045.jpg"] and samples[0].valid_HW.any()


def test_kitti_is_the_eigen_training_split(tmp_path):
    WRITERS["kitti"](tmp_path)
    samples = opened("kitti", tmp_path)
    assert samples.images == [
        f"2011_09_26/2011_09_26_drive_{drive}_sync/image_02/data/0000000005.png" for drive in ("0001", "0005")
    ]
    assert len(EIGEN_TRAIN) == len(set(EIGEN_TRAIN)) == 33 and not set(EIGEN_TRAIN) & set(EIGEN_652)
    line = samples.images[1] + " 2011_09_26_drive_0005_sync/proj_depth/groundtruth/image_02/0000000005.png 721.5377\n"
    (tmp_path / "eigen_train_files_with_gt.txt").write_text(line)
    listed = opened("kitti", tmp_path)
    assert listed.images == samples.images[1:] and listed[0].valid_HW.any()


def test_scenes_are_a_set_too(tmp_path):
    with pytest.raises(ValueError, match="depth-anything render"):
        open_labeled("scenes", tmp_path)
