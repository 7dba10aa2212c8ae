"""Every test set in its official layout, written with a known truth."""

import json

import h5py
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from depth_anything.data.benchmarks import hypersim
from depth_anything.data.benchmarks.kitti import EIGEN_652
from depth_anything.data.benchmarks.nyuv2 import TEST_654

HEIGHT = 100


WIDTH = 140


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


FOCAL = 100.0


CENTRE = (69.5, 49.5)


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


def write_moge(root, camera, height=120, width=160, plane_z=3.0):
    """An image of a plane z = 3, taken by a camera whose axis may miss the middle; red is u, green is v."""
    folder = root / "moge/NYUv2/scene/0001"
    folder.mkdir(parents=True)
    v, u = np.mgrid[0:height, 0:width]
    image = np.stack([u * 255 / width, v * 255 / height, u * 0], axis=-1)
    Image.fromarray(np.rint(image).astype(np.uint8)).save(folder / "image.jpg", quality=100, subsampling=0)
    near, far = 1.0, 10.0
    raw = np.full((height, width), 1 + 65533 * np.log(plane_z / near) / np.log(far / near))
    raw[:5], raw[5:10] = 0, 65535
    text = PngInfo()
    text.add_text("near", str(near))
    text.add_text("far", str(far))
    Image.fromarray(np.rint(raw).astype(np.uint16)).save(folder / "depth.png", pnginfo=text)
    (folder / "meta.json").write_text(json.dumps({"intrinsics": camera}))
    (root / "moge/NYUv2/.index.txt").write_text("scene/0001\n")


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


def write_da2k(root, annotations):
    (root / "annotations.json").write_text(json.dumps(annotations))
    for name in annotations:
        save_image(root / name, 20, 30)
