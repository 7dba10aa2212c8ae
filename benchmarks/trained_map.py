"""What it costs to compute the map that is trained in float32, and what it is good for.

A step's forward and backward pass, the encoder in bfloat16: decoder in bfloat16 (as autocast around the whole network
had it) against decoder in float32 (`DepthAnything.decode`), in turn, processor time. And L_gm between the map and one
whose decoder runs in float64 from the same levels.

    python benchmarks/trained_map.py nano 266 --batch 4
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from depth_anything import losses
from depth_anything.images.read import read_image
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import to_tensor

BFLOAT16 = torch.bfloat16


def maps(model: DepthAnything, image_B3HW: torch.Tensor, half: bool) -> torch.Tensor:
    """The map, with the decoder in bfloat16 or in float32."""
    with torch.autocast("cpu", BFLOAT16):
        levels, grid = model.encode(image_B3HW), model.grid(image_B3HW)
        return model.depth_head(levels, *grid)[:, 0] if half else model.decode(levels, *grid)


def step(model: DepthAnything, image_B3HW: torch.Tensor, target_BHW: torch.Tensor, half: bool) -> float:
    """Processor seconds of a forward and a backward pass under L_ssi + 2 L_gm."""
    began = time.process_time()
    valid_BHW = torch.ones_like(target_BHW, dtype=torch.bool)
    pixel, matching = losses.affine_invariant_pair(maps(model, image_B3HW, half), target_BHW, valid_BHW)
    (pixel + 2 * matching).backward()
    model.zero_grad()
    return time.process_time() - began


def gradient_distance(one_BHW: torch.Tensor, other_BHW: torch.Tensor) -> float:
    """L_gm between two maps."""
    everywhere = torch.ones_like(other_BHW, dtype=torch.bool)
    return losses.affine_invariant_pair(one_BHW.double(), other_BHW, everywhere)[1].item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant")
    parser.add_argument("side", type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    torch.manual_seed(0)
    trained = asked.variant in ("nano",)
    model = (DepthAnything.from_pretrained(asked.variant) if trained else DepthAnything(asked.variant)).train()
    image_B3HW = torch.randn(asked.batch, 3, asked.side, asked.side)
    target_BHW = torch.rand(asked.batch, asked.side, asked.side)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    memory = {}
    for turn in range(asked.rounds + 1):
        for half in (True, False):
            took = step(model, image_B3HW, target_BHW, half)
            memory.setdefault(half, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            if turn:
                seconds[half].append(took)
    before, after = (statistics.median(seconds[half]) for half in (True, False))
    print(f"{asked.variant}, {asked.batch} images of {asked.side} x {asked.side}, processor seconds a step")
    print(f"decoder in bfloat16 {before:.2f}   in float32 {after:.2f}   ratio {after / before:.2f}")
    print(f"peak memory so far: bfloat16 {memory[True]:.2f} GiB, then float32 {memory[False]:.2f} GiB")
    rows = []
    with torch.no_grad():
        for path in asked.images:
            image_HW3 = read_image(path)
            image_13HW = to_tensor(np.asarray(image_HW3), (asked.side, asked.side), "cpu", "cubic")
            found = {half: maps(model.float(), image_13HW, half) for half in (True, False)}
            with torch.autocast("cpu", BFLOAT16):
                levels = model.encode(image_13HW)
            exact = model.double().decode([level.double() for level in levels], *model.grid(image_13HW))
            whole = model.double()(image_13HW.double())
            rows.append(
                [gradient_distance(one, exact) for one in (found[True], found[False], exact.bfloat16())]
                + [gradient_distance(exact, whole)]
            )
    if rows:
        names = ("decoder in bfloat16", "decoder in float32", "the map's own bfloat16 copy", "the encoder's bfloat16")
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            print(f"L_gm of {len(rows)} images, {name}: {min(values):.4f} to {max(values):.4f}")


if __name__ == "__main__":
    main()
