"""Which LLVM library Mitsuba gets, on machines with other histories than this one's."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from depth_anything.data.scenes import llvm

pytestmark = pytest.mark.skipif(find_spec("mitsuba") is None, reason="needs Mitsuba")  # not imported: see `choose`
OLD, NEW, OWN = "libLLVM-15.so.1", "libLLVM.so.19.1", "libLLVM.so.23.1"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without any library, any verdict, any word in its environment; `folders` are where its system looks."""
    for name in (llvm.PATH, llvm.CHOSEN, "CONDA_PREFIX", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "")  # so that what `choose` puts there goes again
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "drjit", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    places = tuple(f"{tmp_path}{place}" for place in llvm.PLACES["linux"])
    monkeypatch.setattr(llvm, "PLACES", {sys.platform: places})
    return tmp_path


def put(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return [folder / name for name in names]


def works(monkeypatch, *names: str) -> list[str]:
    """Only libraries of these names work; answers what was tried, in order. "" is Dr.Jit's own search."""
    tried: list[str] = []

    def attempt(library: str) -> str:
        tried.append(Path(library).name if library else "")
        return "" if tried[-1] in names else "ends the process with SIGABRT: LLVM ERROR"

    monkeypatch.setattr(llvm, "attempt", attempt)
    return tried


def test_where_dr_jit_is_imported_already_its_own_library_has_to_do(machine, monkeypatch):
    """It has read its environment: another choice would not be heard, and an old library would end the process."""
    put(machine / "usr/lib/x86_64-linux-gnu", OLD, NEW)
    monkeypatch.setitem(sys.modules, "drjit", sys)
    tried = works(monkeypatch, NEW)
    with pytest.raises(ValueError, match=r"imported before.*DRJIT_LIBLLVM_PATH"):
        llvm.choose()
    assert tried == [""] and llvm.PATH not in os.environ
    works(monkeypatch, "")
    llvm.choose()
    assert llvm.PATH not in os.environ


def test_the_newest_that_works_and_only_once(machine, monkeypatch):
    put(machine / "usr/lib/x86_64-linux-gnu", "libLLVM-14.so.1", OLD, NEW, "libLLVM-20.so.1", "libLLVMSupport.so.15")
    tried = works(monkeypatch, NEW, OLD)
    llvm.choose()
    assert tried == ["libLLVM-20.so.1", NEW]
    assert os.environ[llvm.PATH] == str(machine / "usr/lib/x86_64-linux-gnu" / NEW)
    monkeypatch.delenv(llvm.PATH)
    monkeypatch.delenv(llvm.CHOSEN)
    llvm.choose()  # as another command: the verdicts are remembered
    assert len(tried) == 2 and os.environ[llvm.PATH].endswith(NEW)


def test_the_environment_s_own_comes_first(machine, monkeypatch):
    """That of the extra `render`, or conda's: the version is the same on every machine."""
    put(machine / "usr/lib64", "libLLVM.so.99")
    put(machine / "venv/lib", OWN)
    put(machine / "conda/lib", "libLLVM-18.so")
    monkeypatch.setenv("CONDA_PREFIX", str(machine / "conda"))
    assert [path.name for path in llvm.libraries()] == [OWN, "libLLVM-18.so", "libLLVM.so.99"]
    works(monkeypatch, OWN)
    llvm.choose()
    assert os.environ[llvm.PATH] == str(machine / "venv/lib" / OWN)


def test_where_distributions_keep_it(machine):
    for place, name in (
        ("usr/lib/aarch64-linux-gnu", "libLLVM-17.so.1"),  # Debian
        ("usr/lib/llvm-19/lib", "libLLVM-19.so.1"),  # Debian's -dev
        ("usr/lib/llvm/21/lib64", "libLLVM.so.21"),  # Gentoo
        ("usr/lib64", "libLLVM-16.so"),  # Fedora
        ("usr/lib", "libLLVM.so.22.1"),  # Arch
        ("home/linuxbrew/.linuxbrew/opt/llvm@20/lib", "libLLVM.so"),  # Homebrew
    ):
        put(machine / place, name)
    newest = [22, 21, 20, 19, 17, 16]
    assert [llvm.newness(path)[0] for path in llvm.libraries()] == newest


def test_two_names_of_one_library_are_one(machine):
    (library,) = put(machine / "usr/lib/x86_64-linux-gnu", NEW)
    (library.parent / "libLLVM-19.so").symlink_to(library)
    assert llvm.libraries() == [library]


def test_none_that_works_is_one_line(machine, monkeypatch):
    put(machine / "usr/lib/x86_64-linux-gnu", "libLLVM-14.so.1", OLD)
    works(monkeypatch)
    with pytest.raises(
        ValueError, match=r"can use none of the LLVM libraries here \(.*15\.so\.1: ends .*; .*14"
    ) as error:
        llvm.choose()
    assert "\n" not in str(error.value) and 'pip install "depth-anything[render]"' in str(error.value)
    assert llvm.PATH not in os.environ


def test_none_at_all_is_one_line(machine, monkeypatch):
    works(monkeypatch)
    with pytest.raises(ValueError, match=r"there is none here: pip install .* libllvm19 \(Debian, Ubuntu\)") as error:
        llvm.choose()
    assert "\n" not in str(error.value)


def test_what_dr_jit_finds_itself_will_do(machine, monkeypatch):
    tried = works(monkeypatch, "")
    llvm.choose()
    assert tried == [""] and llvm.PATH not in os.environ
    llvm.choose()
    assert tried == [""]


def test_a_library_that_the_user_names_is_taken_or_refused(machine, monkeypatch):
    old, _ = put(machine / "usr/lib/x86_64-linux-gnu", OLD, NEW)
    tried = works(monkeypatch, NEW)
    monkeypatch.setenv(llvm.PATH, str(old))
    with pytest.raises(ValueError, match=rf"that DRJIT_LIBLLVM_PATH names \(.*{OLD}: ends the process"):
        llvm.choose()
    assert tried == [OLD]  # no other one behind the user's back


def test_another_library_of_the_same_name_is_tried_again(machine, monkeypatch):
    (library,) = put(machine / "usr/lib64", NEW)
    tried = works(monkeypatch)
    assert llvm.verdict(str(library)) and llvm.verdict(str(library))
    library.write_bytes(b"an update")
    assert llvm.verdict(str(library)) and tried == [NEW, NEW]
    note = machine / "cache/depth-anything/llvm.json"
    assert len(json.loads(note.read_text())) == 2
    note.write_text("[damaged")
    assert llvm.verdict(str(library)) and len(tried) == 3


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os; os.abort()", "ends the process with SIGABRT: Fatal"),
        ("import sys; print('LLVM ERROR: Cannot select: 0x55: f32 = fminimum', file=sys.stderr); import os; os.abort()",
         "ends the process with SIGABRT: LLVM ERROR: Cannot select: f32 = fminimum"),
        ("raise ValueError('no use')", "ValueError: no use"),
        ("import time; time.sleep(60)", "no image within 0.5 s"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_library_that_ends_its_process_does_not_end_ours(machine, monkeypatch, code, fault):
    monkeypatch.setattr(llvm, "TRY", f"import faulthandler; faulthandler.enable()\n{code}")
    if "0.5" in fault:
        monkeypatch.setattr(llvm, "PATIENCE_S", 0.5)
    assert llvm.attempt("/some/libLLVM.so").startswith(fault) if fault else llvm.attempt("/some/libLLVM.so") == ""


def test_what_is_no_llvm_library_is_one_line(tmp_path):
    """The whole way, in a process of its own."""
    (tmp_path / "libLLVM-19.so").write_bytes(b"no library")
    code = "from depth_anything.data.scenes.stage import load_mitsuba\ntry: load_mitsuba()\nexcept ValueError as e: print(e)"  # noqa: E501
    environment = {key: value for key, value in os.environ.items() if key != llvm.CHOSEN}
    environment |= {llvm.PATH: str(tmp_path / "libLLVM-19.so"), "XDG_CACHE_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(llvm.__file__).parents[3])
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said.stdout.count("\n") == 1 and "libLLVM-19.so: Unable to load" in said.stdout, said


@pytest.mark.slow
def test_the_real_libraries_of_this_machine(renderer, tmp_path, monkeypatch):
    """Each of them renders, or is refused in a line; the one that was chosen renders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    verdicts = {str(path): llvm.verdict(str(path)) for path in llvm.libraries()}
    assert verdicts.get(os.environ.get(llvm.PATH, ""), "") == ""
    assert all("\n" not in fault for fault in verdicts.values())
