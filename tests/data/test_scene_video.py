"""Videos of rendered scenes: the camera's walk, and frames that agree in space."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from benchmark_scripts import script

from depth_anything.data.scenes.cameras import Camera
from depth_anything.data.scenes.stage import Rendered

sequence = script("scene_video")
SWEEP, TRAVEL, TREMOR = sequence.SWEEP, sequence.TRAVEL, sequence.TREMOR
camera_path, render_sequence = sequence.camera_path, sequence.render_sequence

SEED, FRAMES, SIZE = 990001, 5, (64, 48)
CAMERA = Camera(np.array([1.0, -2.0, 1.6]), 0.4, -0.1, 0.02, np.radians(60))


def test_the_camera_walks_past_and_looks_back():
    near_m, path = 2.0, camera_path(CAMERA, 25, 2.0)
    right, _, forward = CAMERA.axes()
    offsets = np.array([camera.position - CAMERA.position for camera in path])
    aside, ahead = offsets @ right, offsets @ forward
    assert aside[-1] - aside[0] == pytest.approx(TRAVEL * near_m) and (np.diff(aside) > 0).all()
    assert np.abs(aside + aside[::-1]).max() < 1e-12  # as far to the left as to the right
    assert ahead.argmax() == 12 and ahead.max() == pytest.approx(0.1 * TRAVEL * near_m)
    np.testing.assert_allclose(offsets - np.outer(aside, right) - np.outer(ahead, forward), 0, atol=1e-12)
    turned = path[-1].yaw - path[0].yaw
    assert abs(turned - SWEEP) <= 2 * TREMOR
    speeds = np.diff(aside)
    assert speeds[0] < 0.2 * speeds[12]  # slow at both ends
    assert {camera.hfov for camera in path} == {CAMERA.hfov} and {camera.roll for camera in path} == {CAMERA.roll}


def test_the_hand_shakes_it_a_little():
    path = camera_path(CAMERA, 100, 1.0)
    pitch = np.array([camera.pitch for camera in path]) - CAMERA.pitch
    assert 0.8 * TREMOR < np.abs(pitch).max() <= TREMOR


def test_a_video_of_one_frame_is_a_still_image():
    [camera] = camera_path(CAMERA, 1, 1.0)
    assert np.linalg.norm(camera.position - CAMERA.position) < TRAVEL


@pytest.mark.parametrize("frames", [0, -3])
def test_no_video_without_frames(frames):
    with pytest.raises(ValueError, match=f"a video of {frames} frames: expected 1 or more"):
        render_sequence(SEED, frames)


@pytest.fixture(scope="module")
def video(renderer: None) -> list[Rendered]:
    return render_sequence(SEED, FRAMES, SIZE, spp=2)


def test_all_frames_show_one_scene(video: list[Rendered]):
    assert len(video) == FRAMES
    for frame in video:
        assert frame.image.shape == (48, 64, 3) and frame.disparity.shape == (48, 64)
        assert (frame.seed, frame.kind) == (video[0].seed, video[0].kind)
        np.testing.assert_array_equal(frame.K, video[0].K)
    assert len({frame.pose.tobytes() for frame in video}) == FRAMES


def seen_again(frame: Rendered, after: Rendered, moved_by: np.ndarray) -> float:
    """Share of a frame's points that lie on a surface of another, if its camera moved so (4, 4)."""
    height, width = frame.disparity.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    known, K = frame.disparity > 0, frame.K
    z = 1 / frame.disparity[known]
    x, y = (columns[known] - K[0, 2]) / K[0, 0] * z, (rows[known] - K[1, 2]) / K[1, 1] * z
    there = np.stack([x, y, z, np.ones_like(z)], -1) @ moved_by.T
    j = np.round(there[:, 0] / there[:, 2] * K[0, 0] + K[0, 2]).astype(int)
    i = np.round(there[:, 1] / there[:, 2] * K[1, 1] + K[1, 2]).astype(int)
    inside = (there[:, 2] > 0) & (i >= 0) & (i < height) & (j >= 0) & (j < width)
    assert inside.mean() > 0.5
    return float(np.mean(np.abs(after.disparity[i[inside], j[inside]] * there[inside, 2] - 1) < 0.05))


def test_static_objects_do_not_move(video: list[Rendered]):
    """Points of a frame, moved as the poses say, lie on the surfaces of another; left where they are, they do not."""
    for frame, after in pairwise(video):
        move = np.linalg.inv(after.pose) @ frame.pose
        assert seen_again(frame, after, move) > 0.7  # the rest is hidden there, or lies at an edge of a large pixel
    first, last = video[0], video[-1]
    assert seen_again(first, last, np.linalg.inv(last.pose) @ first.pose) > seen_again(first, last, np.eye(4)) + 0.2


def test_the_camera_really_moves(video: list[Rendered]):
    assert np.abs(video[0].image.astype(int) - video[-1].image).mean() > 5


def test_an_attempt_with_a_bad_frame_is_passed_over(monkeypatch):
    """Its second frame shows nothing: the next attempt is taken, whole."""
    tried = []

    class Stage:
        def render(self, scene):
            tried.append(scene)
            if scene.attempt == 0 and len(tried) == 3:
                return None
            return Shown(scene.attempt)

    class Shown:
        disparity = np.ones((4, 4))

        def __init__(self, attempt):
            self.attempt = attempt

    @dataclass
    class Scene:
        attempt: int
        camera: Camera = CAMERA

    monkeypatch.setattr(sequence, "stage", lambda size, spp: Stage())
    monkeypatch.setattr(sequence, "make_scene", lambda seed, attempt: Scene(attempt))
    video = render_sequence(1, 4)
    assert [frame.attempt for frame in video] == [1, 1, 1, 1]
