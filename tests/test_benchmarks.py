"""Every test set in its official layout, made here with a truth known in closed form."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from depth_anything.data.benchmarks import da2k, ddad, hypersim, kitti, moge, nyuv2, sets
from depth_anything.data.benchmarks.kitti_split import EIGEN_652
from depth_anything.data.benchmarks.nyuv2_split import TEST_654
from depth_anything.evaluate.protocol import PROTOCOLS
from depth_anything.evaluate.score import align, score

HEIGHT, WIDTH = 100, 140
KITTI_SIZE = 352, 1216
"""The KITTI crop must fit, so that every protocol can be run on every fixture."""


def plane(height=HEIGHT, width=WIDTH):
    """z in metres: 1.5 at the left edge to 6.5 at the right."""
    return np.broadcast_to(np.linspace(1.5, 6.5, width), (height, width)).copy()


def save_image(path, height=HEIGHT, width=WIDTH, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), value, np.uint8)
    image[:, :, 0] = np.arange(width) % 251
    Image.fromarray(image).save(path)


def save_png16(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values).astype(np.uint16)).save(path)


# -- one writer per set: the official layout, two images, a hole of known invalid pixels -------------------------------


def write_kitti(root):
    drives = ("2011_09_26_drive_0002_sync", "2011_09_26_drive_0009_sync")
    for drive, part in zip(drives, ("val", "train"), strict=True):
        frame = f"{EIGEN_652[drive][0]:010d}.png"
        save_image(root / "kitti/raw_data/2011_09_26" / drive / "image_02/data" / frame, *KITTI_SIZE)
        values = plane(*KITTI_SIZE) * 256
        values[:10] = 0
        folder = root / "kitti/data_depth_annotated" / part / drive / "proj_depth/groundtruth/image_02"
        save_png16(folder / frame, values)


def write_nyuv2_mat(root):
    h5py = pytest.importorskip("h5py")
    (root / "nyuv2").mkdir()
    raw = plane(480, 640)
    raw[:10] = 0
    filled = np.full_like(raw, 3.0)
    with h5py.File(root / "nyuv2/nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([np.full((3, 640, 480), i, np.uint8) for i in range(2)])
        file["rawDepths"] = np.stack([raw.T, raw.T]).astype(np.float32)
        file["depths"] = np.stack([filled.T, filled.T]).astype(np.float32)


def write_nyuv2_folders(root):
    for number in TEST_654[:2]:
        folder = root / "nyuv2/official_splits/test/kitchen"
        save_image(folder / f"rgb_{number - 1:05d}.jpg")
        values = plane() * 1000
        values[:10] = 0
        save_png16(folder / f"sync_depth_{number - 1:05d}.png", values)


def write_sintel(root):
    for frame in (1, 2):
        save_image(root / f"sintel/training/final/alley_1/frame_{frame:04d}.png")
        path = root / f"sintel/training/depth/alley_1/frame_{frame:04d}.dpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = plane().astype("<f4")
        values[:10] = 1e5  # sky
        header = np.array([202021.25], "<f4").tobytes() + np.array([WIDTH, HEIGHT], "<i4").tobytes()
        path.write_bytes(header + values.tobytes())


def write_eth3d(root):
    for name in ("DSC_0219", "DSC_0220"):
        save_image(root / f"eth3d/office/images/dslr_images/{name}.JPG")
        path = root / f"eth3d/office/ground_truth_depth/dslr_images/{name}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = plane().astype("<f4")
        values[:10] = np.inf
        values.tofile(path)


def write_diode(root):
    for folder in ("indoors", "outdoor"):
        path = root / f"diode/val/{folder}/scene_00019/scan_00183/00019_00183_{folder}_000_010"
        save_image(path.with_name(path.name + ".png"))
        values, mask = plane()[:, :, None], np.ones((HEIGHT, WIDTH))
        values[:10], mask[:10] = 0.1, 0  # a false depth that only the mask betrays
        np.save(path.with_name(path.name + "_depth.npy"), values.astype(np.float32))
        np.save(path.with_name(path.name + "_depth_mask.npy"), mask)


def write_ibims(root):
    names = ("corridor_01", "office_02")
    for name in names:
        save_image(root / f"ibims/rgb/{name}.png")
        save_png16(root / f"ibims/depth/{name}.png", plane() * 65535 / 50)
        invalid, transparent = np.full((2, HEIGHT, WIDTH), 255, np.uint8)
        invalid[:5], transparent[5:10] = 0, 0
        for folder, mask in (("mask_invalid", invalid), ("mask_transp", transparent)):
            (root / f"ibims/{folder}").mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / f"ibims/{folder}/{name}.png")
    (root / "ibims/imagelist.txt").write_text("\n".join(names))


def write_sunrgbd(root):
    folders = [f"SUNRGBD/kv1/NYUdata/NYU{i:04d}" for i in (1, 2)]
    for folder in folders:
        save_image(root / f"sunrgbd/{folder}/image/picture.jpg")
        millimetres = np.round(plane() * 1000).astype(np.uint16)
        millimetres[:10] = 0
        save_png16(root / f"sunrgbd/{folder}/depth_bfx/depth.png", (millimetres << 3) | (millimetres >> 13))
    (root / "sunrgbd/test.txt").write_text("\n".join(folders) + "\n")


def write_hypersim(root):
    h5py = pytest.importorskip("h5py")
    rows = ["scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"]
    for scene, public, split in (
        ("ai_001_010", "True", "test"),
        ("ai_003_010", "True", "test"),
        ("ai_004_001", "True", "train"),
        ("ai_005_001", "False", "test"),
    ):
        rows.append(f"{scene},cam_00,0,{public},,{split}")
        if (public, split) == ("True", "test"):
            save_image(root / f"hypersim/{scene}/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg")
            values = plane() / hypersim.distance_to_z(np.ones((HEIGHT, WIDTH)))
            values[:10] = np.nan
            path = root / f"hypersim/{scene}/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"
            path.parent.mkdir(parents=True)
            with h5py.File(path, "w") as file:
                file["dataset"] = values
    (root / "hypersim/metadata_images_split_scene_v1.csv").write_text("\n".join(rows) + "\n")


def write_vkitti2(root):
    for variant in ("clone", "fog"):
        frames = root / f"vkitti2/Scene01/{variant}/frames"
        save_image(frames / "rgb/Camera_0/rgb_00000.jpg", *KITTI_SIZE)
        values = plane(*KITTI_SIZE) * 100
        values[:10] = 65535  # sky
        save_png16(frames / "depth/Camera_0/depth_00000.png", values)


FOCAL, CENTRE = 100.0, (69.5, 49.5)
TURN = {"qw": 0.5**0.5, "qx": 0.0, "qy": 0.5**0.5, "qz": 0.0}  # a quarter turn about y


def write_ddad(root):
    scene = root / "ddad/000150"
    v, u = np.mgrid[10:HEIGHT, 0:WIDTH]
    z = plane()[10:]
    camera = np.stack([(u + 0.5 - CENTRE[0]) / FOCAL * z, (v + 0.5 - CENTRE[1]) / FOCAL * z, z], axis=-1).reshape(-1, 3)
    camera = np.concatenate([camera, [[0, 0, -5.0]]])  # behind the camera: must not appear
    lidar_pose = {"rotation": TURN, "translation": {"x": 1.0, "y": 2.0, "z": 3.0}}
    camera_pose = {"rotation": {"qw": 1.0}, "translation": {"x": 4.0}}  # fields that are 0 may be absent
    world = camera + [4.0, 0, 0]
    quarter = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    lidar = (world - [1.0, 2.0, 3.0]) @ quarter  # row vectors: R^T (X - t)
    data, samples = [], []
    for index in range(2):
        name = f"{index:010d}"
        save_image(scene / f"rgb/CAMERA_01/{name}.png")
        (scene / "point_cloud/LIDAR").mkdir(parents=True, exist_ok=True)
        np.savez(scene / f"point_cloud/LIDAR/{name}.npz", data=np.c_[lidar, np.zeros(len(lidar))])
        image = {"filename": f"rgb/CAMERA_01/{name}.png", "height": HEIGHT, "width": WIDTH, "pose": camera_pose}
        cloud = {"filename": f"point_cloud/LIDAR/{name}.npz", "pose": lidar_pose}
        data.append({"key": f"c{index}", "id": {"name": "CAMERA_01"}, "datum": {"image": image}})
        data.append({"key": f"l{index}", "id": {"name": "LIDAR"}, "datum": {"point_cloud": cloud}})
        samples.append({"datum_keys": [f"c{index}", f"l{index}"], "calibration_key": "abc"})
    (scene / "calibration").mkdir()
    k = {"fx": FOCAL, "fy": FOCAL, "cx": CENTRE[0], "cy": CENTRE[1], "skew": 0.0}
    calibration = {"names": ["LIDAR", "CAMERA_01"], "intrinsics": [{}, k]}
    (scene / "calibration/abc.json").write_text(json.dumps(calibration))
    (scene / "scene_1f.json").write_text(json.dumps({"data": data, "samples": samples}))
    splits = {"0": {"filenames": ["000000/scene_00.json"]}, "1": {"filenames": ["000150/scene_1f.json"]}}
    (root / "ddad/ddad.json").write_text(json.dumps({"scene_splits": splits}))


WRITERS = {
    "kitti": write_kitti,
    "nyuv2": write_nyuv2_folders,
    "sintel": write_sintel,
    "ddad": write_ddad,
    "eth3d": write_eth3d,
    "diode": write_diode,
    "ibims": write_ibims,
    "sunrgbd": write_sunrgbd,
    "hypersim": write_hypersim,
    "vkitti2": write_vkitti2,
}
FINE = {"kitti": 0.5 / 256, "nyuv2": 5e-4, "ibims": 25 / 65535, "sunrgbd": 5e-4, "vkitti2": 5e-3}
"""Half a step of the format: how well it can hold the truth."""


@pytest.mark.parametrize("name", WRITERS)
def test_truth_is_read_in_metres_and_holes_are_left_out(name, tmp_path):
    WRITERS[name](tmp_path)
    contents = sets.read_benchmark(name, tmp_path, incomplete=True)
    assert len(contents.cases) == 2
    assert len({case.key for case in contents.cases}) == 2
    for case in contents.cases:
        image_HW3, truth = case.read_image(), case.read_truth()
        height, width = truth.values_HW.shape
        assert image_HW3.shape == (height, width, 3)
        assert image_HW3.dtype == np.uint8
        expected = plane(height, width)
        if name == "sintel":  # what is sky is the protocol's business
            assert (truth.values_HW[:10] > 9e4).all()
        else:
            assert not truth.valid_HW[:10].any()
        assert truth.valid_HW[10:].all()
        assert np.abs(truth.values_HW - expected)[10:].max() <= FINE.get(name, 1e-5)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [(p, s) for p in PROTOCOLS.values() for s in WRITERS if s in p.cuts or p.default_cut],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_truth_itself_scores_perfectly_under_every_protocol_that_covers_the_set(protocol, name, tmp_path):
    WRITERS[name](tmp_path)
    case = sets.read_benchmark(name, tmp_path, incomplete=True).cases[0]
    truth = case.read_truth()
    if name == "sintel":
        truth = replace(truth, valid_HW=truth.valid_HW & (truth.values_HW < 72))
    metric = protocol.align == "none"
    safe = np.where(truth.valid_HW, truth.values_HW, 1)
    aligned = align(safe if metric else 3 / safe + 2, "depth_m" if metric else "disparity", truth, protocol,
                    protocol.cut(name))  # fmt: skip
    result = score(aligned, ("abs_rel", "delta1"))
    assert result["abs_rel"] < (2e-3 if protocol.floor == "first_percentile" else 1e-9)
    assert result["delta1"] == 1


def test_nyuv2_from_the_mat_takes_the_sensors_depth_and_turns_columns_into_rows(tmp_path):
    write_nyuv2_mat(tmp_path)
    cases = nyuv2.read(tmp_path / "nyuv2")
    assert len(cases) == 654
    image_HW3, truth = cases[1].read_image(), cases[1].read_truth()  # the second test image is number 2
    assert image_HW3.shape == (480, 640, 3)
    assert (image_HW3 == 1).all()
    assert not truth.valid_HW[:10].any()
    assert np.abs(truth.values_HW - plane(480, 640))[10:].max() < 1e-6
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
    truth = ddad.read(tmp_path / "ddad")[0].read_truth()
    assert truth.valid_HW.sum() == (HEIGHT - 10) * WIDTH
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
    later = ddad.read(tmp_path / "ddad")[0].read_truth()
    changed = np.argwhere(later.values_HW != truth.values_HW)
    assert changed.tolist() == [[10, 0]]
    assert later.values_HW[10, 0] == pytest.approx(2 * truth.values_HW[10, 0])

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
    assert len(sets.read_benchmark("kitti", tmp_path, incomplete=True).cases) == 2

    write_vkitti2(tmp_path)
    for kind in ("rgb", "depth"):
        for frames in (tmp_path / "vkitti2").glob(f"Scene01/*/frames/{kind}"):
            target = tmp_path / "vkitti2" / kind / "Scene01" / frames.parents[1].name / "frames" / kind
            target.parent.mkdir(parents=True)
            frames.rename(target)
    assert len(sets.read_benchmark("vkitti2", tmp_path, incomplete=True).cases) == 2

    write_eth3d(tmp_path)
    base = tmp_path / "eth3d"
    (base / "rgb/office").mkdir(parents=True)
    (base / "depth/office_dslr_depth/office").mkdir(parents=True)
    (base / "office/images").rename(base / "rgb/office/images")
    (base / "office/ground_truth_depth").rename(base / "depth/office_dslr_depth/office/ground_truth_depth")
    assert len(sets.read_benchmark("eth3d", tmp_path, incomplete=True).cases) == 2


def test_vkitti2_takes_a_list_where_there_is_one(tmp_path):
    write_vkitti2(tmp_path)
    (tmp_path / "vkitti2/test.txt").write_text("Scene01/fog/frames/rgb/Camera_0/rgb_00000.jpg\n")
    cases = sets.read_benchmark("vkitti2", tmp_path, incomplete=True).cases
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
    with pytest.raises(ValueError, match="no test set 'kiti'; choose one of: kitti"):
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
        ("diode", "*_depth.npy", b"\x93NUMPY", r"cannot be read as a \.npy"),
        ("kitti", "groundtruth/**/*.png", b"\x89PNG", "cannot be read as a PNG"),
        ("hypersim", "*.hdf5", b"HDF", "cannot be read as HDF5"),
    ],
)
def test_damaged_truth_is_named(name, pattern, content, message, tmp_path):
    WRITERS[name](tmp_path)
    path = sorted(tmp_path.glob(f"**/{pattern}"))[0]
    path.write_bytes(content)
    cases = sets.read_benchmark(name, tmp_path, incomplete=True).cases
    with pytest.raises(ValueError, match=message):
        next(case for case in cases if path in case.files).read_truth()


def test_kitti_truth_in_8_bits_is_refused(tmp_path):
    write_kitti(tmp_path)
    case = sets.read_benchmark("kitti", tmp_path, incomplete=True).cases[0]
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(case.files[1])
    with pytest.raises(ValueError, match=r"one channel \(16 bits\), got pixels L"):
        case.read_truth()
    assert len(kitti.read(tmp_path / "kitti")) == 652


# -- DA-2K -------------------------------------------------------------------------------------------------------------


def write_da2k(root, annotations):
    (root / "annotations.json").write_text(json.dumps(annotations))
    for name in annotations:
        save_image(root / name, 20, 30)


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
        ([], "one entry per picture"),
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
    with pytest.raises(ValueError, match=r"1 of 2 pictures found; the first missing one is .*b\.jpg"):
        da2k.read(tmp_path)


# -- MoGe's bundle -----------------------------------------------------------------------------------------------------


def write_moge(root, camera, height=120, width=160, plane_z=3.0):
    """A picture of a plane z = 3, taken by a camera whose axis may miss the middle; red is u, green is v."""
    folder = root / "moge/NYUv2/scene/0001"
    folder.mkdir(parents=True)
    v, u = np.mgrid[0:height, 0:width]
    picture = np.stack([u * 255 / width, v * 255 / height, u * 0], axis=-1)
    Image.fromarray(np.rint(picture).astype(np.uint8)).save(folder / "image.jpg", quality=100, subsampling=0)
    near, far = 1.0, 10.0
    raw = np.full((height, width), 1 + 65533 * np.log(plane_z / near) / np.log(far / near))
    raw[:5], raw[5:10] = 0, 65535
    text = PngInfo()
    text.add_text("near", str(near))
    text.add_text("far", str(far))
    Image.fromarray(np.rint(raw).astype(np.uint16)).save(folder / "depth.png", pnginfo=text)
    (folder / "meta.json").write_text(json.dumps({"intrinsics": camera}))
    (root / "moge/NYUv2/.index.txt").write_text("scene/0001\n")


def test_moge_centred_camera_sees_the_same_picture_at_another_size(tmp_path):
    write_moge(tmp_path, [[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]])
    (case,) = sets.read_benchmark("moge-nyuv2", tmp_path).cases
    image_HW3, truth = case.read_image(), case.read_truth()
    assert image_HW3.shape == (480, 640, 3)
    assert np.abs(truth.values_HW - 3)[truth.valid_HW].max() < 1e-3
    assert truth.valid_HW.mean() == pytest.approx(110 / 120, abs=0.01)
    assert not truth.valid_HW[:39].any()
    columns = (np.arange(640) + 0.5) / 4 - 0.5
    assert np.abs(image_HW3[240, 20:-20, 0] - columns[20:-20] * 255 / 160).max() < 3


def test_moge_off_centre_camera_is_turned_so_that_its_axis_meets_the_middle(tmp_path):
    camera = np.array([[1.0, 0, 0.3], [0, 4 / 3, 0.6], [0, 0, 1]])
    write_moge(tmp_path, camera.tolist())
    (case,) = moge.read(tmp_path / "moge", "moge-nyuv2")
    truth = case.read_truth()
    # The plane z = 3 as the turned camera sees it: along a ray r of the new camera, 3 / (R^T r)_z times r_z.
    view = moge.View(camera, 120, 160, moge.SETS["moge-nyuv2"])
    axis = np.linalg.inv(camera) @ [0.5, 0.5, 1]
    axis /= np.linalg.norm(axis)
    back = view.rays_HW3 @ moge._rotation_to_z(axis)
    expected = 3 / back[..., 2] * view.rays_HW3[..., 2]
    error = np.abs(truth.values_HW - expected)[truth.valid_HW] / 3
    assert error.max() < 0.02  # the nearest pixel of a picture four times coarser
    assert np.median(error) < 2e-3
    # The new axis sees the old picture's middle, and nothing outside of the old picture is asked for.
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
        case.read_truth()
    save_png16(case.files[1], np.ones((120, 160)))
    with pytest.raises(ValueError, match="no text fields near and far"):
        moge.read_depth(case.files[1])
    case.files[0].unlink()
    with pytest.raises(ValueError, match=r"nothing found under .*moge"):
        sets.read_benchmark("moge-nyuv2", tmp_path)
