"""Manifests: one JSON for each finished shard of pseudo-labels.

Those of an object store are opened once on a machine: what they state is kept in `cache_dir()`.
"""

import gzip
import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from depth_anything.data.storage import ObjectStore, open_store
from depth_anything.system.files import atomic_path, cache_dir, parse_json

LOG = logging.getLogger(__name__)
LABELS = "labels"
"""Folder of the shards."""
MANIFEST = "manifest"
"""Folder with one JSON a shard; it appears last."""
AT_ONCE = 32
"""Manifests that are read at the same time: an object store answers each of them after some hundredths of a second."""


@dataclass(frozen=True)
class Shard:
    """What a manifest states about a shard."""

    name: str
    labelled: int
    key: str
    """SHA-256 of its file."""
    bytes: int


def read_manifests(folder: str) -> list[Shard]:
    """What the manifests of a folder or URL state, in the order of their names; empty where there are none.

    The listing of an object store tells which of them are as they were when this machine last opened them.

    Raises:
        ValueError: one of them is damaged; the line names it.
    """
    store = open_store(folder)
    is_remote = isinstance(store, ObjectStore)
    listed = store.versions(MANIFEST) if is_remote else dict.fromkeys(store.names(MANIFEST), "")
    versions = {name: listed[name] for name in sorted(listed) if name.endswith(".json")}
    before = recall(store.where) if is_remote else {}
    known = {name: found for name, found in before.items() if found[0] == versions.get(name)}

    def read(name: str) -> tuple[str, Shard]:
        path, again = f"{folder}/{MANIFEST}/{name}", "delete it and its shard and label again"
        manifest, stem = parse_json(store.read(f"{MANIFEST}/{name}"), path, again), name.removesuffix(".json")
        shard = manifest.get("shard", manifest.get("unit"))  # "unit" in 0.1
        if not isinstance(manifest.get("labelled"), int) or shard != stem:
            raise ValueError(f"{path}: no manifest of this shard; {again}")
        about = manifest.get("bytes"), manifest.get("sha256")
        if is_remote and not (isinstance(about[0], int) and isinstance(about[1], str) and about[1]):
            raise ValueError(f"{path}: no bytes and sha256 of its shard; {again}")
        return versions[name], Shard(f"{LABELS}/{stem}.tar", manifest["labelled"], about[1] or "", about[0] or 0)

    new = [name for name in versions if name not in known]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        known.update(zip(new, pool.map(read, new), strict=True))
    now = {name: known[name] for name, version in versions.items() if version}
    if now != before:
        remember(store.where, now)
    return [known[name][1] for name in versions]


def note(where: str) -> Path:
    """The file that holds what the manifests of a URL stated."""
    return cache_dir() / "manifests" / f"{hashlib.sha256(where.encode()).hexdigest()}.json.gz"


def recall(where: str) -> dict[str, tuple[str, Shard]]:
    """What `remember` wrote: by name of a manifest its version and its shard; empty if there is nothing usable."""
    try:
        rows = json.loads(gzip.decompress(note(where).read_bytes()))  # gzip checks a sum
        return {name: (version, Shard(*shard)) for name, (version, *shard) in rows.items()}
    except FileNotFoundError:
        return {}
    except Exception as error:  # what is broken inside a file may surface as any error
        LOG.warning("%s is damaged (%s): the manifests of %s are opened again", note(where), error, where)
        return {}


def remember(where: str, found: dict[str, tuple[str, Shard]]) -> None:
    """Keep what `recall` reads; where nothing can be written, the next start opens the manifests again."""
    rows = {name: [version, *astuple(shard)] for name, (version, shard) in found.items()}
    with suppress(OSError), atomic_path(note(where)) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(rows).encode(), 1))
