"""Plausible mistakes, put into the package one at a time, and the tests that must notice: make mutants.

The mistakes are data, in mutations/*.toml: the rule that is broken, the file, the text as it is and as it becomes, and
the tests that have to fail. A copy of the checkout is changed, never the checkout itself.

    python tests/mutants.py                    all of them
    python tests/mutants.py losses clip        those with "losses" or "clip" in their room, file or rule

Each is killed (a test failed), survived (none did; the list says why where it must be so), broken (the tests could not
be collected) or stale (its text or its test is gone, or the test fails without it).
"""

import importlib
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTATIONS = ROOT / "tests" / "mutations"
PRELOADED = (
    *("pytest", "hypothesis", "numpy", "cv2", "PIL.Image", "onnx", "onnxruntime", "fastapi", "starlette.testclient"),
    *("torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict", "torch.utils.tensorboard"),
    *("safetensors.torch", "uvicorn", "tyro", "tqdm"),
)
"""Imported once: every mutation is tested in a fork."""
UNUSED = ("cacheprovider", "schemathesis", "xdist")
LEFT_OUT = shutil.ignore_patterns(".*", "out", "runs", "build", "dist", "site", "shared", "node_modules")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake."""

    room: str
    """The file of mutations that it stands in."""
    rule: str
    """What the package does right."""
    file: str
    """Below depth_anything/."""
    old: str
    """Occurs once in the file."""
    new: str
    tests: tuple[str, ...]
    """Below tests/; at least one must fail."""
    survives: str = ""
    """Why no test can notice, where none does."""

    @property
    def path(self) -> Path:
        """Of the file, from the root of a checkout."""
        return Path("depth_anything") / self.file


def mutations() -> list[Mutation]:
    """All of them."""
    found = []
    for path in sorted(MUTATIONS.glob("*.toml")):
        for row in tomllib.loads(path.read_text())["mutation"]:
            found.append(Mutation(room=path.stem, **row | {"tests": tuple(row["tests"])}))
    return found


def stale(mutation: Mutation, root: Path = ROOT) -> str:
    """Why a mutation does not fit a checkout any more; empty where it does."""
    path = root / mutation.path
    if not path.is_file():
        return f"{mutation.path} is not there"
    count = path.read_text().count(mutation.old)
    if count != 1:
        return f"its text occurs {count} times in {mutation.path}, expected once"
    for test in mutation.tests:
        name, _, function = test.partition("::")
        if not (root / "tests" / name).is_file() or f"def {function}(" not in (root / "tests" / name).read_text():
            return f"there is no test {test}"
    return ""


def outcome(mutation: Mutation, copy: Path, number: int) -> str:
    """`killed` or `survived`; `broken` where the tests could not even be collected."""
    path = copy / mutation.path
    original = path.read_text()
    try:
        write(path, original.replace(mutation.old, mutation.new), 2 * number)
        code = run_tests(copy, mutation.tests, "-x")
    finally:
        write(path, original, 2 * number + 1)
    return {0: "survived", 1: "killed"}.get(code, "broken")


def write(path: Path, text: str, number: int) -> None:
    """With a time of its own: Python takes compiled files for current by time and size."""
    path.write_text(text)
    os.utime(path, (number, number))


def run_tests(copy: Path, tests: tuple[str, ...], *options: str) -> int:
    """pytest's exit code, in a fork of this process that sees the copy's package."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.chdir(copy)
            sys.path.insert(0, str(copy))
            with open(copy / "output.txt", "w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            every = ("-q", "--timeout=600", *(f"-pno:{plugin}" for plugin in UNUSED))
            code = importlib.import_module("pytest").main([*every, *options, *(f"tests/{test}" for test in tests)])
        finally:
            os._exit(int(code))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def failing(copy: Path, tests: set[str]) -> set[str]:
    """Those that fail without any mutation, and so can say nothing."""
    if run_tests(copy, tuple(sorted(tests)), "-rfE") == 0:
        return set()
    output = (copy / "output.txt").read_text()
    return {test for test in tests if f"FAILED tests/{test}" in output or f"ERROR tests/{test}" in output}


def say(line: str) -> None:
    """At once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(wanted: list[str]) -> int:
    """Test the mutations; the exit code is 0 where every one is killed or explained."""
    chosen = [m for m in mutations() if not wanted or any(word in f"{m.room} {m.file} {m.rule}" for word in wanted)]
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.environ.setdefault("DEPTH_ANYTHING_SHARED", str(ROOT.parent / "shared"))
    for module in PRELOADED:
        importlib.import_module(module)
    counts, bad = Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ROOT.name
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT, symlinks=True)
        os.environ["PYTHONPATH"] = str(copy)
        unsure = failing(copy, {test for mutation in chosen if not stale(mutation, copy) for test in mutation.tests})
        for number, mutation in enumerate(chosen):
            began = time.monotonic()
            why = stale(mutation, copy) or "; ".join(f"{test} fails without it" for test in unsure & {*mutation.tests})
            found = "stale" if why else outcome(mutation, copy, number)
            counts[found] += 1
            bad += found != "killed" and not (found == "survived" and mutation.survives)
            said = f": {why or mutation.survives}" if why or (found == "survived" and mutation.survives) else ""
            seconds = time.monotonic() - began
            say(f"{found:9}{seconds:5.1f} s  {mutation.room:14}{mutation.file:32}{mutation.rule}{said}")
    say(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
