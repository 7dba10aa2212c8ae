"""Who may import whom: the code is read, not run."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "depth_anything"
BASE = {"numpy", "PIL", "onnxruntime", "safetensors", "tqdm", "tyro"}
"""What the base install brings; anything else is an extra."""

EXTRAS = {
    # module (or package) -> optional libraries that it may import, and whether at module level
    "network.dinov2": {"torch": "top"},
    "network.dpt": {"torch": "top"},
    "network.efficientnet": {"torch": "top"},
    "network.metric_bins": {"torch": "top"},
    "network.beit_sam": {"torch": "top", "transformers": "inside"},
    "network.model": {"torch": "top"},
    "losses": {"torch": "top"},
    "checkpoints.hub": {"huggingface_hub": "inside"},
    "transfer": {"torch": "top", "transformers": "top", "diffusers": "inside", "huggingface_hub": "inside"},
    "train": {"torch": "top"},
    "train.run_log": {"torch": "inside"},
    "data.augment": {"torch": "top"},
    "data.labeled.on_device": {"torch": "top"},
    "checkpoints.official": {"torch": "top"},
    "checkpoints.safe_read": {"torch": "top"},
    "checkpoints.safe_write": {"torch": "top"},
    "checkpoints.transformers": {"torch": "top"},
    "checkpoints.zoedepth": {"torch": "top"},
    "system.device": {"torch": "inside"},
    "network.resize": {"torch": "inside"},
    "predict.backends": {"torch": "inside", "openvino": "inside"},
    "predict.optimise": {"torch": "top"},
    "predict.openvino_graph": {"openvino": "inside"},
    "export.export_model": {"torch": "inside", "onnx": "inside", "onnxscript": "inside", "openvino": "inside"},
    "export.float16": {"onnx": "inside"},
    "export.transformers_js": {"onnx": "inside"},
    "export.parity": {"torch": "inside", "onnx": "inside", "openvino": "inside"},
    "export.int8": {"nncf": "inside", "openvino": "inside", "onnx": "inside"},
    "cli.export": {"torch": "inside", "onnxscript": "inside"},
    "video.stabilise": {"cv2": "inside"},
    "video.frame_pixels": {"av": "inside"},
    "data.scenes.stage": {"mitsuba": "inside", "drjit": "inside"},
    "data.scenes.texture_baking": {"trimesh": "inside"},
    "images.source": {"pillow_heif": "inside"},
    "images.raw": {"rawpy": "inside"},
    "images.map_files": {"OpenEXR": "inside"},
    "geometry.point_cloud": {"trimesh": "inside"},
    "data.unlabeled.read": {"fsspec": "inside"},
    "data.unlabeled.image_shards": {"lmdb": "inside"},
    "data.unlabeled.sets": {"fsspec": "inside"},
    "data.storage": {"fsspec": "inside"},
    "label.teacher": {"torch": "inside"},
    "label.jobs": {"torch": "inside"},
    "label.ray": {"ray": "inside"},
    "data.sky": {"transformers": "inside", "torch": "inside"},
    "data.benchmarks.read_ground_truth": {"h5py": "inside"},
    "web": {name: "top" for name in ("fastapi", "uvicorn", "starlette", "pydantic", "prometheus_client")},
    "evaluate.da2k_propose": {"transformers": "inside", "torch": "inside"},
    "evaluate.load_candidate": {"transformers": "inside", "torch": "inside"},
}

LAYERS = [
    # from the bottom up: a module may import from its own layer and from those below; a room stands for its modules
    {"__init__", "variants", "losses", "system", "evaluate.align", "evaluate.metrics", "evaluate.protocol",
     "geometry.camera", "images.colormap", "network"},
    {"network.model", "checkpoints", "images", "geometry"},
    {"predict"},
    {"video", "export", "data"},
    {"train", "transfer", "label", "evaluate"},
    {"cli", "web", "__main__"},
]  # fmt: skip
"""`network.model` lies above the rest of the network: `DepthAnything.from_pretrained` reads checkpoints."""
LEVELS = 12
"""Modules on the longest chain of imports, at most."""
ENTRIES = 20
"""Modules and folders at the top of the package, at most."""


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if "static" not in path.parts
    }


@cache
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
    """A module's row, or its room's."""
    return table.get(module, table.get(module.split(".")[0], {}))


def layer(module: str) -> int:
    parts = module.removesuffix(".__init__").split(".") if module != "__init__" else ["__init__"]
    for name in (module, ".".join(parts), parts[0]):
        for index, names in enumerate(LAYERS):
            if name in names:
                return index
    raise AssertionError(f"{module} is in no layer: add it to LAYERS")


def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports, inside functions too; imports for types alone do not count."""
    known = modules()
    edges = {}
    for module, path in known.items():
        targets = {name[1:] for name, _ in imports(path, module) if name.startswith(".") and name[1:]}
        edges[module] = {name if name in known else f"{name}.__init__" for name in targets} & set(known) - {module}
    return edges


def test_imports_make_no_circle_and_few_levels():
    edges = graph()
    levels: dict[str, int] = {}
    for module in TopologicalSorter(edges).static_order():  # raises CycleError, which names the circle
        levels[module] = 1 + max((levels[name] for name in edges[module]), default=0)
    longest = max(levels, key=levels.__getitem__)
    assert levels[longest] <= LEVELS, f"{longest} lies on level {levels[longest]}"


def test_the_package_has_few_entries():
    assert len([path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")]) <= ENTRIES


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
        "import sys; from depth_anything.__main__ import main\n"
        "try: main(['--help'])\n"
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
