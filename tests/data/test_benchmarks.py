"""Every test set in its official layout, made here with a truth known in closed form."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiffs
from layouts.benchmarks import (
    HEIGHT,
    TURN,
    WIDTH,
    WRITERS,
    plane,
    save_png16,
    write_da2k,
    write_ddad,
    write_diode,
    write_eth3d,
    write_kitti,
    write_moge,
    write_nyuv2_mat,
    write_vkitti2,
)
from PIL import Image

from depth_anything.data.benchmarks import da2k, ddad, hypersim, kitti, moge, nyuv2, sets
from depth_anything.data.benchmarks.kitti import EIGEN_652
from depth_anything.data.benchmarks.nyuv2 import TEST_654
from depth_anything.data.benchmarks.read_ground_truth import read_first_channel, read_mask, read_numbers, read_uint16
from depth_anything.evaluate.protocol import PROTOCOLS
from depth_anything.evaluate.score import align, score

# -- one writer per set: the official layout, two images, a hole of known invalid pixels -------------------------------


FINE = {"kitti": 0.5 / 256, "nyuv2": 5e-4, "ibims": 25 / 65535, "sunrgbd": 5e-4, "vkitti2": 5e-3}
"""Half a step of the format: how well it can hold the truth."""


def test_every_test_set_has_a_writer():
    assert {one.folder for one in sets.BENCHMARKS.values()} == set(WRITERS) | {"moge"}  # whose writer is below


@pytest.mark.parametrize("name", WRITERS)
def test_ground_truth_is_read_in_metres_and_holes_are_left_out(name, tmp_path):
    WRITERS[name](tmp_path)
    contents = sets.read_benchmark(name, tmp_path, incomplete=True)
    assert len(contents.images) == 2
    assert len({case.key for case in contents.images}) == 2
    for case in contents.images:
        image_HW3, ground_truth = case.read_image(), case.read_ground_truth()
        height, width = ground_truth.values_HW.shape
        assert image_HW3.shape == (height, width, 3)
        assert image_HW3.dtype == np.uint8
        expected = plane(height, width)
        if name == "sintel":  # what is sky is the protocol's business
            assert (ground_truth.values_HW[:10] > 9e4).all()
        else:
            assert not ground_truth.valid_HW[:10].any()
        assert ground_truth.valid_HW[10:].all()
        assert np.abs(ground_truth.values_HW - expected)[10:].max() <= FINE.get(name, 1e-5)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [(p, s) for p in PROTOCOLS.values() for s in WRITERS if s in p.cuts or p.default_cut],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_ground_truth_itself_scores_perfectly_under_every_protocol_that_covers_the_set(protocol, name, tmp_path):
    WRITERS[name](tmp_path)
    case = sets.read_benchmark(name, tmp_path, incomplete=True).images[0]
    ground_truth = case.read_ground_truth()
    if name == "sintel":
        ground_truth = replace(ground_truth, valid_HW=ground_truth.valid_HW & (ground_truth.values_HW < 72))
    metric = protocol.align == "none"
    safe = np.where(ground_truth.valid_HW, ground_truth.values_HW, 1)
    aligned = align(safe if metric else 3 / safe + 2, "depth_m" if metric else "disparity", ground_truth, protocol,
                    protocol.cut(name))  # fmt: skip
    result = score(aligned, ("abs_rel", "delta1"))
    assert result["abs_rel"] < (2e-3 if protocol.floor == "first_percentile" else 1e-9)
    assert result["delta1"] == 1


def test_nyuv2_from_the_mat_takes_the_sensors_depth_and_turns_columns_into_rows(tmp_path):
    write_nyuv2_mat(tmp_path)
    cases = nyuv2.read(tmp_path / "nyuv2")
    assert len(cases) == 654
    image_HW3, ground_truth = cases[1].read_image(), cases[1].read_ground_truth()  # the second test image is number 2
    assert image_HW3.shape == (480, 640, 3)
    assert (image_HW3 == 1).all()
    assert not ground_truth.valid_HW[:10].any()
    assert np.abs(ground_truth.values_HW - plane(480, 640))[10:].max() < 1e-6
    with pytest.raises(ValueError, match=r"no images number 9; is this nyu_depth_v2_labeled\.mat"):
        cases[2].read_image()


def test_splits_have_the_published_sizes():
    assert sum(map(len, EIGEN_652.values())) == 652
    assert all(len(set(frames)) == len(frames) for frames in EIGEN_652.values())
    assert len(set(TEST_654)) == 654
    assert (min(TEST_654), max(TEST_654)) == (1, 1449)


def test_hypersim_distance_becomes_z():
    z = hypersim.distance_to_z(np.ones((768, 1024)))
    assert z[0, 0] == pytest.approx(886.81 / (511.5**2 + 383.5**2 + 886.81**2) ** 0.5)
    assert z[383:385, 511:513] == pytest.approx(1, abs=1e-6)


def test_ddad_rounds_down_and_lets_the_later_point_win(tmp_path):
    write_ddad(tmp_path)
    cloud = tmp_path / "ddad/000150/point_cloud/LIDAR/0000000000.npz"
    with np.load(cloud) as file:
        points = file["data"]
    ground_truth = ddad.read(tmp_path / "ddad")[0].read_ground_truth()
    assert ground_truth.valid_HW.sum() == (HEIGHT - 10) * WIDTH
    camera, lidar = (
        ddad.pose_matrix(pose)
        for pose in (
            {"rotation": {"qw": 1.0}, "translation": {"x": 4.0}},
            {"rotation": TURN, "translation": {"x": 1.0, "y": 2.0, "z": 3.0}},
        )
    )
    farther = np.diag([2.0, 2.0, 2.0, 1.0])  # the first point once more, on the same ray, twice as far
    again = np.linalg.inv(lidar) @ camera @ farther @ np.linalg.inv(camera) @ lidar @ [*points[0, :3], 1.0]
    np.savez(cloud, data=np.concatenate([points, [[*again[:3], 0.0]]]))
    later = ddad.read(tmp_path / "ddad")[0].read_ground_truth()
    changed = np.argwhere(later.values_HW != ground_truth.values_HW)
    assert changed.tolist() == [[10, 0]]
    assert later.values_HW[10, 0] == pytest.approx(2 * ground_truth.values_HW[10, 0])

    pose = ddad.pose_matrix({"rotation": TURN, "translation": {"z": 2.0}})
    assert pose @ [1, 0, 0, 1] == pytest.approx([0, 0, 1, 1])  # x turns to -z, then 2 further


def test_layouts_that_others_use_are_found_too(tmp_path):
    write_kitti(tmp_path)
    (tmp_path / "kitti/raw_data").rename(tmp_path / "kitti/raw")
    flat = tmp_path / "kitti/gts"
    flat.mkdir()
    for drive in (tmp_path / "kitti/data_depth_annotated").glob("*/*"):
        drive.rename(flat / drive.name)
    (tmp_path / "kitti/data_depth_annotated/val").rmdir()
    (tmp_path / "kitti/data_depth_annotated/train").rmdir()
    (tmp_path / "kitti/data_depth_annotated").rmdir()
    assert len(sets.read_benchmark("kitti", tmp_path, incomplete=True).images) == 2

    write_vkitti2(tmp_path)
    for kind in ("rgb", "depth"):
        for frames in (tmp_path / "vkitti2").glob(f"Scene01/*/frames/{kind}"):
            target = tmp_path / "vkitti2" / kind / "Scene01" / frames.parents[1].name / "frames" / kind
            target.parent.mkdir(parents=True)
            frames.rename(target)
    assert len(sets.read_benchmark("vkitti2", tmp_path, incomplete=True).images) == 2

    write_eth3d(tmp_path)
    base = tmp_path / "eth3d"
    (base / "rgb/office").mkdir(parents=True)
    (base / "depth/office_dslr_depth/office").mkdir(parents=True)
    (base / "office/images").rename(base / "rgb/office/images")
    (base / "office/ground_truth_depth").rename(base / "depth/office_dslr_depth/office/ground_truth_depth")
    assert len(sets.read_benchmark("eth3d", tmp_path, incomplete=True).images) == 2


def test_vkitti2_takes_a_list_where_there_is_one(tmp_path):
    write_vkitti2(tmp_path)
    (tmp_path / "vkitti2/test.txt").write_text("Scene01/fog/frames/rgb/Camera_0/rgb_00000.jpg\n")
    cases = sets.read_benchmark("vkitti2", tmp_path, incomplete=True).images
    assert [case.key for case in cases] == ["Scene01/fog/00000"]


@pytest.mark.parametrize("name", WRITERS)
def test_an_incomplete_set_is_refused_with_the_count(name, tmp_path):
    WRITERS[name](tmp_path)
    images = sets.BENCHMARKS[name].images
    with pytest.raises(ValueError, match=rf"2 of {images} images found under .*{name}.*--partial"):
        sets.read_benchmark(name, tmp_path)


@pytest.mark.parametrize("name", sets.BENCHMARKS)
def test_an_absent_set_says_where_it_was_expected_and_where_to_get_it(name, tmp_path):
    with pytest.raises(ValueError, match=rf"nothing found under {tmp_path}.*{sets.BENCHMARKS[name].folder}.*source"):
        sets.read_benchmark(name, tmp_path, incomplete=True)


def test_the_first_missing_file_is_named(tmp_path):
    write_diode(tmp_path)
    next((tmp_path / "diode/val/indoors").glob("*/*/*_mask.npy")).unlink()
    with pytest.raises(ValueError, match=r"1 of 771 images found.*first missing file is .*_indoors_000_010_depth_mask"):
        sets.read_benchmark("diode", tmp_path)
    with pytest.raises(ValueError, match=r"no test set 'kiti'; did you mean kitti\? expected one of kitti"):
        sets.read_benchmark("kiti", tmp_path)


@pytest.mark.parametrize(
    ("name", "pattern", "content", "message"),
    [
        ("sintel", "*.dpt", b"\0" * 40, "not a Sintel depth file"),
        (
            "sintel",
            "*.dpt",
            np.float32(202021.25).tobytes() + np.array([4, 4], "<i4").tobytes(),
            "12 bytes, expected 76",
        ),
        ("eth3d", "ground_truth_depth/**/*.JPG", b"\0" * 44, "44 bytes, expected"),
        ("diode", "*_depth.npy", b"\x93NUMPY", "not an .npy that can be read"),
        ("kitti", "groundtruth/**/*.png", b"\x89PNG", "cannot be read as a PNG"),
        ("hypersim", "*.hdf5", b"HDF", "cannot be read as HDF5"),
    ],
)
def test_damaged_ground_truth_is_named(name, pattern, content, message, tmp_path):
    WRITERS[name](tmp_path)
    path = sorted(tmp_path.glob(f"**/{pattern}"))[0]
    path.write_bytes(content)
    cases = sets.read_benchmark(name, tmp_path, incomplete=True).images
    with pytest.raises(ValueError, match=message):
        next(case for case in cases if path in case.files).read_ground_truth()


def test_kitti_ground_truth_in_8_bits_is_refused(tmp_path):
    write_kitti(tmp_path)
    case = sets.read_benchmark("kitti", tmp_path, incomplete=True).images[0]
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(case.files[1])
    with pytest.raises(ValueError, match=r"one channel \(16 bits\), got pixels L"):
        case.read_ground_truth()
    assert len(kitti.read(tmp_path / "kitti")) == 652


# -- DA-2K -------------------------------------------------------------------------------------------------------------


def test_da2k_points_are_row_and_column_and_the_closer_one_is_found(tmp_path):
    first = {"point1": [3, 25], "point2": [17, 2], "closer_point": "point1"}
    second = {"point1": [0, 1], "point2": [2, 3], "closer_point": "point2"}
    write_da2k(tmp_path, {"images/indoor/a.jpg": [first, second], "images/non_real/b.jpg": [first]})
    a, b = da2k.read(tmp_path)
    assert (a.scenario, b.scenario) == ("indoor", "non_real")
    assert a.closer_P2.tolist() == [[3, 25], [2, 3]]
    assert a.farther_P2.tolist() == [[17, 2], [0, 1]]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"images/indoor/a.jpg": [{"point1": [1, 2]}]}, r"pairs of images/indoor/a\.jpg cannot be read"),
        ({"images/indoor/a.jpg": [{"point1": [1, 2], "point2": [3, 4], "closer_point": "left"}]}, "cannot be read"),
        ({"images/indoor/a.jpg": []}, "has no pair"),
        ([], "a JSON list: expected an object"),
    ],
)
def test_da2k_broken_annotations(annotations, message, tmp_path):
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    with pytest.raises(ValueError, match=message):
        da2k.read(tmp_path)


def test_da2k_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"no .*annotations\.json; get DA-2K"):
        da2k.read(tmp_path)
    pair = {"point1": [3, 25], "point2": [17, 2], "closer_point": "point1"}
    write_da2k(tmp_path, {"images/indoor/a.jpg": [pair], "images/indoor/b.jpg": [pair]})
    (tmp_path / "images/indoor/b.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 images found; the first missing one is .*b\.jpg"):
        da2k.read(tmp_path)


# -- MoGe's bundle -----------------------------------------------------------------------------------------------------


def test_moge_centred_camera_sees_the_same_image_at_another_size(tmp_path):
    write_moge(tmp_path, [[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]])
    (case,) = sets.read_benchmark("moge-nyuv2", tmp_path).images
    image_HW3, ground_truth = case.read_image(), case.read_ground_truth()
    assert image_HW3.shape == (480, 640, 3)
    assert np.abs(ground_truth.values_HW - 3)[ground_truth.valid_HW].max() < 1e-3
    assert ground_truth.valid_HW.mean() == pytest.approx(110 / 120, abs=0.01)
    assert not ground_truth.valid_HW[:39].any()
    columns = (np.arange(640) + 0.5) / 4 - 0.5
    assert np.abs(image_HW3[240, 20:-20, 0] - columns[20:-20] * 255 / 160).max() < 3


def test_moge_off_centre_camera_is_turned_so_that_its_axis_meets_the_middle(tmp_path):
    camera = np.array([[1.0, 0, 0.3], [0, 4 / 3, 0.6], [0, 0, 1]])
    write_moge(tmp_path, camera.tolist())
    (case,) = moge.read(tmp_path / "moge", "moge-nyuv2")
    ground_truth = case.read_ground_truth()
    # The plane z = 3 as the turned camera sees it: along a ray r of the new camera, 3 / (R^T r)_z times r_z.
    view = moge.View(camera, 120, 160, moge.SETS["moge-nyuv2"])
    axis = np.linalg.inv(camera) @ [0.5, 0.5, 1]
    axis /= np.linalg.norm(axis)
    back = view.rays_HW3 @ moge._rotation_to_z(axis)
    expected = 3 / back[..., 2] * view.rays_HW3[..., 2]
    error = np.abs(ground_truth.values_HW - expected)[ground_truth.valid_HW] / 3
    assert error.max() < 0.02  # the nearest pixel of an image four times coarser
    assert np.median(error) < 2e-3
    # The new axis sees the old image's middle, and nothing outside of the old image is asked for.
    image_HW3 = case.read_image()
    assert np.abs(image_HW3[239:241, 319:321, :2].mean(axis=(0, 1)) - 127.5).max() < 4
    assert view.x_HW.min() > -1.01
    assert view.x_HW.max() < view.scaled_width + 0.01
    assert view.y_HW.min() > -1.01
    assert view.y_HW.max() < view.scaled_height + 0.01


def test_moge_rotation_is_a_rotation_to_z():
    direction = np.array([0.3, -0.4, 0.866])
    direction /= np.linalg.norm(direction)
    turn = moge._rotation_to_z(direction)
    assert turn @ direction == pytest.approx([0, 0, 1], abs=1e-12)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


def slow_nearest_known(map_HW, known_HW, height, width):
    old_height, old_width = map_HW.shape
    result, known = np.zeros((height, width)), np.zeros((height, width), bool)
    cover_y, cover_x = old_height / height, old_width / width
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * cover_y, (j + 0.5) * cover_x
            best = None
            for row in range(old_height):
                for column in range(old_width):
                    inside = abs(row + 0.5 - y) < cover_y / 2 and abs(column + 0.5 - x) < cover_x / 2
                    away = (row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2
                    if inside and known_HW[row, column] and (best is None or away < best):
                        best, result[i, j], known[i, j] = away, map_HW[row, column], True
    return result, known


def test_moge_nearest_known_pixel_against_loops():
    rng = np.random.default_rng(0)
    map_HW, known_HW = rng.random((12, 18)), rng.random((12, 18)) < 0.3
    result, known = moge.nearest_known(map_HW, known_HW, 4, 6)
    slow, slow_known = slow_nearest_known(map_HW, known_HW, 4, 6)
    assert np.array_equal(known, slow_known)
    assert np.array_equal(result[known], slow[known])
    same, same_known = moge.nearest_known(map_HW, known_HW, 12, 18)
    assert np.array_equal(same_known, known_HW)
    assert np.array_equal(same[known_HW], map_HW[known_HW])


def test_moge_broken_files(tmp_path):
    write_moge(tmp_path, [[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
    (case,) = moge.read(tmp_path / "moge", "moge-nyuv2")
    case.files[2].write_text("{}")
    with pytest.raises(ValueError, match="expected a JSON object with 3 x 3 intrinsics"):
        case.read_ground_truth()
    save_png16(case.files[1], np.ones((120, 160)))
    with pytest.raises(ValueError, match="no text fields near and far"):
        moge.read_depth(case.files[1])
    case.files[0].unlink()
    with pytest.raises(ValueError, match=r"nothing found under .*moge"):
        sets.read_benchmark("moge-nyuv2", tmp_path)


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_numbers_that_16_bits_do_not_hold_are_refused_not_wrapped(tmp_path, dtype):
    """Of a TIFF with the name of a PNG; those that 16 bits hold are read."""
    values_HW = np.array([[0, 1, 32767], [5, 6, 7]], dtype)
    for wrong in (-1, 70_000) if dtype is np.int32 else (-1,):
        tiff = tiffs.tiff(np.where(values_HW == 32767, wrong, values_HW).astype(dtype), 1)
        (tmp_path / "map.png").write_bytes(tiff)
        with pytest.raises(
            ValueError, match=rf"map.png: holds {min(wrong, 0)} to {max(wrong, 7)}; expected 0 to 65535"
        ):
            read_uint16(tmp_path / "map.png")
    (tmp_path / "map.png").write_bytes(tiffs.tiff(values_HW, 1))
    np.testing.assert_array_equal(read_uint16(tmp_path / "map.png"), values_HW)


@pytest.mark.parametrize("read", [read_numbers, read_first_channel, read_mask])
@pytest.mark.parametrize("fmt", ["JPEG", "WEBP"])
def test_numbers_in_a_lossy_format_are_refused(tmp_path, read, fmt):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "map.png", fmt)
    with pytest.raises(ValueError, match="map.png: a JPEG, which changes numbers" if fmt == "JPEG" else "map.png: "):
        read(tmp_path / "map.png")
