"""Labelled sets in their official layouts, a few tiny images each, encoded by code that is not the readers'.

Every writer puts at least two images below `root` with the truth `TRUTH_M` (in the set's unit) but for `HOLE`, where
the label says unknown in the set's way, and returns the label's file of the first image.
"""

import struct
from pathlib import Path

import h5py
import numpy as np
import OpenEXR
from PIL import Image

HEIGHT, WIDTH = 12, 16
TRUTH_M = 1.5 + 0.5 * (HEIGHT - 1 - np.arange(HEIGHT))[:, None] + 0.12 * np.arange(WIDTH)[None]
"""z in metres: nearest at the lower left, different in every corner, so that no flip goes unseen."""
HOLE = np.s_[4:6, 7:10]
HYPERSIM_SPLIT = "metadata_images_split_scene_v1.csv"


def save_image(path: Path, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
    Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)).convert(mode).save(path)


def save_png16(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values).astype(np.uint16)).save(path)


def save_png8(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(values).astype(np.uint8)).save(path)


def save_pfm(path: Path, values: np.ndarray, big_endian: bool = False) -> None:
    """Number by number, the lowest row first, as the format has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    with path.open("wb") as file:
        file.write(f"Pf\n{width} {height}\n{1.0 if big_endian else -1.0}\n".encode())
        for row in range(height - 1, -1, -1):
            for column in range(width):
                file.write(struct.pack(">f" if big_endian else "<f", values[row, column]))


def save_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = {name: np.ascontiguousarray(values, np.float32) for name, values in channels.items()}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, pixels).write(str(path))


def save_h5(path: Path, field: str, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[field] = values


def with_hole(values: np.ndarray, hole: float) -> np.ndarray:
    values = values.astype(np.float64).copy()
    values[HOLE] = hole
    return values


def write_blendedmvs(root: Path) -> Path:
    scene = root / "5a3ca9cb270f0e3f14d0eddb"
    for number in range(2):
        save_image(scene / f"blended_images/{number:08d}.jpg")
        save_image(scene / f"blended_images/{number:08d}_masked.jpg")
        save_pfm(scene / f"rendered_depth_maps/{number:08d}.pfm", with_hole(TRUTH_M, 0), big_endian=number == 1)
        (scene / "cams").mkdir(exist_ok=True)
        (scene / f"cams/{number:08d}_cam.txt").write_text(
            "extrinsic\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n\nintrinsic\n580 0 383.5\n0 581 287.5\n0 0 1\n\n425 2.5\n"
        )
    (scene / "cams/pair.txt").write_text("2\n0\n1 1 0.5\n")
    return scene / "rendered_depth_maps/00000000.pfm"


def write_diml(root: Path) -> Path:
    indoor = root / "indoor/16. Billiard Hall/16.02.02/1"
    outdoor = root / "outdoor/160725_C2/A"
    millimetres = with_hole(TRUTH_M * 1000, 0)
    save_image(indoor / "col/in_k_01_160202_000001_c.png")
    save_png16(indoor / "up_png/in_k_01_160202_000001_ud.png", millimetres)
    save_image(outdoor / "left/out_zed_000001_left.png")
    save_png16(outdoor / "depth/out_zed_000001_depth.png", millimetres)
    save_png8(outdoor / "conf/out_zed_000001_conf.png", np.full((HEIGHT, WIDTH), 255))
    return indoor / "up_png/in_k_01_160202_000001_ud.png"


def write_hrwsi(root: Path) -> Path:
    levels = np.round(255 * 1.5 / TRUTH_M)
    for part, names in (("train", ("0001", "0002")), ("val", ("0003",))):
        for name in names:
            save_image(root / f"{part}/imgs/{name}.jpg")
            save_png8(root / f"{part}/gts/{name}.png", levels)
            save_png8(root / f"{part}/valid_masks/{name}.png", with_hole(np.full((HEIGHT, WIDTH), 255), 0))
    return root / "train/gts/0001.png"


def write_irs(root: Path) -> Path:
    pixels = with_hole(48 / TRUTH_M, 0)
    for place, number in (("Home/AlbertSquare", "1"), ("Store/Supermarket", "00002")):
        folder = root / "IRSDataset" / place
        save_image(folder / f"l_{number}.png")
        save_image(folder / f"r_{number}.png")
        save_exr(folder / f"d_{number}.exr", {"G": pixels})
        save_exr(folder / f"n_{number}.exr", {"R": pixels, "G": pixels, "B": pixels})
    return root / "IRSDataset/Home/AlbertSquare/d_1.exr"


def write_megadepth(root: Path) -> Path:
    folder = root / "MegaDepth_v1/0000/dense0"
    for name in ("1234_o.jpg", "Old_Photo.JPG"):
        save_image(folder / "imgs" / name, "L" if name.startswith("Old") else "RGB")
        save_h5(folder / f"depths/{name[:-4]}.h5", "depth", with_hole(TRUTH_M, 0).astype(np.float32))
    return folder / "depths/1234_o.h5"


def write_tartanair(root: Path) -> Path:
    for folder in (root / "amusement/Easy/P000", root / "soulcity/soulcity/Hard/P003"):
        save_image(folder / "image_left/000000_left.png")
        save_image(folder / "image_right/000000_right.png")
        (folder / "depth_left").mkdir()
        np.save(folder / "depth_left/000000_left_depth.npy", with_hole(TRUTH_M, 0).astype(np.float32))
    return root / "amusement/Easy/P000/depth_left/000000_left_depth.npy"


def hypersim_distance() -> np.ndarray:
    """From z, pixel by pixel, by the pinhole of 60 degrees across."""
    focal = 886.81 * WIDTH / 1024
    values = np.empty((HEIGHT, WIDTH))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            right, down = (x - (WIDTH - 1) / 2) / focal, (y - (HEIGHT - 1) / 2) / focal
            values[y, x] = TRUTH_M[y, x] * (1 + right**2 + down**2) ** 0.5
    return values


def write_hypersim(root: Path) -> Path:
    rows = ["scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"]
    rows += [f"ai_001_001,cam_00,{frame},True,,train" for frame in range(2)]
    rows += ["ai_001_001,cam_00,2,False,corrupt,", "ai_001_010,cam_00,0,True,,test", "ai_009_009,cam_00,0,True,,train"]
    root.mkdir(parents=True, exist_ok=True)
    (root / HYPERSIM_SPLIT).write_text("\n".join(rows) + "\n")
    for scene, frame in (("ai_001_001", 0), ("ai_001_001", 1), ("ai_001_001", 2), ("ai_001_010", 0)):
        images = root / scene / "images"
        save_image(images / f"scene_cam_00_final_preview/frame.{frame:04d}.tonemap.jpg")
        depth = images / f"scene_cam_00_geometry_hdf5/frame.{frame:04d}.depth_meters.hdf5"
        save_h5(depth, "dataset", with_hole(hypersim_distance(), np.nan).astype(np.float32))
    return root / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"


def write_vkitti2(root: Path) -> Path:
    for variant in ("clone", "fog"):
        for camera in range(2):
            frames = root / f"Scene01/{variant}/frames"
            save_image(frames / f"rgb/Camera_{camera}/rgb_00000.jpg")
            save_png16(frames / f"depth/Camera_{camera}/depth_00000.png", with_hole(TRUTH_M * 100, 0))
    return root / "Scene01/clone/frames/depth/Camera_0/depth_00000.png"


def write_nyuv2(root: Path) -> Path:
    for folder in (root / "sync/kitchen_0028b", root / "sync/office_0001", root / "official_splits/test/kitchen"):
        save_image(folder / "rgb_00045.jpg")
        save_png16(folder / "sync_depth_00045.png", with_hole(TRUTH_M * 1000, 0))
    return root / "sync/kitchen_0028b/sync_depth_00045.png"


def write_kitti(root: Path) -> Path:
    for drive, part in (
        ("2011_09_26_drive_0001_sync", "train"),
        ("2011_09_26_drive_0005_sync", "val"),
        ("2011_09_26_drive_0002_sync", "val"),  # has test frames
    ):
        save_image(root / f"raw_data/2011_09_26/{drive}/image_02/data/0000000005.png")
        save_image(root / f"raw_data/2011_09_26/{drive}/image_02/data/0000000000.png")  # not annotated
        ground_truth = root / f"data_depth_annotated/{part}/{drive}/proj_depth/groundtruth/image_02/0000000005.png"
        save_png16(ground_truth, with_hole(TRUTH_M * 256, 0))
    return root / "data_depth_annotated/train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png"


WRITERS = {
    "blendedmvs": write_blendedmvs,
    "diml": write_diml,
    "hrwsi": write_hrwsi,
    "irs": write_irs,
    "megadepth": write_megadepth,
    "tartanair": write_tartanair,
    "hypersim": write_hypersim,
    "vkitti2": write_vkitti2,
    "nyuv2": write_nyuv2,
    "kitti": write_kitti,
}
