"""Models by name on the command line: ours, transformers', existing maps, and the baselines.

Names:
    nano, v2-small, ... or a checkpoint      our own code
    hf:ID                                    a depth-estimation model of transformers, by hub id or folder
    hf:disparity:ID, hf:depth_m:ID           the same, if the model does not state its quantity
    predictions:disparity:FOLDER             maps of another program, one file per image of the set, named by its key
    predictions:depth_m:FOLDER
    row, constant                            the baselines
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from depth_anything.evaluate.candidate import FLOORS, Candidate
from depth_anything.evaluate.score import Quantity
from depth_anything.images import map_files
from depth_anything.system.device import best_device, check_device
from depth_anything.system.extras import needs

if TYPE_CHECKING:
    from depth_anything.predict.predictor import Predictor


def load_candidate(name: str, **options: Any) -> Candidate:
    """The model of a name on the command line.

    Args:
        name: see the top of this file.
        options: for `Predictor` (device, dtype, input_size, accept_license, ...); `hf:` models take `device` of them
            only, existing maps and baselines none.

    Raises:
        ValueError: an unknown name, or a model or folder that is not available.
    """
    if name in FLOORS:
        return FLOORS[name]
    kind, _, rest = name.partition(":")
    if kind == "hf":
        taken = {"device", "accept_license"}
        passed = [name for name, value in options.items() if value not in (None, False, "fp32") and name not in taken]
        if passed:
            raise ValueError(f"{name}: {', '.join(passed)} is for our own models; measure this one without")
        return _from_transformers(name, *_quantity_and_rest(rest), device=options.get("device", "cpu"))
    if kind == "predictions":
        quantity, folder = _quantity_and_rest(rest)
        if quantity is None:
            raise ValueError(
                f"{name}: state the quantity of the maps: predictions:disparity:FOLDER or predictions:depth_m:FOLDER"
            )
        return _from_folder(name, quantity, Path(folder))
    from depth_anything.predict.predictor import Predictor

    return from_predictor(Predictor(name, **options), name)


def from_predictor(predictor: "Predictor", name: str | None = None) -> Candidate:
    """One of our models as a candidate."""
    quantity = predictor.variant.quantity
    return Candidate(
        name or predictor.variant.name, quantity, lambda image_HW3, key: getattr(predictor(image_HW3), quantity)
    )


def _quantity_and_rest(text: str) -> tuple[Quantity | None, str]:
    for quantity in get_args(Quantity):
        if text.startswith(f"{quantity}:"):
            return quantity, text.removeprefix(f"{quantity}:")
    return None, text


# -- finished maps ----------------------------------------------------------------------------------------------------


def _from_folder(name: str, quantity: Quantity, folder: Path) -> Candidate:
    if not folder.is_dir():
        raise ValueError(f"{name}: no folder {folder}")
    return Candidate(name, quantity, lambda image_HW3, key: read_map(folder, key, quantity), finished=True)


def read_map(folder: Path, key: str, quantity: Quantity) -> np.ndarray:
    """The map of one image: FOLDER/<key>.<ext> or FOLDER/<key>_<quantity>.<ext>, as `map_files.read_map` reads it.

    Raises:
        ValueError: no such file, or one that cannot be read or holds the other quantity.
    """
    endings = (".npy", ".npz", ".pfm", ".exr", ".png")
    stems = [folder / key, folder / f"{key}_{quantity}"]
    paths = [stem.with_name(stem.name + suffix) for stem in stems for suffix in endings]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"no map for {key}: expected {stems[0]} or {stems[1]} with {', '.join(endings)}")
    held = map_files.read_map(path, quantity)
    stated = held.text.get("quantity", quantity)
    if stated != quantity:
        raise ValueError(f"{path}: holds {stated}; expected {quantity}, as predictions:{quantity}: says")
    return held.values_HW


# -- models of transformers -------------------------------------------------------------------------------------------

_ANSWERS: dict[str, Quantity] = {"dpt": "disparity", "zoedepth": "depth_m", "depth_pro": "depth_m", "glpn": "depth_m"}
"""Quantities of transformers' architectures; depth_anything states it in its config."""


def _from_transformers(name: str, quantity: Quantity | None, model_id: str, device: str) -> Candidate:
    with needs("transfer", name):
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
    device = best_device() if device == "auto" else device
    check_device(device)
    try:
        processor = AutoImageProcessor.from_pretrained(model_id)
        model = AutoModelForDepthEstimation.from_pretrained(model_id).to(device).eval()
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{name}: transformers cannot load it ({reason})") from None
    quantity = quantity or _quantity_of(name, model.config)

    def predict(image_HW3: np.ndarray, key: str) -> np.ndarray:
        inputs = processor(images=image_HW3, return_tensors="pt").to(device)
        sizes = {"target_sizes": [image_HW3.shape[:2]]}
        if model.config.model_type == "zoedepth":
            sizes["source_sizes"] = sizes["target_sizes"]  # it pads the image, and needs it to cut the padding off
        with torch.inference_mode():
            outputs = model(**inputs)
            predicted = processor.post_process_depth_estimation(outputs, **sizes)[0]["predicted_depth"]
        return predicted.float().cpu().numpy()

    return Candidate(name, quantity, predict)


def _quantity_of(name: str, config: Any) -> Quantity:
    if config.model_type == "depth_anything":
        return "depth_m" if getattr(config, "depth_estimation_type", "relative") == "metric" else "disparity"
    if config.model_type not in _ANSWERS:
        raise ValueError(
            f"{name}: not known whether {config.model_type} predicts disparity or metres; "
            f"say so: hf:disparity:... or hf:depth_m:..."
        )
    return _ANSWERS[config.model_type]
