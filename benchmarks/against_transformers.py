"""Differences between transformers' maps and the official ones with the same weights: figures in docs/checkpoints.md.

    python benchmarks/against_transformers.py nano examples
    python benchmarks/against_transformers.py depth_anything_v2_vits.pth examples --variant v2-small

For every image: the same input tensor through both networks (only the position table's rule differs), and the
image through both pipelines (resizing differs, too). In units of the map's standard deviation, over all pixels.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForDepthEstimation, pipeline

from depth_anything.checkpoints.official import save_transformers
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import network_size, to_tensor


def difference(theirs: np.ndarray, ours: np.ndarray) -> str:
    apart = np.abs(theirs - ours) / ours.std()
    return f"{apart.mean():.4f} / {apart.max():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--variant")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[0, 300], help="longer side in pixels; 0 is the file's own"
    )
    arguments = parser.parse_args()
    model = DepthAnything.from_pretrained(arguments.model, variant=arguments.variant)
    with tempfile.TemporaryDirectory() as folder:
        save_transformers(model, folder)
        network = AutoModelForDepthEstimation.from_pretrained(folder).eval()
        road = pipeline("depth-estimation", model=folder)
        processor = AutoImageProcessor.from_pretrained(folder)
    print("image        network's input: ours, theirs    same tensor: mean / max    pipeline: mean / max")
    for path in sorted(arguments.images.glob("*.jpg")):
        for side in arguments.sides:
            with Image.open(path) as file:
                image = file.convert("RGB")
            if side:
                image.thumbnail((side, side))
            height, width = image.height, image.width
            size = network_size(height, width, model.variant.input_size)
            image_13HW = to_tensor(np.asarray(image), size)
            with torch.inference_mode():
                ours, theirs = model(image_13HW), network(pixel_values=image_13HW).predicted_depth
            processed = processor(image, return_tensors="pt")["pixel_values"].shape[2:]
            whole = road(image)["predicted_depth"].squeeze().numpy()
            print(
                f"{path.stem} {height}x{width}  {size[0]}x{size[1]}, {processed[0]}x{processed[1]}"
                f"    {difference(theirs.numpy(), ours.numpy())}"
                f"    {difference(whole, model.infer_rgb(np.asarray(image)))}"
            )


if __name__ == "__main__":
    main()
