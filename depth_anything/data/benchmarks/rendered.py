"""Held-out rendered scenes as a test set. They do not predict photographs; their truth is exact."""

from functools import partial
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth
from depth_anything.data.labeled.rendered import PackedScenes, shard_paths


def read(folder: str | Path) -> list[BenchmarkImage]:
    """Every scene below `folder` (scenes-*.tar), each a group of its own. Sky has no distance, so it is left out.

    Raises:
        ValueError: there are no shards, or one is broken.
    """
    samples, files = PackedScenes(folder), tuple(shard_paths(folder))

    def ground_truth(number: int) -> GroundTruth:
        sample = samples[number]
        known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
        depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros(known_HW.shape), where=known_HW)
        return GroundTruth(depth_HW, known_HW, "metric_depth")

    return [
        BenchmarkImage(
            key=f"{number:06d}",
            read_image=lambda number=number: np.array(samples[number].image_HW3),
            read_ground_truth=partial(ground_truth, number),
            files=files,
            group=f"{number:06d}",
            exact=True,
        )
        for number in range(len(samples))
    ]
