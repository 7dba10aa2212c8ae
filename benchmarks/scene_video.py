"""A short video of a static scene: the camera moves; every frame has exact disparity."""

from dataclasses import replace

import numpy as np

from depth_anything.data.scenes.cameras import Camera
from depth_anything.data.scenes.layout import make_scene
from depth_anything.data.scenes.render import stage
from depth_anything.data.scenes.stage import Rendered

TRAVEL = 0.6
"""How far the camera goes to the side, in distances of the nearest things."""
SWEEP = np.radians(12.0)
"""How far it turns meanwhile."""
TREMOR = np.radians(0.3)
"""How far a hand shakes it, in turns of 4 and 6 frames."""


def camera_path(camera: Camera, frames: int, near_m: float) -> list[Camera]:
    """`frames` cameras as somebody walks past: to the side, a little forward, turning back, with an unsteady hand.

    near_m is the distance of the nearest things, which decides how far the camera may go.
    """
    right, _, forward = camera.axes()
    path = []
    for frame in range(frames):
        phase = np.sin(np.pi * (frame / max(1, frames - 1) - 0.5))  # from -1 to 1, slow at both ends
        position = camera.position + near_m * TRAVEL * (0.5 * phase * right + 0.1 * (1 - phase**2) * forward)
        yaw = camera.yaw + 0.5 * SWEEP * phase + TREMOR * np.sin(np.pi * frame / 2 + 0.5)
        pitch = camera.pitch + TREMOR * np.sin(np.pi * frame / 3)
        path.append(replace(camera, position=position, yaw=float(yaw), pitch=float(pitch)))
    return path


def render_sequence(seed: int, frames: int, size: tuple[int, int] = (256, 192), spp: int = 4) -> list[Rendered]:
    """The frames of a seed's video; size is (width, height).

    An attempt of the seed of which one frame shows nothing worth a photograph is passed over, always the same one.

    Raises:
        ValueError: fewer than one frame.
    """
    if frames < 1:
        raise ValueError(f"a video of {frames} frames: expected 1 or more")
    for attempt in range(100):
        scene = make_scene(seed, attempt)
        still = stage(size, spp).render(scene)
        if still is None:
            continue
        near_m = 1 / float(np.percentile(still.disparity, 98))
        video = []
        for camera in camera_path(scene.camera, frames, near_m):
            rendered = stage(size, spp).render(replace(scene, camera=camera))
            if rendered is None:
                break
            video.append(rendered)
        if len(video) == frames:
            return video
    raise AssertionError(f"seed {seed}: no attempt gave a video")
