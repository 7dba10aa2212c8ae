"""COLMAP's binary files, as COLMAP's own library and its documented layout read them."""

import struct

import numpy as np
import pytest

from depth_anything.geometry import camera
from depth_anything.images import colmap_files

DEPTH_M = np.random.default_rng(0).uniform(0.5, 20, (5, 7)).astype(np.float32)
K = camera.from_numbers([8.0, 9.0, 3.0, 2.0])


def test_the_layout(tmp_path):
    colmap_files.write_depth_map(tmp_path / "map.bin", DEPTH_M)
    data = (tmp_path / "map.bin").read_bytes()
    assert data.startswith(b"7&5&1&")
    np.testing.assert_array_equal(np.frombuffer(data[6:], "<f4").reshape(5, 7), DEPTH_M)
    colmap_files.write_camera(tmp_path / "cameras.bin", K, 7, 5)
    stored = struct.unpack("<QiiQQdddd", (tmp_path / "cameras.bin").read_bytes())
    assert stored == (1, 1, 1, 7, 5, 8.0, 9.0, 3.5, 2.5)


def test_colmap_reads_them(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    colmap_files.write_depth_map(tmp_path / "map.bin", DEPTH_M)
    found = pycolmap.DepthMap()
    found.read(tmp_path / "map.bin")
    np.testing.assert_array_equal(found.to_array(), DEPTH_M)
    colmap_files.write_camera(tmp_path / "cameras.bin", K, 7, 5)
    for name in ("images", "points3D"):
        (tmp_path / f"{name}.bin").write_bytes(struct.pack("<Q", 0))
    one = pycolmap.Reconstruction(tmp_path).cameras[1]
    assert (one.model.name, one.width, one.height) == ("PINHOLE", 7, 5)
    centre = one.cam_from_img(np.array([[3.5, 2.5]]))  # the centre of pixel (3, 2), counted from the corner
    np.testing.assert_allclose(centre, [[0, 0]], atol=1e-12)
