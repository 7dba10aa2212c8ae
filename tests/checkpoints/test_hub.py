"""Where weights are looked for, against a small hub on this machine, and without one."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from depth_anything.checkpoints import hub
from depth_anything.variants import VARIANTS

FILES = {
    "/depth-anything/Depth-Anything-V2-Small/resolve/main/depth_anything_v2_vits.pth": b"v2 small",
    "/depth-anything/Depth-Anything-V2-Large/resolve/main/depth_anything_v2_vitl.pth": b"v2 large",
    "/spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints/depth_anything_vits14.pth": b"v1 small",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        data = FILES.get(self.path, b"")
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{abs(hash(self.path)):x}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        return data

    def log_message(self, format, *args):
        pass


@pytest.fixture
def run(tmp_path):
    """Run a line of Python that has `find_weights`, `find_folder`, `VARIANTS`: in a fresh process and an empty home."""

    def run_line(line: str, **environment: str) -> str:
        names = "from depth_anything.checkpoints.hub import *; from depth_anything.variants import VARIANTS; "
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_", "HUGGING"))}
        result = subprocess.run(
            [sys.executable, "-c", f"{names}print({line})"],
            env={**keep, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
        return lines[-1]

    return run_line


@pytest.fixture
def endpoint():
    """The address of a running `Hub`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name, data", [("v2-small", "v2 small"), ("v1-small", "v1 small")])
def test_download_then_offline(run, endpoint, name, data):
    """Models and V1's Space come from the hub once; after that no hub is needed."""
    line = f"find_weights(VARIANTS[{name!r}]).read_text()"
    assert run(line, HF_ENDPOINT=endpoint) == data
    assert run(line, HF_HUB_OFFLINE="1") == data


def test_hub_without_the_file(run, endpoint):
    answer = run("find_weights(VARIANTS['v1-base'])", HF_ENDPOINT=endpoint)
    assert answer.startswith("ValueError: the hub answered 404 for http")
    assert "depth_anything_vitb14.pth" in answer
    assert run("find_folder('nobody/nothing')", HF_ENDPOINT=endpoint).startswith("ValueError: the hub answered 404")


def test_no_hub_names_the_file_and_its_place(run, tmp_path):
    line = "find_weights(VARIANTS['v2-small'])"
    place = tmp_path / ".cache" / "depth-anything" / "depth_anything_v2_vits.pth"
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        answer = run(line, **environment)
        assert answer.startswith("ValueError: no Hugging Face hub within reach")
        assert "depth-anything/Depth-Anything-V2-Small/resolve/main/depth_anything_v2_vits.pth" in answer
        assert f"put it at {place}" in answer
        assert answer.endswith("the bundled model 'nano' needs no download")
    place.parent.mkdir(parents=True)
    place.write_text("brought by hand")
    assert run(line + ".read_text()", HF_HUB_OFFLINE="1") == "brought by hand"


def test_no_hub_for_an_id(run):
    answer = run("find_folder('depth-anything/Depth-Anything-V2-Small-hf')", HF_HUB_OFFLINE="1")
    assert answer.startswith(
        "ValueError: no Hugging Face hub within reach (HF_HUB_OFFLINE is set): download config.json and "
    )


def test_licence_is_accepted_once(run, endpoint):
    line = "find_weights(VARIANTS['v2-large'], accept_license={}).read_text()"
    refusal = run(line.format(False), HF_ENDPOINT=endpoint)
    assert refusal.startswith("ValueError: v2-large: its owner does not allow commercial use (licence: CC-BY-NC-4.0)")
    assert "--accept-license" in refusal
    assert run(line.format(True), HF_ENDPOINT=endpoint) == "v2 large"
    assert run(line.format(False), HF_ENDPOINT=endpoint) == "v2 large"
    other = run("find_weights(VARIANTS['v2-metric-indoor-small'])", HF_ENDPOINT=endpoint)
    assert "v2-metric-indoor-small: commercial use is not clearly allowed (licence: none stated)" in other


def test_licence_survives_a_read_only_home_and_a_damaged_record(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("not a folder: nothing can be written under it")
    hub.require_licence("x", "CC-BY-NC-4.0", False, accept=True)
    with pytest.raises(ValueError, match="x: its owner"):
        hub.require_licence("x", "CC-BY-NC-4.0", False, accept=False)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hub.cache_dir().mkdir(parents=True)
    record = hub.cache_dir() / "accepted_licences.json"
    record.write_text("{")
    hub.require_licence("x", "CC-BY-NC-4.0", False, accept=True)
    hub.require_licence("x", "CC-BY-NC-4.0", False, accept=False)
    with pytest.raises(ValueError, match="x: commercial use is not clearly"):  # another licence is another question
        hub.require_licence("x", "none stated", None, accept=False)


def test_never_released(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="v2-giant has no released weights"):
        hub.find_weights(VARIANTS["v2-giant"], accept_license=True)


def test_ids():
    assert hub.is_repository("depth-anything/Depth-Anything-V2-Small-hf")
    for path in ("model.pth", "a/b.pth", "a/b/c", "/a/b", "./a", "../a", "a/b.safetensors"):
        assert not hub.is_repository(path), path
    for row in VARIANTS.values():
        if row.transformers_repo:
            assert hub.variant_of_repository(row.transformers_repo) is row
    assert hub.variant_of_repository("LiheYoung/depth_anything_vitb14") is VARIANTS["v1-base"]
    assert hub.variant_of_repository("depth-anything/Depth-Anything-V2-Large") is VARIANTS["v2-large"]
    assert hub.variant_of_repository("LiheYoung/Depth-Anything") is None
    assert hub.variant_of_repository("someone/else") is None
