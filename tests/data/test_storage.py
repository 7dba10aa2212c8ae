"""Where results go: whole files, one job at a time, work that is claimed once. Real processes, real kill -9."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from depth_anything.data.storage import CLAIMS, Store, open_store, scratch

HOLD = """
import sys, time
from depth_anything.data.storage import open_store
store = open_store(sys.argv[1])
with store.lock(sys.argv[2], first=sys.argv[3] == "first"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path / "out" if request.param == "folder" else f"memory://{tmp_path.name}/out")


def hold(where: Path, job: str, first: str = "first") -> subprocess.Popen:
    """A living process that holds a store, or tells that it could not."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(where), job, first],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.first_line = process.stdout.readline().strip()  # type: ignore[attr-defined]
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def enter(store: Store, job: str, first: bool = True) -> None:
    """Take the lock and let it go."""
    with store.lock(job, first):
        pass


def test_files_come_back(store: Store):
    assert store.names("labels") == set()
    with pytest.raises(FileNotFoundError):
        store.read("labels/a.tar")
    with scratch(store) as file:
        file.write_bytes(b"shard")
        store.put("labels/a.tar", file)
        assert not file.exists()
    store.write("manifest/a.json", b"{}")
    store.write("manifest/a.json", b"{1}")
    assert store.names("labels") == {"a.tar"}
    assert store.names("manifest") == {"a.json"}
    assert store.read("labels/a.tar") == b"shard"
    assert store.read("manifest/a.json") == b"{1}"


def test_what_fails_leaves_nothing(store: Store):
    with pytest.raises(RuntimeError), scratch(store) as file:
        file.write_bytes(b"half")
        raise RuntimeError
    assert not file.exists()
    assert store.names("labels") == set()


def test_claims_are_given_once(store: Store):
    given = []
    threads = [threading.Thread(target=lambda: given.append(store.claim("unit"))) for _ in range(8)]
    with store.lock("job", first=True):
        for thread in threads:
            thread.start()
            if "memory" in store.where:  # it cannot create without replacing: one after the other
                thread.join()
        for thread in threads:
            thread.join()
    assert sorted(given) == [False] * 7 + [True]
    assert store.names(CLAIMS) == {"unit"}


def test_a_second_job_is_refused_until_the_first_is_dead(tmp_path: Path):
    holder = hold(tmp_path, "one")
    try:
        with pytest.raises(ValueError, match=rf"another job writes there \(process {holder.pid} on "):
            enter(open_store(tmp_path), "two")
        open_store(tmp_path).claim("unit of one")
    finally:
        kill(holder)
    (tmp_path / ".work/tmphalf").write_bytes(b"what the killed job was writing")
    store = open_store(tmp_path)
    enter(store, "two")
    assert store.names(CLAIMS) == set()
    assert not (tmp_path / ".work/tmphalf").exists()
    assert store.claim("unit of one")
    enter(store, "three")  # the block of two has ended


def test_the_processes_of_one_job_hold_it_together(tmp_path: Path):
    """Also when the one that came first is dead: the others still write."""
    first = hold(tmp_path, "job", "first")
    open_store(tmp_path).claim("unit")
    second = hold(tmp_path, "job", "later")
    try:
        assert second.first_line == "held"  # type: ignore[attr-defined]
        assert open_store(tmp_path).names(CLAIMS) == {"unit"}  # only a new job starts afresh
        kill(first)
        with pytest.raises(ValueError, match="another job writes there"):
            enter(open_store(tmp_path), "other")
    finally:
        kill(first)
        kill(second)
    enter(open_store(tmp_path), "other")


def test_a_process_that_starts_late_is_let_in(store: Store):
    """The others of its job have ended already."""
    with store.lock("job", first=True):
        store.claim("unit")
    with store.lock("job", first=False):
        pass
    with store.lock("another", first=True):
        assert store.names(CLAIMS) == set()


def test_the_same_job_name_again_frees_what_the_dead_had_claimed(tmp_path: Path):
    """Launchers that give every start the same name: what was claimed and not done must be taken up."""
    holder = hold(tmp_path, "ranks")
    open_store(tmp_path).claim("unit")
    kill(holder)
    store = open_store(tmp_path)
    with store.lock("ranks", first=True):
        assert store.claim("unit")


def test_the_lock_in_an_object_store(tmp_path: Path):
    """Refused while its holder may live; taken over from a dead process of this machine, not from another machine."""
    where = f"memory://{tmp_path.name}"
    store = open_store(where)
    with store.lock("one", first=True):
        enter(open_store(where), "one", first=False)
        with pytest.raises(ValueError, match=r"another job writes there .*delete memory://.*/\.work/lock"):
            enter(open_store(where), "two")
        holder = json.loads(store.read(".work/lock"))
        assert holder["pid"] == os.getpid()
    enter(open_store(where), "two")

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store.claim("unit")
    store.write(".work/lock", json.dumps({**holder, "pid": dead.pid}).encode())
    enter(store, "two")
    assert store.names(CLAIMS) == set()

    store.write(".work/lock", json.dumps({**holder, "started": "1"}).encode())  # its pid was given to another since
    enter(store, "three")
    store.write(".work/lock", json.dumps({**holder, "pid": dead.pid, "host": "elsewhere"}).encode())
    with pytest.raises(ValueError, match="on elsewhere"):
        enter(store, "four")


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a folder"):
        open_store(tmp_path / "out")


WITHOUT_FLOCK = "import sys\nsys.modules['fcntl'] = None\n"
"""As Python on Windows: there is no such module."""


def test_a_folder_on_a_system_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its lock is a file that names the holder: refused while that lives, taken over when it was killed."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys.modules[__name__], "HOLD", WITHOUT_FLOCK + HOLD)
    monkeypatch.delattr(os, "fchmod")
    holder = hold(tmp_path, "one")
    store = open_store(tmp_path)
    try:
        assert holder.first_line == "held"  # type: ignore[attr-defined]
        enter(store, "one", first=False)
        with pytest.raises(ValueError, match=r"another job writes there .*delete .*/\.work/lock"):
            enter(store, "two")
        store.claim("unit of one")
    finally:
        kill(holder)
    with store.lock("two", first=True), scratch(store) as file:
        assert store.names(CLAIMS) == set()
        file.write_bytes(b"shard")
        store.put("labels/a.tar", file)
    assert store.read("labels/a.tar") == b"shard"
    enter(store, "three")  # the block of two has ended
