"""Tiles: their weights, what they may add, and that nobody sees their seams."""

import numpy as np
import pytest
from PIL import Image

from depth_anything.predict import tiles
from depth_anything.predict.prediction import Prediction
from depth_anything.predict.tiles import coarse, cover, fine_detail, predict_tiles


@pytest.mark.parametrize(("height", "width", "count"), [(300, 400, 2), (401, 233, 3), (97, 1000, 4), (64, 64, 3)])
def test_weights_sum_to_one_and_fade_at_borders(height, width, count):
    total = np.zeros((height, width))
    for tile in cover(height, width, count):
        weights = tile.weight_h[:, None] * tile.weight_w
        assert weights.min() >= 0
        total[tile.window] += weights
        if tile.left > 0:
            assert tile.weight_w[0] < 0.02
        if tile.top + len(tile.weight_h) < height:
            assert tile.weight_h[-1] < 0.02
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "count"), [(300, 400, 1), (100, 100, 10)])
def test_too_few_or_too_small(height, width, count):
    with pytest.raises(ValueError, match="tiles along the shorter side"):
        cover(height, width, count)


def test_a_tile_adds_what_is_fine_and_nothing_else():
    rows, columns = np.mgrid[0:200, 0:260].astype(np.float32)
    whole = rows / 200
    fine = 0.05 * np.sin(columns * 2 * np.pi / 4)  # four pixels long; a cell has ten
    added = fine_detail(3 * (whole + fine) - 7, whole)  # in a scale of its own
    np.testing.assert_allclose(added[20:-20, 20:-20], fine[20:-20, 20:-20], atol=0.008)
    bent = whole + 0.3 * np.sin(columns / 260 * np.pi)  # a coarse error: the whole knows better
    assert np.abs(fine_detail(bent, whole)).max() < 0.02
    assert np.abs(coarse(added, tiles.FINE)).max() < 0.003
    np.testing.assert_array_equal(fine_detail(1 - whole, whole), 0)
    np.testing.assert_array_equal(fine_detail(np.ones_like(whole), whole), 0)


def test_an_edge_gains_its_shape_whatever_its_step_in_the_tile():
    """The tile says too much of the step above and too little below; taken plainly, its detail would do harm below."""
    height, width, edge = 200, 200, 100
    columns = np.arange(width) + np.zeros((height, 1))
    real = columns >= edge
    whole = (1 / (1 + np.exp(-(columns - edge) / 3))).astype(np.float32)  # as a network sees it from far away
    tile = (np.where(np.arange(height) < height // 2, 1.4, 0.5)[:, None] * real).astype(np.float32)
    scale, shift = tiles.fit_scale_shift(tile, whole)
    difference = (scale * tile + shift - whole).astype(np.float32)
    agreement = scale * tiles.fit_scale_shift(whole, tile)[0]
    plain = agreement * (difference - coarse(difference, tiles.FINE))
    before, after, harmed = (
        np.abs(map_HW - real) for map_HW in (whole, whole + fine_detail(tile, whole), whole + plain)
    )
    for half in (np.s_[20:80], np.s_[120:180]):
        assert after[half].mean() < 0.99 * before[half].mean()
    assert harmed[120:180].mean() > 1.05 * before[120:180].mean()


class Painter:
    """Answers a disparity that it reads from the red channel, blurred when the image is large, as a network is.

    Every image comes in another scale and shift, and bent from left to right.
    """

    batch_size = 4

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def predict(self, images):
        return [self(image) for image in images]

    def __call__(self, image):
        height, width = image.shape[:2]
        red = Image.fromarray(image[..., 0]).convert("F")
        step = max(1, min(height, width) // 64)
        seen = np.asarray(red.resize((width // step, height // step), Image.Resampling.BOX).resize((width, height)))
        bend = self.rng.uniform(-20, 20) * np.linspace(-1, 1, width)
        scale, shift = self.rng.uniform(0.5, 2), self.rng.uniform(-50, 50)
        return Prediction(disparity=(scale * (seen + bend) + shift).astype(np.float32), model="painter")


def test_seams_are_below_one_percent_of_the_range():
    rng = np.random.default_rng(1)
    height, width, count = 384, 512, 4
    ramp = np.linspace(0, 180, height)[:, None] + np.zeros(width)
    boxes = ramp.copy()
    for _ in range(12):
        y, x = rng.integers(0, height - 60), rng.integers(0, width - 60)
        boxes[y : y + 50, x : x + 50] += 60
    image = np.repeat(boxes.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    answer = predict_tiles(Painter(), image, count).disparity
    value_range = np.ptp(answer)
    lines = {tile.left for tile in cover(height, width, count)} - {0}
    for x in lines:
        jumps = np.diff(answer[:, x - 6 : x + 6], axis=1).mean(
            axis=0
        )  # means over the line: what an eye sees as a seam
        assert abs(jumps[5] - np.delete(jumps, 5).mean()) < 0.01 * value_range
    naive = np.concatenate([Painter()(image[:, :256]).disparity, Painter()(image[:, 256:]).disparity], axis=1)
    jumps = np.diff(naive[:, 250:262], axis=1).mean(axis=0)
    assert abs(jumps[5] - np.delete(jumps, 5).mean()) > 0.01 * np.ptp(naive)  # the measure sees a seam that is there


def test_edges_gain_and_the_whole_map_decides_distances():
    height, width = 384, 512
    real = np.where(np.mgrid[0:height, 0:width][1] // 37 % 2 == 0, 60.0, 190.0)
    image = np.repeat(real.astype(np.uint8)[..., None], 3, axis=2)
    whole, detailed = Painter()(image).disparity, predict_tiles(Painter(), image, 4).disparity

    def edge_error(map_HW):
        scale, shift = tiles.fit_scale_shift(map_HW, real)
        return np.abs(scale * map_HW + shift - real).mean()

    assert edge_error(detailed) < 0.9 * edge_error(whole)
    cells = [np.asarray(Image.fromarray(m).resize((8, 6), Image.Resampling.BOX)) for m in (whole, detailed)]
    assert np.abs(cells[0] - cells[1]).max() < 0.03 * np.ptp(whole)


def test_metres_stay_metres():
    class Metric(Painter):
        def __call__(self, image):
            disparity = super().__call__(image).as_disparity()
            return Prediction(depth_m=(1 / (0.2 + disparity - disparity.min())).astype(np.float32), model="metric")

    image = np.random.default_rng(2).integers(0, 255, (128, 160, 3), np.uint8)
    answer = predict_tiles(Metric(), image, 3)
    assert answer.quantity == "depth_m" and answer.depth_m.min() > 0 and "tiles" in " ".join(answer.notes)
