"""Ready-made models of things, an optional source of objects: OBJ and GLB files, and Sweet Home 3D's libraries (.sh3f).

`open_library` reads a folder once, makes every model small (few triangles, one texture with all its colours) and keeps
the result in the cache, named after the folder's content. So the scenes of a seed depend on nothing but the seed and
that content.
"""

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from depth_anything.data.scenes.shapes import Mesh
from depth_anything.data.scenes.texture_baking import CannotUse, bake, read_model
from depth_anything.system.files import atomic_path, cache_dir, package_text, walk

VERSION = 1  # raised when the same files give other models
ENDINGS, ARCHIVES = (".obj", ".glb"), (".sh3f", ".zip")

_ROWS = [line.split("\t") for line in package_text("data/scenes/model_roles.txt").splitlines() if line[0] != "#"]
NO_USE = _ROWS[0][2]
ROLES = _ROWS[1:]
"""(role, class of the pixels, words in the name as a regular expression); the first that fits counts."""


@dataclass(frozen=True)
class Entry:
    """Properties of a model apart from its shape: size (x, y, z) in metres, and whether things can stand on it."""

    name: str
    role: str
    label: str
    size: tuple[float, float, float]
    flat: bool


@dataclass(frozen=True)
class Model:
    """A model at its real size: its foot at the origin, its front towards -y.

    image is sRGB uint8 (S,S,3), S = texture_baking.SIDE; the texture coordinates of mesh are inside it, v = 0 its
    first row."""

    entry: Entry
    mesh: Mesh
    image: np.ndarray


@dataclass(frozen=True)
class Library:
    """Models by role, read from a prepared file when needed; digest identifies their content."""

    pack: Path
    digest: str
    entries: tuple[Entry, ...]

    def roles(self, *roles: str) -> list[int]:
        """The numbers of the models of these roles."""
        return [number for number, entry in enumerate(self.entries) if entry.role in roles]

    def get(self, number: int) -> Model:
        """A model by its number."""
        return _read(self.pack, number)


@lru_cache(maxsize=4)
def load_library(pack: Path) -> Library:
    """What `open_library` prepared."""
    with np.load(pack) as arrays:
        about = json.loads(bytes(arrays["about"]))
    entries = tuple(Entry(**{**entry, "size": tuple(entry["size"])}) for entry in about["entries"])
    return Library(pack, about["digest"], entries)


@lru_cache(maxsize=1)
def _arrays(pack: Path) -> Any:
    return np.load(pack)


@lru_cache(maxsize=400)
def _read(pack: Path, number: int) -> Model:
    arrays = _arrays(pack)
    vertices, faces, uv, image = (arrays[f"{name}{number}"] for name in ("vertices", "faces", "uv", "picture"))
    mesh = Mesh(vertices.astype(np.float64), faces.astype(np.int64), uv.astype(np.float64))
    return Model(load_library(pack).entries[number], mesh, image)


@dataclass(frozen=True)
class _Source:
    """A model's file, with its entry in a catalogue."""

    name: str
    words: str
    path: Path
    size_m: tuple[float, float, float] | None = None
    rotation: tuple[float, ...] | None = None


def open_library(folder: str | Path, progress: bool = True) -> Library:
    """The models of a folder: every .obj and .glb in it (metres, y up, front towards +z), and the catalogues of its
    .sh3f or .zip files. Takes minutes the first time, then the cache has them.

    Models that no scene has a use for are left out: stairs, doors, windows, rugs, what hangs, what is broken, or larger
    than a lorry.

    Raises:
        ValueError: not a folder, or no model in it that can be used.
    """
    folder = Path(folder)
    files = sorted(walk(folder))
    if not any(path.suffix.lower() in ENDINGS + ARCHIVES for path in files):
        raise ValueError(f"{folder}: expected a folder with models ({', '.join(ENDINGS + ARCHIVES)})")
    digest = hashlib.sha256(f"version {VERSION}".encode())
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    name = digest.hexdigest()[:16]
    pack = cache_dir() / f"models-{name}.npz"
    if pack.exists():
        try:
            return load_library(pack)
        except Exception:  # damaged: zip files have errors of their own
            pack.unlink()
    entries, arrays = [], {}
    with tempfile.TemporaryDirectory() as unpacked:
        sources = list(_sources(folder, files, Path(unpacked)))
        for source in tqdm(sources, unit="model", desc="reading models", disable=not progress):
            try:
                entry, mesh, image = _prepare(source)
            except CannotUse:
                continue
            number = len(entries)
            entries.append(entry)
            arrays[f"vertices{number}"], arrays[f"faces{number}"] = mesh.vertices.astype(np.float32), mesh.faces
            arrays[f"uv{number}"], arrays[f"picture{number}"] = mesh.uv.astype(np.float32), image
    if not entries:
        raise ValueError(
            f"{folder}: none of its {len(sources)} models can be used; expected furniture, people, cars ..."
        )
    about = json.dumps({"digest": name, "entries": [asdict(entry) for entry in entries]}).encode()
    pack.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(pack) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, about=np.frombuffer(about, np.uint8), **arrays)
    return load_library(pack)


def _sources(folder: Path, files: list[Path], unpacked: Path) -> Iterator[_Source]:
    for path in files:
        if path.suffix.lower() in ENDINGS:
            yield _Source(path.relative_to(folder).as_posix(), path.stem.replace("_", " "), path)
        elif path.suffix.lower() in ARCHIVES:
            inside = unpacked / path.name
            with zipfile.ZipFile(path) as archive:
                archive.extractall(inside)
            yield from _catalogue(path.stem, inside)


def _catalogue(library: str, folder: Path) -> Iterator[_Source]:
    """The models that a Sweet Home 3D catalogue lists; sizes are centimetres. Without one, every model file."""
    listing = folder / "PluginFurnitureCatalog.properties"
    if not listing.exists():
        files = sorted(walk(folder, ENDINGS))
        yield from (_Source(f"{library}/{path.relative_to(folder)}", path.stem, path) for path in files)
        return
    rows: dict[int, dict[str, str]] = {}
    for line in listing.read_text("latin-1").splitlines():
        if found := re.match(r"(\w+)#(\d+)\s*=(.*)", line):
            rows.setdefault(int(found[2]), {})[found[1]] = found[3].strip()
    for _, row in sorted(rows.items()):
        path = folder / row.get("model", "").lstrip("/")
        lifted = float(row.get("elevation", 0)) > 15
        if path.suffix.lower() not in ENDINGS or not path.exists() or lifted or row.get("doorOrWindow") == "true":
            continue
        width, depth, height = (float(row[key]) / 100 for key in ("width", "depth", "height"))
        turn = tuple(map(float, row["modelRotation"].split())) if "modelRotation" in row else None
        words = f"{row['name']} {path.stem} {row.get('category', '')}"
        yield _Source(f"{library}/{path.stem}", words, path, (width, depth, height), turn)


def role_of(words: str, size: tuple[float, float, float]) -> tuple[str, str]:
    """The role and the class of a model by its name and its size."""
    words, large = words.lower(), max(size)
    fitting = [(role, label) for role, label, pattern in ROLES if re.search(pattern, words)]
    role, label = fitting[0] if fitting else ("furniture", "furniture")
    if re.search(NO_USE, words) or size[2] < 0.02 or not 0.03 < large < 14:
        raise CannotUse(words)
    if (large > 4.0 and role not in ("car", "tree")) or (role == "person" and size[2] < 0.9):
        raise CannotUse(words)
    if role == "car" and large < 2.2:
        role, label = "outdoor", "vehicle"
    if large < 0.55 and role not in ("person", "animal", "chair", "plant", "table"):
        return "small", "object"
    return ("furniture", label) if role == "toy" else (role, label)


def _prepare(source: _Source) -> tuple[Entry, Mesh, np.ndarray]:
    if source.size_m:
        role_of(source.words, source.size_m)  # what is of no use need not be read
    pieces = read_model(source.path, source.rotation)
    mesh, image = bake(pieces, source.size_m)
    wide, deep, tall = (float(v) for v in np.ptp(mesh.vertices, axis=0).round(4))
    size = (wide, deep, tall)
    role, label = role_of(source.words, size)
    if role == "car" and size[0] > size[1]:
        mesh, size = mesh.moved(yaw=np.pi / 2), (deep, wide, tall)
    return Entry(source.name, role, label, size, is_flat(mesh)), mesh, image


def is_flat(mesh: Mesh) -> bool:
    """Whether the top is a level surface that covers most of the footprint, so that things can stand on it."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    top = mesh.vertices[:, 2].max()
    level = (np.minimum(np.minimum(a[:, 2], b[:, 2]), c[:, 2]) > top - 0.03) & (
        np.abs(normal[:, 2]) > 0.97 * np.linalg.norm(normal, axis=1)
    )
    wide, deep = np.ptp(mesh.vertices[:, :2], axis=0)
    # Both sides of a thin top may be among the faces.
    return bool(0.25 < top < 1.3 and np.abs(normal[level, 2]).sum() / 2 > 0.7 * wide * deep)
