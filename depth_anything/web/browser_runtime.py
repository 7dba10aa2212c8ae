"""ONNX Runtime's build for browsers: one version of the npm package onnxruntime-web, checked byte by byte."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from depth_anything.system.files import atomic_folder, atomic_path, cache_dir

VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package's archive in base64, as `npm view onnxruntime-web@1.30.0 dist` states it."""
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""The necessary files in the archive's folder package/dist: the builds for CPUs and for WebGPU."""
REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_SECONDS = 60


def find(given: Path | None = None) -> Path:
    """A folder with `FILES`: unpacked from `given`, from the cache, or downloaded once.

    Args:
        given: the archive, as `npm pack onnxruntime-web@VERSION` writes it, or a folder with its files.

    Raises:
        ValueError: another version, a damaged archive, or no reachable registry; the message states what to do.
    """
    unpacked = cache_dir() / f"onnxruntime-web-{VERSION}"
    if given is not None and given.is_dir():
        return folder_of(given)
    if given is None and unpacked.is_dir():
        return folder_of(unpacked)
    archive = given or cache_dir() / f"onnxruntime-web-{VERSION}.tgz"
    if given is None:
        download(archive)
    try:
        unpack(archive, unpacked)
    finally:
        if given is None:
            archive.unlink(missing_ok=True)
    return unpacked


def folder_of(folder: Path) -> Path:
    """The folder with `FILES`: `folder` itself, or dist/ of the npm package in it."""
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if all((place / name).is_file() for name in FILES):
            return place
    raise ValueError(f"{folder}: expected the files of onnxruntime-web {VERSION}, such as {FILES[0]}")


def download(archive: Path) -> None:
    """Download the package from the npm registry, or from the mirror in npm_config_registry."""
    registry = (os.environ.get("npm_config_registry") or REGISTRY).rstrip("/")  # noqa: SIM112
    url = f"{registry}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response, atomic_path(archive) as part:
            part.write_bytes(response.read())
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise ValueError(
            f"{url} cannot be downloaded ({why}): get it on another machine (`npm pack onnxruntime-web@{VERSION}`) "
            "and pass the file as --onnxruntime-web"
        ) from None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the `FILES` of the archive into `folder`, if the archive is the published one."""
    try:
        with archive.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    except OSError as error:
        raise ValueError(f"{archive}: {error.strerror}; expected a folder, or a file of npm pack") from None
    if found != INTEGRITY:
        raise ValueError(
            f"{archive} is not onnxruntime-web {VERSION} as published (SHA-512 {found[:16]}..., expected "
            f"{INTEGRITY[:16]}...): download it again"
        )
    with tarfile.open(archive) as packed, atomic_folder(folder) as part:
        for name in FILES:
            member = packed.extractfile(f"package/dist/{name}")
            assert member is not None
            (part / name).write_bytes(member.read())
