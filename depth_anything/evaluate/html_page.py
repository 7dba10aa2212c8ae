"""HTML page: image, ground truth, and each model's map and error."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from depth_anything.evaluate.score import Aligned
from depth_anything.images.colormap import colored
from depth_anything.system.files import atomic_folder, package_text, write_text

WIDTH = 480
"""Of an image on the page, in pixels."""
FULL_ERROR = 0.5
"""Relative error that is shown in the brightest colour."""
_UNMEASURED = 60


def save_images(folder: Path, image_HW3: np.ndarray, aligned: dict[str, Aligned]) -> None:
    """Write image.jpg, truth.png and, per model, <n>_map.png and <n>_error.png. The folder is renamed into place at the
    end.

    All maps share the ground truth's colours: red is near. Pixels without a score are grey in ground truth and error.
    """
    first = next(iter(aligned.values()))
    disparity = _disparity(first.ground_truth_HW, first)
    low, high = np.percentile(disparity[first.mask_HW], [2, 98])
    span = max(high - low, 1e-12)
    with atomic_folder(folder) as temporary:
        small = Image.fromarray(image_HW3)
        small.thumbnail((WIDTH, image_HW3.shape[0]))
        small.save(temporary / "image.jpg", quality=88)
        ground_truth = _greyed(colored((disparity - low) / span), first.mask_HW)
        Image.fromarray(_small(ground_truth, first.mask_HW)).save(temporary / "truth.png")
        for number, one in enumerate(aligned.values()):
            nearness = (_disparity(one.prediction_HW, one) - low) / span
            Image.fromarray(_small(colored(nearness))).save(temporary / f"{number}_map.png")
            ground_truth_HW = np.where(one.mask_HW, one.ground_truth_HW, 1)
            error = np.abs(one.prediction_HW - ground_truth_HW) / ground_truth_HW
            image = _greyed(colored(error / FULL_ERROR, "inferno"), one.mask_HW)
            Image.fromarray(_small(image, one.mask_HW)).save(temporary / f"{number}_error.png")
        (temporary / "models.txt").write_text("\n".join(aligned), encoding="utf-8")


def saved_models(folder: Path) -> list[str]:
    """The models whose maps are in a folder of `save_images`, in their order; empty where there is none."""
    names = folder / "models.txt"
    return names.read_text(encoding="utf-8").splitlines() if names.is_file() else []


def write_page(path: Path, title: str, table_html: str, folders: Iterable[Path]) -> None:
    """An HTML page: the numbers on top, then the images of each folder. Needs no network and no script.

    Args:
        path: of the page; `folders` are below its folder.
        folders: of `save_images`; missing ones (images with too few pixels) are skipped.
    """
    sections = []
    for folder in folders:
        models = saved_models(folder)
        if not models:
            continue
        place = folder.relative_to(path.parent).as_posix()
        figures = [("image.jpg", "image"), ("truth.png", "ground truth")]
        for number, model in enumerate(models):
            figures += [(f"{number}_map.png", model), (f"{number}_error.png", f"{model}, error")]
        cells = "".join(
            f'<figure><img loading="lazy" src="{escape(place)}/{file}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for file, caption in figures
        )
        sections.append(f"<h2>{escape(folder.relative_to(path.parent / 'pictures').as_posix())}</h2><div>{cells}</div>")
    page = Template(package_text("evaluate/page.html"))
    parts = {"title": escape(title), "table": table_html, "sections": "\n".join(sections)}
    write_text(path, page.substitute(parts, percent=int(FULL_ERROR * 100)))


def _disparity(map_HW: np.ndarray, aligned: Aligned) -> np.ndarray:
    return map_HW if aligned.measure == "disparity" else 1 / np.maximum(map_HW, 1e-6)


def _greyed(image_HW3: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    return np.where(mask_HW[:, :, None], image_HW3, np.uint8(_UNMEASURED))


def _small(image_HW3: np.ndarray, mask_HW: np.ndarray | None = None) -> np.ndarray:
    """At most WIDTH pixels wide: one pixel that counts of every block, so that sparse ground truth stays visible."""
    step = min(-(-image_HW3.shape[1] // WIDTH), image_HW3.shape[0])
    height, width = image_HW3.shape[0] // step, image_HW3.shape[1] // step
    if mask_HW is None:
        return np.ascontiguousarray(image_HW3[::step, ::step])

    def blocks(map_HWC: np.ndarray) -> np.ndarray:
        cut = map_HWC[: height * step, : width * step]
        return cut.reshape(height, step, width, step, -1).swapaxes(1, 2).reshape(height, width, step * step, -1)

    counts = blocks(mask_HW[:, :, None])[..., 0]
    return np.take_along_axis(blocks(image_HW3), counts.argmax(axis=2)[:, :, None, None], axis=2)[:, :, 0]
