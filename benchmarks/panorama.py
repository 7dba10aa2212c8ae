"""Panoramas: error and seams of `predict --panorama`, beside the whole image at once, against rendered ground truth.

    python benchmarks/panorama.py --out benchmarks/results/panorama.md     # extra render; a minute for each scene, once

Rooms, streets and subjects are rendered all round: each scene is closed behind the camera by a copy of itself, turned
by 180 degrees. Light comes from six perspective views, whose linear light becomes one panorama before it is developed;
true distances are traced along the ray of every pixel.

AbsRel and delta1: protocol `pairs`, of 1/r, over directions spread evenly on the sphere. Edge: mean difference between
the first and the last column, which are neighbours, in percent of the map's range (2nd to 98th percentile); the ground
truth's own is below. Borders: mean step between neighbouring pixels where a view begins or ends, over the mean step
elsewhere: no more than the ground truth's where no border can be seen. Views differ: see `panorama.Aligned`.

"Padded": a quarter of the panorama is repeated at its left and right, and cut off again. "As they are": the views'
maps, blended. "Without the cosine": scales and shifts by the same least squares, of disparity as the network returns
it.
"""

import argparse
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import GroundTruth
from depth_anything.data.scenes.cameras import Camera
from depth_anything.data.scenes.layout import Scene, make_scene
from depth_anything.data.scenes.light import develop
from depth_anything.data.scenes.objects import Part
from depth_anything.data.scenes.stage import Stage
from depth_anything.evaluate.protocol import PAIRS
from depth_anything.evaluate.score import align, score
from depth_anything.geometry import sphere
from depth_anything.geometry.sphere import View
from depth_anything.predict import panorama
from depth_anything.predict.predictor import Predictor

SEED = 10_900_101
"""Of the first scene: held out (train/sources.py), and no scene on which panorama.py's constants were chosen."""
KINDS = ("room", "street", "subject")
FACES = ((0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -90))
"""Yaw to the left and pitch in degrees of the views from which the light comes."""
FACE_DEGREES = 96.0
OPEN_SIDE = -2.5
"""Where a rendered room is open (walls.py), metres: its copy begins there."""


@dataclass(frozen=True)
class Around(Camera):
    """A camera that sees everything; `Stage` traces its rays."""

    def rays(self, width: int, height: int) -> np.ndarray:
        return sphere.directions(height, width).reshape(-1, 3).astype(np.float64) @ self.axes()


def closed(scene: Scene) -> Scene:
    """The scene and a copy of it behind the camera, without its ground, which is there already."""
    is_room = scene.kind == "room"
    copies = [
        Part(part.mesh.moved(y=2 * OPEN_SIDE if is_room else 0.0, yaw=np.pi), part.material, part.label)
        for part in scene.parts
        if is_room or part.label not in ("ground", "road", "water")
    ]
    return replace(scene, parts=scene.parts + copies)


def render(seed: int, wide: Stage, face: Stage) -> tuple[np.ndarray, np.ndarray] | None:
    """Panorama uint8 (H, W, 3) and 1 / metres along the ray (H, W), 0 in the sky; None: no scene of KINDS."""
    for attempt in range(100):
        scene = make_scene(seed, attempt)
        if scene.kind not in KINDS:
            return None
        scene = closed(scene)
        position = scene.camera.position * [1, 1, 0] + [0, 0, max(1.0, scene.camera.position[2])]
        around = Around(position, scene.camera.yaw, 0.0, 0.0, 1.0)
        metres_HW, _ = wide._cast(replace(scene, camera=around), wide._load(scene))
        if metres_HW.min() < 0.35:
            continue  # something is before the lens
        width, height = wide.size
        rays_HW3 = sphere.directions(height, width)
        linear_HW3, best_HW = np.zeros((height, width, 3)), np.zeros((height, width))
        labels = face._load(scene)
        for yaw, pitch in FACES:
            turned = Camera(position, around.yaw + np.radians(yaw), np.radians(pitch), 0.0, np.radians(FACE_DEGREES))
            view = View(turned.axes() @ around.axes().T, FACE_DEGREES)
            z, classes = face._cast(replace(scene, camera=turned), labels)
            light = face._shade(replace(scene, camera=turned), np.random.default_rng([seed, 1]), z, classes)
            place_HW2, cosine_HW = view.locate(rays_HW3)
            taken = cosine_HW > best_HW
            best_HW[taken] = cosine_HW[taken]
            pixel = (place_HW2[taken] + 1) / 2 * len(light) - 0.5
            linear_HW3[taken] = sphere.bilinear(light, pixel[:, 0], pixel[:, 1])
        sky_HW = ~np.isfinite(metres_HW)
        if scene.light.fog:
            clear = np.exp(-scene.light.fog * np.where(sky_HW, 2000.0, metres_HW))[..., None]
            linear_HW3 = clear * linear_HW3 + (1 - clear) * scene.light.sky_low
        image_HW3 = develop(np.random.default_rng([seed, 2]), linear_HW3, sky_HW)
        return image_HW3, np.where(sky_HW, 0, 1 / metres_HW).astype(np.float32)
    return None


def render_to(folder: Path, count: int, seed: int = SEED, height: int = 512) -> list[Path]:
    """`count` panoramas as NPZ files, which are rendered where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    stages: tuple[Stage, Stage] | None = None
    while len(found) < count:
        path = folder / f"{seed}.npz"
        if not path.exists() and make_scene(seed).kind in KINDS:
            stages = stages or (Stage((2 * height, height), 1), Stage((height * 3 // 4, height * 3 // 4), 8))
            rendered = render(seed, *stages)
            if rendered is not None:
                np.savez_compressed(path, image=rendered[0], inverse=rendered[1])
        found += [path] if path.exists() else []
        seed += 1
    return found


@dataclass
class Way:
    """One way to a map of a panorama, and what was measured of it."""

    name: str
    predict: Callable[[np.ndarray], tuple[np.ndarray, float]]
    """uint8 (H, W, 3) to 1 / r up to scale and shift (H, W), and how much views differ (NaN without views)."""
    rows: list[list[float]] = field(default_factory=list)


def whole(predictor: Predictor, image_HW3: np.ndarray) -> tuple[np.ndarray, float]:
    return predictor(image_HW3).as_disparity(), np.nan


def padded(predictor: Predictor, image_HW3: np.ndarray) -> tuple[np.ndarray, float]:
    quarter = image_HW3.shape[1] // 4
    wider = np.concatenate([image_HW3[:, -quarter:], image_HW3, image_HW3[:, :quarter]], axis=1)
    return predictor(wider).as_disparity()[:, quarter:-quarter], np.nan


def by_views(predictor: Predictor, aligned: bool, cosine: bool, image_HW3: np.ndarray) -> tuple[np.ndarray, float]:
    """`predict_panorama`, or with a step of it left out."""
    solve, look = panorama.solve, panorama.look
    if not aligned:
        panorama.solve = lambda terms_VPK, weight_VP: np.tile([1.0, 0.0], (len(terms_VPK), 1))
    if not cosine:
        panorama.look = lambda *arguments: ((seen := look(*arguments))[0], np.ones_like(seen[1]), seen[2])
    try:
        prediction = panorama.predict_panorama(predictor, image_HW3)
    finally:
        panorama.solve, panorama.look = solve, look
    return prediction.as_disparity(), float(prediction.notes[-1].split(" differ by ")[1].split("%")[0]) / 100


def spread(map_HW: np.ndarray) -> float:
    low, high = np.percentile(map_HW, (2, 98))
    return float(high - low)


def edge_step(map_HW: np.ndarray) -> float:
    """Mean difference of the first and the last column, in the range of the map."""
    return float(np.abs(map_HW[:, 0] - map_HW[:, -1]).mean()) / spread(map_HW)


def border_step(map_HW: np.ndarray) -> float:
    """Mean step along rows where a view begins or ends, over the mean step elsewhere."""
    rays_HW3 = sphere.directions(*map_HW.shape)
    border_HW = np.zeros((map_HW.shape[0], map_HW.shape[1] - 1), bool)
    for view in panorama.views():
        inside_HW = (np.abs(view.locate(rays_HW3)[0]) < 1).all(axis=2)
        border_HW |= np.diff(inside_HW, axis=1)
    step_HW = np.abs(np.diff(map_HW, axis=1))
    return float(step_HW[border_HW].mean() / step_HW[~border_HW].mean())


def errors(map_HW: np.ndarray, inverse_HW: np.ndarray) -> tuple[float, float]:
    """AbsRel and delta1, over directions spread evenly on the sphere."""
    x, y, z = sphere.even_directions(100_000).T
    height, width = map_HW.shape
    row = np.clip(((0.5 + np.arctan2(y, np.hypot(x, z)) / np.pi) * height).astype(int), 0, height - 1)
    column = ((np.arctan2(x, z) / (2 * np.pi) + 0.5) * width).astype(int) % width
    true = inverse_HW[row, column][None]
    ground_truth = GroundTruth(np.divide(1, true, out=np.zeros(true.shape), where=true > 0), true > 0, "metric_depth")
    scores = score(
        align(map_HW[row, column][None], "disparity", ground_truth, PAIRS, PAIRS.cut("scenes")), PAIRS.metrics
    )
    return scores["abs_rel"], scores["delta1"]


def table(files: list[Path], ways: list[Way], model: str) -> str:
    """What was measured, in Markdown."""
    own = []
    for file in files:
        with np.load(file) as scene:
            image_HW3, inverse_HW = scene["image"], scene["inverse"]
        own.append((edge_step(inverse_HW), border_step(inverse_HW)))
        for way in ways:
            map_HW, difference = way.predict(image_HW3)
            way.rows.append([*errors(map_HW, inverse_HW), edge_step(map_HW), border_step(map_HW), difference])
        print(file.stem, " ".join(f"{way.rows[-1][0]:.3f}" for way in ways), flush=True)
    height, width = image_HW3.shape[:2]
    lines = [
        f"{datetime.date.today()}. {model}, {len(files)} rendered panoramas of {width}x{height}, means. Last column: "
        "scenes with a smaller AbsRel than the whole image.\n",
        "| | AbsRel | delta1 | edge | borders | views differ | better |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        abs_rel, delta1, edge, border, difference = np.mean(way.rows, axis=0)
        better = sum(one[0] < first[0] for one, first in zip(way.rows, ways[0].rows, strict=True))
        lines.append(
            f"| {way.name} | {abs_rel:.3f} | {delta1:.3f} | {edge:.2%} | {border:.2f} | "
            f"{'' if np.isnan(difference) else f'{difference:.1%}'} | {'' if way is ways[0] else better} |"
        )
    edge, border = np.mean(own, axis=0)
    lines.append(f"| ground truth | | | {edge:.2%} | {border:.2f} | | |")
    return "\n".join(lines) + "\n"


def all_ways(predictor: Predictor) -> list[Way]:
    """The whole image first."""
    return [
        Way("the whole image", partial(whole, predictor)),
        Way("the whole image, padded", partial(padded, predictor)),
        Way("views as they are", partial(by_views, predictor, False, True)),
        Way("views, aligned without the cosine", partial(by_views, predictor, True, False)),
        Way("`--panorama`", partial(by_views, predictor, True, True)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--scenes", type=Path, default=Path("out/panorama"), help="folder in which they are kept")
    parser.add_argument("--count", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    files = render_to(arguments.scenes, arguments.count)
    text = table(files, all_ways(Predictor(arguments.model, threads=arguments.threads)), arguments.model)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
