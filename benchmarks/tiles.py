"""What tiles and test-time upscaling give: error and edges against rendered truth, seams, memory.

    python benchmarks/tiles.py --out benchmarks/results/tiles.md     # extra render; a minute for each scene, once

Scenes of 1280x960 have exact truth; their seeds are held out, also from the six (980001 to 980006) on which the
constants of tiles.py were chosen. AbsRel: protocol `pairs` (the map aligned in disparity). Boundary F1: at every fourth
pixel, for a small model has no edges at a single one. Seam: what a way adds to the map of the whole, across each
tile's border, mean along that border; the largest of all, in the range of the whole. Memory: VmHWM of `predict` in a
process of its own, on one scene, and on a mosaic of the examples of 100 megapixels.

"Taken whole": every tile fitted to the whole by scale and shift and blended, with all that it says and not only its
fine detail. It is here to compare.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.data.benchmarks import rendered
from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.evaluate.metrics import boundary_f1
from depth_anything.evaluate.protocol import PAIRS
from depth_anything.evaluate.score import align, score
from depth_anything.predict.predictor import Predictor
from depth_anything.predict.tiles import Tile, cover, predict_tiles

EXAMPLES = Path(__file__).parents[1] / "examples"
SEED = 10_900_001
"""Of the first scene: held out (train/sources.py), and far from those that validation takes."""
SMOOTH = 4
"""Every so many pixels a boundary is looked for."""
MEASURE = """
import sys
from depth_anything.__main__ import main
main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@dataclass
class Way:
    """One way to a map of a large image, and what was measured of it."""

    name: str
    predict: Callable[[np.ndarray], np.ndarray]
    """uint8 (H, W, 3) to disparity (H, W)."""
    tiles: int | None = None
    options: tuple[str, ...] | None = ()
    """The command's, for memory; None where it has none."""
    errors: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    seams: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--scenes", type=Path, default=Path("out/tiles"), help="folder in which they are kept")
    parser.add_argument("--count", type=int, default=6, help="scenes")
    parser.add_argument("--tiles", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--upscale", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = render_to(arguments.scenes, arguments.count)
    ways = all_ways(arguments.model, arguments.tiles, arguments.upscale, arguments.threads)
    text = "\n".join(
        [
            accuracy(rendered.read(folder), ways, arguments.model),
            memory(rendered.read(folder)[0], ways, arguments.model, arguments.threads),
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)


def render_to(folder: Path, count: int, size: tuple[int, int] = (1280, 960), seed: int = SEED) -> Path:
    """The folder with the scenes, which are rendered where they are missing."""
    from depth_anything.data.scenes.render import render_shards

    render_shards(folder, count, seed, size, processes=1, shard_size=1)
    return folder


def all_ways(model: str, tiles: list[int], upscale: list[int], threads: int) -> list[Way]:
    """The whole image first."""
    predictor = Predictor(model, threads=threads)
    if not isinstance(predictor.input_size, int):
        raise ValueError(f"{model} has one network size, whatever the image's: choose another model")
    ways = [Way("whole", partial(whole, predictor))]
    for count in tiles:
        ways.append(Way(f"`--tiles {count}`", partial(detailed, predictor, count), count, ("--tiles", str(count))))
    for factor in upscale:
        larger = Predictor(model, threads=threads, input_size=predictor.input_size * factor)
        ways.append(Way(f"`--upscale {factor}`", partial(whole, larger), None, ("--upscale", str(factor))))
    for count in tiles:
        ways.append(Way(f"{count} tiles, taken whole", partial(taken_whole, predictor, count), count, None))
    return ways


def whole(predictor: Predictor, image_HW3: np.ndarray) -> np.ndarray:
    """The network's map of the image, at its input size."""
    return predictor(image_HW3).as_disparity()


def detailed(predictor: Predictor, count: int, image_HW3: np.ndarray) -> np.ndarray:
    """With the detail of tiles."""
    return predict_tiles(predictor, image_HW3, count).as_disparity()


def taken_whole(predictor: Predictor, count: int, image_HW3: np.ndarray) -> np.ndarray:
    """Tiles fitted to the whole and blended: what `predict_tiles` does not do."""
    whole_HW = predictor(image_HW3).as_disparity()
    answer_HW = np.zeros_like(whole_HW)
    for tile in cover(image_HW3.shape[0], image_HW3.shape[1], count):
        seen = predictor(np.ascontiguousarray(image_HW3[tile.window])).as_disparity()
        scale, shift = fit_scale_shift(seen, whole_HW[tile.window])
        answer_HW[tile.window] += tile.weight_h[:, None] * tile.weight_w * np.float32(scale * seen + shift)
    return answer_HW


def seam_step(added_HW: np.ndarray, tiles: list[Tile]) -> float:
    """The largest step across a tile's border of what was added to the whole: |mean of the step along the border|."""
    height, width = added_HW.shape
    steps = [0.0]
    for tile in tiles:
        rows, columns = tile.window
        for x in {columns.start, columns.stop} - {0, width}:
            steps.append(abs(float((added_HW[rows, x] - added_HW[rows, x - 1]).mean())))
        for y in {rows.start, rows.stop} - {0, height}:
            steps.append(abs(float((added_HW[y, columns] - added_HW[y - 1, columns]).mean())))
    return max(steps)


def accuracy(cases: list[BenchmarkImage], ways: list[Way], model: str) -> str:
    """The table against truth, in Markdown."""
    for case in cases:
        image_HW3, ground_truth = case.read_image(), case.read_ground_truth()
        whole_HW = ways[0].predict(image_HW3)
        for way in ways:
            map_HW = whole_HW if way is ways[0] else way.predict(image_HW3)
            aligned = align(map_HW, "disparity", ground_truth, PAIRS, PAIRS.cut("scenes"))
            way.errors.append(score(aligned, ("abs_rel",))["abs_rel"])
            few = np.s_[SMOOTH // 2 :: SMOOTH, SMOOTH // 2 :: SMOOTH]
            way.edges.append(
                boundary_f1(aligned.prediction_HW[few], aligned.ground_truth_HW[few], aligned.mask_HW[few])
            )
            if way.tiles:
                step = seam_step(map_HW - whole_HW, cover(map_HW.shape[0], map_HW.shape[1], way.tiles))
                way.seams.append(step / float(np.ptp(whole_HW)))
    height, width = case.read_image().shape[:2]
    lines = [
        f"{datetime.date.today()}. {model}, {len(cases)} rendered scenes of {width}x{height}, means. Last column: how "
        "the error of single scenes differs from the whole's, best and worst.\n",
        "| | AbsRel | boundary F1 | largest seam | single scenes |",
        "|---|---|---|---|---|",
    ]
    for way in ways:
        differences = np.subtract(way.errors, ways[0].errors)
        seam = f"{max(way.seams):.2%}" if way.seams else ""
        single = "" if way is ways[0] else f"{differences.min():+.4f}, {differences.max():+.4f}"
        lines.append(f"| {way.name} | {np.mean(way.errors):.4f} | {np.mean(way.edges):.4f} | {seam} | {single} |")
    return "\n".join(lines) + "\n"


def memory(
    case: BenchmarkImage, ways: list[Way], model: str, threads: int, large: tuple[int, int] = (12000, 8400)
) -> str:
    """The table of the command's memory, in Markdown."""
    lines = [
        f"Most memory of `predict --save color,png16` (VmHWM), MB. {os.cpu_count()} cores, {threads} threads.\n",
        f"| | {'x'.join(map(str, case.read_image().shape[1::-1]))} | {large[0]}x{large[1]} |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        small, big = Path(folder) / "small.png", Path(folder) / "big.jpg"
        Image.fromarray(case.read_image()).save(small)
        mosaic(*large).save(big, quality=85)
        for way in ways:
            if way.options is None:
                continue
            common = ["--model", model, "--threads", str(threads), "-o", folder, "--overwrite", *way.options]
            asked = (small, big) if way.tiles or way is ways[0] else (small,)  # a larger input costs the same for both
            peaks = [f"{peak_mb(['predict', str(image), *common]):.0f}" for image in asked]
            lines.append(f"| {way.name} | {' | '.join([*peaks, ''][:2])} |")
    return "\n".join(lines) + "\n"


def mosaic(width: int, height: int) -> Image.Image:
    """The examples side by side and below each other, until the image is full."""
    images = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]
    answer, top, number = Image.new("RGB", (width, height)), 0, 0
    while top < height:
        left, row = 0, height
        while left < width:
            image = images[number % len(images)]
            answer.paste(image, (left, top))
            left, row, number = left + image.width, min(row, image.height), number + 1
        top += row
    return answer


def peak_mb(command: list[str]) -> float:
    """Peak memory of the command in a process of its own (ru_maxrss would be inherited from this one)."""
    run = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(f"{' '.join(command)}: {run.stderr.strip()}")
    return int(run.stdout.split()[-1]) / 1e6


if __name__ == "__main__":
    main()
