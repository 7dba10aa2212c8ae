"""The colours of the page's live depth: depthmap.js in node."""

import json
import shutil
import subprocess

import numpy as np
from npm import absent

from depth_anything.web.page_files import STATIC

PROGRAM = """
import { readFileSync } from "node:fs";
const { DepthMap, LiveRange } = await import(process.argv[1]);
const table = Array.from({ length: 256 }, (_, i) => [i, i, i]);
const range = new LiveRange();
const drawn = JSON.parse(readFileSync(0)).map(({ quantity, low, high, stored }) => {
  const text = { quantity, disparity_min: low, disparity_max: high };
  const map = new DepthMap({ width: stored.length, height: 1, values: Uint16Array.from(stored), text });
  const data = new Uint8ClampedArray(4 * stored.length);
  const context = { createImageData: () => ({ data }), putImageData() {} };
  map.draw({ getContext: () => context }, table, range.follow(map));
  return Array.from(data.filter((_, i) => i % 4 === 0));
});
console.log(JSON.stringify(drawn));
"""


def colours(frames: list[dict]) -> list[np.ndarray]:
    """The grey levels that are drawn for each frame's pixels."""
    node = shutil.which("node")
    if node is None:
        absent("node is absent: make system installs it")
    command = [node, "--input-type=module", "-e", PROGRAM, (STATIC / "depthmap.js").as_uri()]
    done = subprocess.run(command, input=json.dumps(frames), capture_output=True, text=True, check=True)
    return [np.array(levels) for levels in json.loads(done.stdout)]


def frame(disparity: np.ndarray) -> dict:
    """As decodePng16 reads a 16-bit PNG."""
    low, high = float(disparity.min()), float(disparity.max())
    stored = np.round((disparity - low) / (high - low) * 65535).astype(int)
    return {"quantity": "disparity", "low": str(low), "high": str(high), "stored": stored.tolist()}


def test_something_near_does_not_change_the_colours_of_the_rest():
    """One frame of four has a hand in it, three times as near as all else."""
    scene = np.linspace(1, 2, 400)
    hand = scene.copy()
    hand[:40] = 6
    drawn = colours([frame(scene), frame(scene), frame(hand), frame(scene)])
    assert np.ptp(drawn[0]) == 255 and np.array_equal(drawn[0], drawn[1])
    assert max(np.abs(drawn[i][40:] - drawn[0][40:]).max() for i in (2, 3)) < 0.35 * 255, "min to max of the frame: 0.8"
    assert drawn[2][:40].min() > 250, "the hand is near"


def test_the_range_follows_a_new_scene():
    before, after = np.linspace(1, 2, 300), np.linspace(5, 8, 300)
    drawn = colours([frame(before)] + 60 * [frame(after)])
    np.testing.assert_allclose(drawn[-1], drawn[0], atol=3)
    assert drawn[1].min() == 255, "at first all is nearer than the range"
    two_thirds = colours([frame(before)] + 10 * [frame(after)] + [frame(np.linspace(1, 8, 701))])
    full = np.flatnonzero(two_thirds[-1] >= 255)[0] / 100 + 1
    assert 5.5 < full < 6.5, "the upper end went from 2 two thirds of the way to 8"


def test_metres_and_maps_without_known_pixels():
    def metres(values: list[int]) -> dict:
        return {"quantity": "depth_m", "low": "", "high": "", "stored": values}

    drawn = colours([metres([0, 1000, 2000, 3000]), metres([0, 0, 0, 0]), metres([0, 1000, 3000, 2000])])
    assert [levels.tolist() for levels in drawn] == [[0, 255, 128, 0], [0, 0, 0, 0], [0, 255, 0, 128]]
