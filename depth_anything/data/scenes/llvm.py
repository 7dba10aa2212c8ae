"""Which LLVM library compiles Mitsuba's kernels: one that has done it here before, in a child process.

Mitsuba takes the newest library that it finds. One that is too old for the processor ends the whole process in C++
(LLVM 15 cannot compile these kernels for x86), so each is tried in a child, and the verdict is remembered. The extra
`render` brings a library for Linux on x86-64; elsewhere the system's package is needed. LLVM 19, 22 and 23 give equal
bytes.
"""

import hashlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from depth_anything.system.files import recall, remember

CHOSEN = "DEPTH_ANYTHING_LLVM"
"""In the environment of our own child processes: the library that has been tried already."""
PATH = "DRJIT_LIBLLVM_PATH"
"""Where Dr.Jit, the compiler below Mitsuba, is told its library."""
ADVICE = (
    'pip install "depth-anything[render]" brings it for Linux on x86-64; else install libllvm19 (Debian, Ubuntu), '
    "llvm-libs (Fedora, Arch), llvm (Homebrew, conda-forge), LLVM (Windows), or set DRJIT_LIBLLVM_PATH"
)
PLACES = {
    "linux": (
        "/usr/lib/*-linux-gnu", "/usr/lib/llvm*/lib", "/usr/lib/llvm/*/lib64", "/usr/lib64", "/usr/lib64/llvm*/lib",
        "/usr/lib", "/usr/local/lib", "/usr/local/lib64", "/home/linuxbrew/.linuxbrew/opt/llvm*/lib",
    ),
    "darwin": ("/opt/homebrew/opt/llvm*/lib", "/usr/local/opt/llvm*/lib", "/opt/local/libexec/llvm-*/lib"),
    "win32": ("C:/Program Files/LLVM/bin",),
}  # fmt: skip
"""Folders in which distributions and package managers keep it, by `sys.platform`."""
NAME = re.compile(r"libLLVM(-?\d[\d.]*)?\.(so|dylib)([.\d]*)|LLVM-C\.dll")
TRY = """
from depth_anything.data.scenes.layout import make_scene
from depth_anything.data.scenes.stage import Stage
stage = Stage((32, 24), 1)
for seed in range(2):  # by lamps and by day
    stage.render(make_scene(seed))
"""
"""What a library must live through."""
PATIENCE_S = 300


def choose() -> None:
    """Tell Dr.Jit which library to take: $DRJIT_LIBLLVM_PATH, else that of this environment, else the newest; of these
    the first that works.

    Raises:
        ValueError: none is here, or none works; one line that says which were tried and what to install.
    """
    given = os.environ.get(PATH, "")
    if os.environ.get(CHOSEN, "\0") == given:  # by the process that started this one
        return
    # Dr.Jit reads its environment when it is imported: afterwards there is no choice.
    imported = "drjit" in sys.modules
    faults = []
    for library in [given] if given else [""] if imported else [*map(str, libraries()), ""]:
        fault = verdict(library)
        if not fault:
            os.environ[CHOSEN] = library
            if library:
                os.environ[PATH] = library
            return
        faults.append(f"{library}: {fault}")
    if given:
        raise ValueError(f"Mitsuba cannot use the LLVM library that {PATH} names ({faults[0]}): unset it, or {ADVICE}")
    if imported:
        raise ValueError(
            "mitsuba was imported before depth_anything could choose an LLVM library, and fails with the one it found "
            f"({faults[0].removeprefix(': ')}): import it later, or set {PATH}"
        )
    if len(faults) == 1:
        raise ValueError(f"rendering needs the LLVM library, and there is none here: {ADVICE}")
    raise ValueError(f"Mitsuba can use none of the LLVM libraries here ({'; '.join(faults[:-1])}): {ADVICE}")


def libraries() -> list[Path]:
    """The LLVM libraries of this machine, each once: those of the Python environment first, then from new to old."""
    prefixes = [Path(sys.prefix), *(Path(os.environ[name]) for name in ("CONDA_PREFIX",) if os.environ.get(name))]
    own = [prefix / below for prefix in prefixes for below in ("lib", "Library/bin")]
    listed = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    system = [folder for place in PLACES.get(sys.platform, ()) for folder in Path("/").glob(place.lstrip("/"))]
    if sys.platform == "win32":
        system = [Path(place) for place in PLACES["win32"]]
    found: dict[Path, None] = {}
    for folders in (own, listed, system):
        files = [
            path for folder in folders if folder.is_dir() for path in folder.iterdir() if NAME.fullmatch(path.name)
        ]
        found |= dict.fromkeys(sorted((path.resolve() for path in files if path.is_file()), key=newness, reverse=True))
    return list(found)


def newness(library: Path) -> tuple[int, ...]:
    """The version in a library's name, else in its folders' (llvm-19, llvm@19); without any it is taken for new."""
    numbers = re.findall(r"\d+", library.name) or re.findall(r"(?<=llvm[-@/])\d+", library.as_posix()) or ["999"]
    return tuple(int(number) for number in numbers)


def verdict(library: str) -> str:
    """Why Mitsuba cannot use a library; empty where it can. Remembered in `cache_dir()` until library, Mitsuba or
    processor change."""
    known, key = recall("llvm.json"), identity(library)
    if key and isinstance(known.get(key), str):
        return known[key]
    fault = attempt(library)
    if key:
        remember("llvm.json", {**known, key: fault})
    return fault


def identity(library: str) -> str:
    """Library, versions and processor as one line; empty where the library is not known by its path."""
    try:
        about = os.stat(library)
    except OSError:
        return ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        processor = ""
    digest = hashlib.sha256(f"{processor or platform.processor()} {platform.machine()}".encode()).hexdigest()[:12]
    return f"{library} {about.st_size} {about.st_mtime_ns} mitsuba {version('mitsuba')} processor {digest}"


def attempt(library: str) -> str:
    """Render with a library in a child process; what went wrong, empty where nothing did."""
    package = str(Path(__file__).parents[3])
    with tempfile.TemporaryDirectory() as kernels:  # those of another library would be found again, and tell nothing
        environment = {
            **os.environ,
            CHOSEN: library,
            "DRJIT_CACHE_DIR": kernels,
            "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        if library:
            environment[PATH] = library
        try:
            done = subprocess.run(
                [sys.executable, "-c", TRY], env=environment, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"no image within {PATIENCE_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no word about it"]
    killed = done.returncode < 0
    # The messages of LLVM and Dr.Jit come first, then Python's trace of the crash.
    reason = next((line for line in lines if line.startswith(("LLVM ERROR", "jit"))), lines[0 if killed else -1])
    reason = " ".join(re.sub(r"^jit\w*\(\): |0x[0-9a-f]+:?,? ?", "", reason).split()).split(". ")[0][:100]
    if killed:
        return f"ends the process with {signal.Signals(-done.returncode).name}: {reason}"
    return reason
