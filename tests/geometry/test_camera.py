"""The pinhole camera against its geometry: OpenCV's projection, a tilted plane, a sphere."""

import math

import cv2
import numpy as np
import pytest

from depth_anything.geometry import camera


def test_unproject_is_the_inverse_of_opencvs_projection():
    K = camera.from_numbers([500.0, 480.0, 310.5, 201.0])
    depth = np.random.default_rng(0).uniform(0.5, 9, (40, 60)).astype(np.float32)
    points = camera.unproject(depth, K)
    pixels, _ = cv2.projectPoints(points.reshape(-1, 3).astype(np.float64), np.zeros(3), np.zeros(3), K, np.zeros(5))
    u, v = np.meshgrid(np.arange(60), np.arange(40))
    np.testing.assert_allclose(pixels.reshape(40, 60, 2), np.stack([u, v], axis=2), atol=1e-3)
    np.testing.assert_array_equal(points[:, :, 2], depth)


def test_unknown_depth_is_an_unknown_point():
    points = camera.unproject(np.array([[0, 2]], np.float32), camera.from_fov(2, 1, 90))
    assert np.isnan(points[0, 0]).all() and np.isfinite(points[0, 1]).all()


def test_field_of_view_spans_the_image():
    K = camera.from_fov(640, 480, 90)
    assert K[0, 0] == pytest.approx(320) and K[1, 1] == K[0, 0]
    assert (K[0, 2], K[1, 2]) == (319.5, 239.5)
    assert camera.fov_degrees(K, 640) == pytest.approx(90)


def test_35mm_equivalent_goes_by_the_diagonal():
    # 36 mm x 24 mm film: the horizontal field of view of a 50 mm lens is 39.6 degrees
    full_frame = camera.from_focal_35mm(3000, 2000, 50)
    assert camera.fov_degrees(full_frame, 3000) == pytest.approx(math.degrees(2 * math.atan(18 / 50)))
    phone = camera.from_focal_35mm(4000, 3000, 26)  # 4:3, same diagonal angle
    assert phone[0, 0] == pytest.approx(26 * 5000 / math.hypot(36, 24))
    upright = camera.from_focal_35mm(3000, 4000, 26)
    assert upright[0, 0] == phone[0, 0]


def test_what_is_known_decides():
    assert camera.intrinsics(64, 48) is None
    by_exif = camera.intrinsics(64, 48, exif_focal_35mm=28)
    assert by_exif is not None and by_exif[0, 0] == camera.from_focal_35mm(64, 48, 28)[0, 0]
    by_fov = camera.intrinsics(64, 48, fov=60, exif_focal_35mm=28)
    assert by_fov is not None and camera.fov_degrees(by_fov, 64) == pytest.approx(60)
    by_matrix = camera.intrinsics(64, 48, numbers=[50, 0, 31, 0, 51, 23, 0, 0, 1])
    np.testing.assert_array_equal(by_matrix, [[50, 0, 31], [0, 51, 23], [0, 0, 1]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fov": 180}, "between 0 and 180"),
        ({"fov": float("nan")}, "between 0 and 180"),
        ({"focal_mm": -1}, "millimetres above 0"),
        ({"numbers": [1, 2, 3]}, "got 3 numbers"),
        ({"numbers": [0, 500, 32, 24]}, "fx, fy above 0"),
        ({"numbers": [500, 500, math.inf, 24]}, "finite"),
        ({"numbers": [500, 9, 32, 0, 500, 24, 0, 0, 1]}, "expected"),
        ({"fov": 60, "focal_mm": 28}, "fov and focal_mm describe the same camera"),
    ],
)
def test_impossible_cameras_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        camera.intrinsics(64, 48, **options)
    assert "\n" not in str(error.value)


def test_normals_of_a_tilted_plane_are_exact():
    K = camera.from_fov(64, 48, 70)
    normal = np.array([0.3, -0.8, -0.5]) / np.linalg.norm([0.3, -0.8, -0.5])
    rays = camera.unproject(np.ones((48, 64), np.float32), K).astype(np.float64)
    depth = -2.0 / (rays @ normal)  # the plane normal . p = -2, where the ray meets it in front of the camera
    depth[depth <= 0] = 0
    normals = camera.normals(camera.unproject(depth, K))
    known = np.zeros((48, 64), bool)
    known[1:-1, 1:-1] = (depth > 0)[1:-1, 1:-1] & (depth < 20)[1:-1, 1:-1]
    assert known.sum() > 500
    assert np.degrees(np.arccos(np.clip(normals[known] @ normal, -1, 1))).max() < 0.5


def test_normals_beside_an_edge_are_of_the_surface():
    """A wall at 2 m before a wall at 5 m: every normal looks straight at the camera."""
    depth = np.full((20, 30), 5, np.float32)
    depth[:, 10:20] = 2
    depth[0, 0] = 0
    normals = camera.normals(camera.unproject(depth, camera.from_fov(30, 20, 60)))
    expected = np.broadcast_to(np.array([0, 0, -1], np.float32), normals.shape).copy()
    expected[0, 0] = 0
    np.testing.assert_allclose(normals, expected, atol=1e-3)


def test_normals_of_a_large_map_are_those_of_its_parts(monkeypatch):
    depth = np.random.default_rng(0).uniform(1, 1.02, (23, 17)).astype(np.float32)
    points = camera.unproject(depth, camera.from_fov(17, 23, 60))
    whole = camera.normals(points)
    for pixels in (1, 17 * 4, 17 * 22):
        monkeypatch.setattr(camera, "_STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(camera.normals(points), whole)
