"""Module paths of version 0.1: for one release they go on importing, with a warning that names the new path."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGE = "depth_anything."
MOVED: dict[str, tuple[str, ...]] = {
    "ahead": ("predict.prefetch",),
    "backends": ("predict.backends",),
    "calibrate": ("geometry.calibrate",),
    "camera": ("geometry.camera",),
    "checkpoints": ("checkpoints.official",),
    "cli": ("__main__",),
    "colormap": ("images.colormap",),
    "data.benchmarks.case": ("data.benchmarks.image",),
    "data.benchmarks.files": ("data.benchmarks.read_truth",),
    "data.benchmarks.kitti_split": ("data.benchmarks.kitti",),
    "data.benchmarks.nyuv2_split": ("data.benchmarks.nyuv2",),
    "data.benchmarks.scenes": ("data.benchmarks.rendered",),
    "data.labeled.own": ("data.labeled.user_folder",),
    "data.labeled.resident": ("data.labeled.on_device",),
    "data.labeled.scenes": ("data.labeled.rendered",),
    "data.stores": ("data.storage",),
    "data.unlabeled": ("data.unlabeled.sets", "data.unlabeled.read", "data.unlabeled.pictures", "data.unlabeled.units"),
    "device": ("system.device",),
    "dinov2": ("network.dinov2",),
    "dpt": ("network.dpt",),
    "encoders": ("network.beit_sam",),
    "evaluate.models": ("evaluate.load_candidate", "evaluate.candidate"),
    "evaluate.page": ("evaluate.html_page",),
    "evaluate.table": ("evaluate.published",),
    "evaluate.tables": ("evaluate.run_tables", "evaluate.published"),
    "exif": ("images.exif",),
    "export": ("export.export_model", "export.options"),
    "files": ("system.files",),
    "freeze": ("predict.optimise",),
    "hub": ("checkpoints.hub",),
    "image_io": ("images.read", "images.source"),
    "inputs": ("images.inputs",),
    "label_ray": ("label.ray",),
    "label_runs": ("label.launch", "label.jobs"),
    "label_simulate": ("label.simulate",),
    "map_files": ("images.map_files",),
    "metric_bins": ("network.metric_bins",),
    "model": ("network.model",),
    "openvino_graph": ("predict.openvino_graph",),
    "outputs": ("predict.prediction_files", "predict.prediction", "images.formats"),
    "parity": ("export.parity", "export.agreement", "predict.backends"),
    "point_cloud": ("geometry.point_cloud",),
    "prediction": ("predict.prediction",),
    "predictor": ("predict.predictor",),
    "preprocess": ("network.resize",),
    "pseudo_label": ("label.teacher",),
    "quantise": ("export.int8",),
    "road": ("export.preprocessing_graph",),
    "scenes": ("data.scenes",),
    "scenes.baking": ("data.scenes.texture_baking",),
    "scenes.built": ("data.scenes.towns",),
    "scenes.cameras": ("data.scenes.cameras",),
    "scenes.furniture": ("data.scenes.furniture",),
    "scenes.landscapes": ("data.scenes.landscapes",),
    "scenes.layout": ("data.scenes.layout",),
    "scenes.light": ("data.scenes.light",),
    "scenes.living": ("data.scenes.people_animals_plants",),
    "scenes.materials": ("data.scenes.materials",),
    "scenes.models": ("data.scenes.model_library",),
    "scenes.objects": ("data.scenes.objects",),
    "scenes.patterns": ("data.scenes.patterns",),
    "scenes.render": ("data.scenes.render",),
    "scenes.rooms": ("data.scenes.rooms",),
    "scenes.sequence": ("data.scenes.sequence",),
    "scenes.shapes": ("data.scenes.shapes",),
    "scenes.stage": ("data.scenes.stage",),
    "scenes.walls": ("data.scenes.walls",),
    "steady": ("video.stabilise",),
    "tiles": ("predict.tiles",),
    "to_rgb": ("images.color_modes",),
    "train.ablations": ("train.recipes.ablations",),
    "train.cameras": ("train.intrinsics",),
    "train.curve": ("train.run_log",),
    "train.masked": ("train.masked_patches",),
    "train.metric_recipes": ("train.recipes.metric",),
    "train.nano_recipes": ("train.recipes.nano",),
    "train.recipes": ("train.recipes.base", "train.recipes.v1", "train.recipes.v2", "train.recipes.all_recipes"),
    "train.relative": ("train.relative_depth",),
    "transformers_layout": ("checkpoints.transformers",),
    "video": ("video.run",),
    "video_chunk": ("video.chunks",),
    "video_in": ("video.decode",),
    "video_out": ("video.encode",),
    "web.answers": ("web.responses",),
    "web.gate": ("web.middleware",),
    "web.receive": ("web.upload",),
    "web.work": ("web.pipeline",),
    "weight_files": ("checkpoints.safe_read",),
}
"""Old module -> the modules that hold its names now."""
RENAMED = {
    ("ahead", "ahead"): "prefetch",
    ("data.benchmarks.case", "Case"): "BenchmarkImage",
    ("data.labeled.own", "Own"): "UserFolder",
    ("data.labeled.resident", "ResidentScenes"): "ScenesOnDevice",
    ("freeze", "freeze"): "optimise",
    ("image_io", "info"): "image_info",
    ("image_io", "read"): "read_image",
    ("label_runs", "Asked"): "LabelOptions",
    ("parity", "road"): "exported_backend",
    ("steady", "Steady"): "Stabiliser",
    ("steady", "SteadyFrame"): "StabilisedFrame",
    ("web.gate", "Gate"): "RequestGuard",
}
"""(old module, old name) -> new name."""


def old_name(old: str, name: str) -> Any:
    """What the module `old` of version 0.1 called `name`.

    Raises:
        AttributeError: no module that took its place has such a name.
    """
    new_name = RENAMED.get((old, name), name)
    for new in MOVED[old]:
        module = import_module(PACKAGE + new)
        if hasattr(module, new_name):
            return getattr(module, new_name)
    raise AttributeError(f"module {PACKAGE + old!r} has no attribute {name!r}")


def names_of(old: str) -> Callable[[str], Any]:
    """`__getattr__` of a package that replaced the module `old`: the old names, with a warning."""

    def getattribute(name: str) -> Any:
        # `from package import module` asks here first: no old name, and no reason to import what had it
        if name.startswith("_") or find_spec(f"{PACKAGE}{old}.{name}"):
            raise AttributeError(f"module {PACKAGE + old!r} has no attribute {name!r}")
        value = old_name(old, name)
        warn(old, stacklevel=3)
        return value

    return getattribute


def warn(old: str, stacklevel: int) -> None:
    new = " and ".join(PACKAGE + name for name in MOVED[old])
    warnings.warn(
        f"{PACKAGE + old} moved to {new}; the old path goes with the next release", DeprecationWarning, stacklevel
    )


class MovedModules(MetaPathFinder, Loader):
    """Finds old paths. Comes last on `sys.meta_path`, so that it costs nothing where a path exists."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(PACKAGE)
        if old == fullname or old not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=any(other.startswith(f"{old}.") for other in MOVED))

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(PACKAGE)
        warn(old, stacklevel=3)
        module.__getattr__ = lambda name: old_name(old, name)  # type: ignore[method-assign]


def install() -> None:
    """Let old paths import, once a process."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
