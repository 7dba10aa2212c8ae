"""Packages of npm for tests, in .cache/npm of the checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / ".cache" / "npm"


def absent(reason: str):
    """Skips a test that needs what this machine lacks, or fails it where REQUIRE_SYSTEM=1."""
    if os.environ.get("REQUIRE_SYSTEM") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def npm(*arguments: str) -> str:
    """What npm prints; absent where there is no npm or no registry."""
    program = shutil.which("npm")
    if program is None:
        absent("npm is absent: make system installs it")
    run = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=600)
    if run.returncode:
        absent(f"npm {' '.join(arguments)}: {run.stderr.strip()[-300:]}")
    return run.stdout


def archive(package: str, version: str) -> Path:
    """The archive of a package, as `npm pack` writes it."""
    path = FOLDER / f"{package}-{version}.tgz"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        npm("pack", f"{package}@{version}", "--pack-destination", str(FOLDER), "--silent")
    return path


def installed(package: str, version: str) -> Path:
    """A folder whose node_modules have a package and what it needs; nothing of theirs is run."""
    folder = FOLDER / f"{package.strip('@').replace('/', '-')}-{version}"
    if not (folder / "node_modules" / package).exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--prefix", str(folder), "--no-save", "--no-audit", "--no-fund", "--ignore-scripts")
        npm("install", *options, f"{package}@{version}")
    return folder
