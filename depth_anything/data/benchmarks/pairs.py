"""A manifest of images with measured ground truth: the simplest test set, and the one for the user's own data.

A JSON list; each entry names an image, a 16-bit PNG of truth, and how to read it:

    {"id": "attic", "rgb": "attic/rgb.jpg", "gt": "attic/gt.png", "gt_scale": 1000.0,
     "kind": "metric_depth", "scene_group": "house_3", "env": "indoor/attic"}

truth = png / gt_scale, 0 = not measured. `kind` is metric_depth (z in metres), relative_depth (z up to a scale) or
disparity (1/z up to a scale and a shift). Images of one place share a `scene_group`. `env` is `indoor` or
`outdoor`, with any detail after a slash. Paths are relative to the manifest's folder or to the folder above it.
Other keys are ignored.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

from depth_anything.data.benchmarks import rendered
from depth_anything.data.benchmarks.image import BenchmarkImage, Kind
from depth_anything.data.benchmarks.read_ground_truth import from_files, uint16_ground_truth
from depth_anything.system.files import find, read_text

_KEYS = {"id": str, "rgb": str, "gt": str, "gt_scale": (int, float), "kind": str, "scene_group": str, "env": str}


def read(manifest: str | Path) -> list[BenchmarkImage]:
    """The pairs of a manifest, in its order; or, of a folder with scene shards, its scenes.

    Raises:
        ValueError: not a manifest, an entry that cannot be used, an id used twice, or files that are missing: with how
            many were found and where the first missing one was expected.
    """
    manifest = Path(manifest)
    if manifest.is_dir() and find(manifest, "scenes-*.tar"):
        return rendered.read(manifest)
    entries = _entries(manifest)
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        _check(manifest, number, entry)
        if entry["id"] in seen:
            raise ValueError(f"{manifest}: id {entry['id']!r} occurs twice; ids must be unique")
        seen.add(entry["id"])
    root = _root(manifest, entries)
    return [
        from_files(
            entry["id"],
            root / entry["rgb"],
            root / entry["gt"],
            partial(uint16_ground_truth, per_unit=entry["gt_scale"], kind=entry["kind"]),
            group=entry["scene_group"],
            region=entry["env"].split("/")[0],
        )
        for entry in entries
    ]


def _entries(manifest: Path) -> list[Any]:
    if not manifest.is_file():
        hint = f"; did you mean {manifest / 'manifest.json'}?" if manifest.is_dir() else ""
        raise ValueError(f"no manifest at {manifest}{hint}")
    try:
        entries = json.loads(read_text(manifest))
    except json.JSONDecodeError as error:
        raise ValueError(f"{manifest} is not JSON: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{manifest}: expected a JSON list of pairs with at least one entry")
    return entries


def _check(manifest: Path, number: int, entry: Any) -> None:
    where = f"{manifest}, entry {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {type(entry).__name__}")
    where += f" ({entry.get('id', 'no id')})"
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}; every pair needs {', '.join(_KEYS)}")
    for key, kind in _KEYS.items():
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            raise ValueError(
                f"{where}: {key} is {entry[key]!r}, expected {'a number' if key == 'gt_scale' else 'text'}"
            )
    if not 0 < entry["gt_scale"] < float("inf"):
        raise ValueError(f"{where}: gt_scale is {entry['gt_scale']}, expected a positive number")
    if entry["kind"] not in get_args(Kind):
        raise ValueError(f"{where}: kind is {entry['kind']!r}, expected one of {', '.join(get_args(Kind))}")
    if entry["env"].split("/")[0] not in ("indoor", "outdoor"):
        raise ValueError(f"{where}: env is {entry['env']!r}, expected indoor or outdoor, then an optional /detail")


def _root(manifest: Path, entries: list[dict[str, Any]]) -> Path:
    """The folder that the manifest's paths start from: its own or the one above, whichever has more of the files."""
    roots = (manifest.parent, manifest.absolute().parent.parent)
    files = [Path(entry[key]) for entry in entries for key in ("rgb", "gt")]
    found = {root: sum((root / file).is_file() for file in files) for root in roots}
    root = max(roots, key=lambda root: found[root])
    if found[root] < len(files):
        missing = next(root / file for file in files if not (root / file).is_file())
        raise ValueError(
            f"{manifest}: {found[root]} of {len(files)} files found under {root}; the first missing one is {missing}. "
            f"Paths start at the manifest's folder or the one above; a mean over fewer pairs would be another number"
        )
    return root
