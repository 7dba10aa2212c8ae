"""Module paths of version 0.1: for one release they go on importing, with a warning that names the new path."""

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "depth_anything."
_TABLES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
MOVED: dict[str, list[str]] = _TABLES["modules"]
"""Old module -> the modules that hold its names now."""
RENAMED = {tuple(old.split(":")): new for old, new in _TABLES["names"].items()}
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
