"""Who may import whom: the code is read, not run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "depth_anything"
BASE = {"numpy", "PIL", "onnxruntime", "safetensors", "tqdm", "tyro"}
"""What the base install brings; anything else is an extra."""

EXTRAS = {
    # module (or package) -> optional libraries that it may import, and whether at module level
    "dinov2": {"torch": "top"},
    "dpt": {"torch": "top"},
    "metric_bins": {"torch": "top"},
    "encoders": {"torch": "top", "transformers": "inside"},
    "model": {"torch": "top"},
    "losses": {"torch": "top"},
    "hub": {"huggingface_hub": "inside"},
    "transfer": {"torch": "top", "transformers": "top", "diffusers": "inside", "huggingface_hub": "inside"},
    "train": {"torch": "top"},
    "train.curve": {"torch": "inside"},
    "data.augment": {"torch": "top"},
    "data.labeled.resident": {"torch": "top"},
    "checkpoints": {"torch": "top"},
    "weight_files": {"torch": "top"},
    "transformers_layout": {"torch": "top"},
    "device": {"torch": "inside"},
    "preprocess": {"torch": "inside"},
    "backends": {"torch": "inside", "openvino": "inside"},
    "freeze": {"torch": "top"},
    "openvino_graph": {"openvino": "inside"},
    "export": {"torch": "inside", "onnx": "inside", "onnxscript": "inside", "openvino": "inside"},
    "parity": {"torch": "inside", "onnx": "inside", "openvino": "inside"},
    "quantise": {"nncf": "inside", "openvino": "inside", "onnx": "inside"},
    "cli.export": {"torch": "inside", "onnxscript": "inside"},
    "steady": {"cv2": "inside"},
    "video_in": {"av": "inside"},
    "scenes.stage": {"mitsuba": "inside", "drjit": "inside"},
    "scenes.baking": {"trimesh": "inside"},
    "image_io": {"pillow_heif": "inside"},
    "map_files": {"OpenEXR": "inside"},
    "point_cloud": {"trimesh": "inside"},
    "data.unlabeled.read": {"lmdb": "inside", "av": "inside", "fsspec": "inside"},
    "data.unlabeled.sets": {"fsspec": "inside"},
    "data.stores": {"fsspec": "inside"},
    "pseudo_label": {"torch": "inside"},
    "label_runs": {"torch": "inside"},
    "label_ray": {"ray": "inside"},
    "data.sky": {"transformers": "inside", "torch": "inside"},
    "data.benchmarks.files": {"h5py": "inside"},
    "web": {name: "top" for name in ("fastapi", "uvicorn", "starlette", "pydantic", "prometheus_client")},
    "evaluate.da2k_propose": {"transformers": "inside", "torch": "inside"},
    "evaluate.models": {"transformers": "inside", "torch": "inside"},
}

LAYERS = [
    # from the bottom up: a module may import from its own layer and from those below
    {"__init__", "device", "files", "variants", "colormap", "dinov2", "dpt", "encoders", "metric_bins", "losses",
     "evaluate.align", "evaluate.metrics", "evaluate.protocol", "evaluate.__init__", "preprocess"},
    {"model", "checkpoints", "weight_files", "transformers_layout", "hub", "backends", "freeze", "openvino_graph",
     "prediction", "image_io", "inputs", "exif", "to_rgb", "map_files", "outputs", "calibrate", "camera",
     "point_cloud"},
    {"predictor"},
    {"video", "tiles", "video_chunk", "video_in", "video_out", "steady", "ahead", "export", "road", "parity",
     "quantise", "data", "scenes"},
    {"train", "transfer", "evaluate", "pseudo_label", "label_runs", "label_ray", "label_simulate"},
    {"cli", "web", "__main__"},
]  # fmt: skip


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if "static" not in path.parts
    }


def imports(path: Path, module: str) -> list[tuple[str, bool]]:
    """(imported name, at module level?) of every import; names inside the package come relative to it, with a dot."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parent = module.split(".")[: -node.level]
                base = ".".join([*parent, *(node.module or "").split(".")]).strip(".")
                targets = [base] if node.module else [".".join([*parent, alias.name]) for alias in node.names]
            elif (node.module or "").split(".")[0] == "depth_anything":
                base = (node.module or "").partition(".")[2]
                targets = [base] if base else [alias.name for alias in node.names]
            else:
                found.append((node.module or "", top))
                continue
            known = modules()
            for target in targets:
                names = [f"{target}.{alias.name}".strip(".") for alias in node.names]
                found += [(f".{name if name in known else target}", top) for name in names]
    return found


def lookup(module: str, table: dict) -> dict:
    """A module's row, or its package's."""
    return table.get(module, table.get(module.split(".")[0], {}))


def layer(module: str) -> int:
    parts = module.removesuffix(".__init__").split(".") if module != "__init__" else ["__init__"]
    for name in (module, ".".join(parts), parts[0]):
        for index, names in enumerate(LAYERS):
            if name in names:
                return index
    raise AssertionError(f"{module} is in no layer: add it to LAYERS")


@pytest.mark.parametrize("module", modules())
def test_optional_libraries(module: str):
    allowed = lookup(module, EXTRAS)
    for name, top in imports(modules()[module], module):
        library = name.split(".")[0]
        if name.startswith(".") or library in BASE or library in sys.stdlib_module_names:
            continue
        assert library in allowed, f"{module} imports {library}: not in the table"
        assert not top or allowed[library] == "top", f"{module} imports {library} at module level: import it where used"


@pytest.mark.parametrize("module", modules())
def test_imports_go_downwards(module: str):
    for name, _ in imports(modules()[module], module):
        target = name[1:]
        if name.startswith(".") and target and target.split(".")[0] != "__version__":
            assert layer(target) <= layer(module), f"{module} imports {target}, which is above it"


def test_help_needs_neither_torch_nor_a_runtime():
    code = (
        "import sys; from depth_anything import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'onnxruntime', 'transformers', 'mitsuba', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_public_names_are_sorted_and_exist():
    import depth_anything

    assert depth_anything.__all__ == sorted(depth_anything.__all__, key=lambda name: (not name.isupper(), name))
    for name in depth_anything.__all__:
        assert getattr(depth_anything, name) is not None
