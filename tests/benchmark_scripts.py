"""Scripts of benchmarks/, docs/ and scripts/ as modules."""

import importlib.util
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(name: str, folder: Path = BENCHMARKS):
    """A script of a folder as a module."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
