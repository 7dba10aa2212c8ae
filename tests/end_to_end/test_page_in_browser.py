"""The page without a server in a real browser: its model runs there, and its files are those of `predict`."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import trimesh
from browsing import ROOT, point, shot, until, upload, words
from npm import archive
from PIL import Image

from depth_anything.__main__ import main
from depth_anything.geometry import camera
from depth_anything.predict.prediction import load
from depth_anything.web import browser_runtime
from depth_anything.web.page_files import IN_BROWSER

NEAR, FAR, FOV = 1.5, 9.0, 60.0
NOT_COMPARED = {"network_size", "version"}
"""What the command's files say and the page's do not, or not alike."""


class Files(SimpleHTTPRequestHandler):
    """Static files, with the headers that a test wants; notes every request."""

    def __init__(self, *arguments, site: "Site", **options):
        self.site = site
        super().__init__(*arguments, **options)

    def end_headers(self) -> None:
        for name, value in self.site.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_request(self, code="-", size="-") -> None:
        self.site.requests.append((self.command, self.path, int(code)))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Site:
    """A folder on the loopback."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, site=self, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    runtime = archive("onnxruntime-web", browser_runtime.VERSION)
    folder = tmp_path_factory.mktemp("page") / "page"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        main(["page", str(folder), "--onnxruntime-web", str(runtime)])
    site = Site(folder)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    thread.join(60)
    site.server.server_close()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    """Of odd sides, turned by EXIF as telephones do it, and with their note of the lens."""
    path = tmp_path_factory.mktemp("portrait") / "portrait.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    with Image.open(ROOT / "examples/kodak_19.jpg") as image:
        image.resize((150, 261)).transpose(Image.Transpose.ROTATE_90).save(path, quality=92, exif=exif)
    return path


def downloaded(page, form: str, folder: Path) -> Path:
    with page.expect_download() as expected:
        page.click(f"[data-form={form}]")
    path = folder / expected.value.suggested_filename
    expected.value.save_as(path)
    page.wait_for_selector(f"[data-form={form}]:not([aria-busy])")
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    return path


@pytest.mark.slow
def test_the_map_is_the_commands_map_and_nothing_leaves_the_machine(visit, site, photo, portrait, nano, tmp_path):
    site.requests.clear()
    page = visit(site.url)
    for path in (photo, portrait):
        upload(page, path)
        expected = nano(path).values
        span = expected.max() - expected.min()
        for form in ("png16", "npy"):
            given = load(downloaded(page, form, tmp_path)).disparity
            assert given.shape == expected.shape
            assert np.abs(given - expected).max() <= 1e-3 * span
        point(page, 0.3, 0.6)
        height, width = expected.shape
        row, column = int(0.6 * height), int(0.3 * width)
        around = expected[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert around.min() - 0.006 <= float(words(page).split()[1].strip(",")) <= around.max() + 0.006
    assert "browser" in page.inner_text("#privacy")
    assert {(method, code) for method, _, code in site.requests} == {("GET", 200)}
    assert not any("webgpu" in path or "asyncify" in path for _, path, _ in site.requests)


@pytest.mark.slow
def test_every_file_is_the_commands_file(visit, site, portrait, nano, tmp_path):
    page = visit(site.url)
    upload(page, portrait)
    for selector, number in (("#near", NEAR), ("#far", FAR), ("#fov", FOV)):
        page.fill(selector, str(number))
    forms = [button.get_attribute("data-form") for button in page.query_selector_all("[data-form]")]
    assert set(forms) == set(IN_BROWSER)
    given = {form: downloaded(page, form, tmp_path) for form in forms}

    prediction = nano(portrait)
    prediction = prediction.with_camera(camera.from_fov(prediction.width, prediction.height, FOV))
    expected = dict(
        zip(forms, prediction.save(tmp_path / "command" / "picture", forms, near=NEAR, far=FAR), strict=True)
    )
    assert {form: path.name for form, path in given.items()} == {form: path.name for form, path in expected.items()}
    span = np.ptp(prediction.values)
    for form in ("png16", "npz", "npy", "pfm", "exr"):
        ours, theirs = load(given[form]), load(expected[form])
        assert ours.quantity == "disparity" and np.abs(ours.values - theirs.values).max() <= 1e-3 * span, form
        if form not in ("npy", "pfm"):
            assert (ours.model, ours.licence) == (theirs.model, theirs.licence)
        if form == "npz":
            assert np.allclose(ours.K, theirs.K)
    for form, text in (("json", said(given["json"])), ("png16", Image.open(given["png16"]).text)):
        wanted = said(expected[form]) if form == "json" else Image.open(expected[form]).text
        for key in set(wanted) - NOT_COMPARED - {"values", "minimum", "maximum", "K", "disparity_min", "disparity_max"}:
            assert text[key] == wanted[key], (form, key)
    for form in ("color", "side", "control", "normals"):
        ours, theirs = (np.asarray(Image.open(files[form])).astype(int) for files in (given, expected))
        assert ours.shape == theirs.shape, form
        assert np.abs(ours - theirs).mean() < 1, form
    ours, theirs = (trimesh.load(files["ply"]) for files in (given, expected))
    assert ours.vertices.shape == theirs.vertices.shape
    assert np.allclose(ours.vertices, theirs.vertices, rtol=2e-3)
    assert np.abs(ours.colors.astype(int) - theirs.colors).mean() < 1
    ours, theirs = (trimesh.load(files["glb"], force="mesh") for files in (given, expected))
    assert abs(len(ours.faces) / len(theirs.faces) - 1) < 0.005
    assert np.allclose(ours.bounds, theirs.bounds, rtol=2e-2)
    assert np.allclose(ours.area, theirs.area, rtol=2e-2)
    assert np.allclose(ours.face_normals.mean(axis=0), theirs.face_normals.mean(axis=0), atol=2e-2)
    assert np.allclose(ours.visual.uv.mean(axis=0), theirs.visual.uv.mean(axis=0), atol=1e-2)


def said(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_lens_is_read_the_shape_is_drawn_and_errors_are_left_behind(visit, site, portrait, photo, tmp_path):
    page = visit(site.url)
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    page.set_input_files("#file", text)
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot read" in page.inner_text("[role=alert]")
    upload(page, portrait)
    assert page.is_hidden("#problem")
    page.click("#tab-solid")
    page.wait_for_selector("#solid:not(.waiting) model-viewer")
    until(page, "document.querySelector('model-viewer').modelIsVisible")
    assert page.input_value("#fov") == ""  # EXIF has said it
    K = camera.from_focal_35mm(150, 261, 26)
    path = downloaded(page, "npz", tmp_path)
    assert np.allclose(load(path).K, K, rtol=1e-5)
    upload(page, photo)  # without EXIF
    page.wait_for_selector("#solid:not(.waiting) model-viewer")
    assert page.input_value("#fov") == "55" and "55" in page.inner_text("#solid-words")


@pytest.mark.slow
def test_threads_where_the_host_allows_them(visit, site, photo, nano, tmp_path):
    """With the two headers the browser shares memory between threads; the map stays the same."""
    site.headers = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    try:
        page = visit(site.url)
        assert page.evaluate("crossOriginIsolated")
        upload(page, photo)
        expected = nano(photo).values
        given = load(downloaded(page, "npy", tmp_path)).disparity
        assert np.abs(given - expected).max() <= 1e-3 * np.ptp(expected)
    finally:
        site.headers = {}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_it_fits(visit, site, photo, scheme, phone):
    """Its list of devices and its link to the licences included."""
    page = visit(site.url, *((390, 844) if phone else (1280, 860)), scheme=scheme, phone=phone)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    assert (shot(page, "body")[5, 5].sum() > 384) == (scheme == "light")
    upload(page, photo)
    assert page.evaluate(fits) and page.is_visible("a[href='licences.txt']")
    assert {command for command, *_ in site.requests} == {"GET"}


@pytest.mark.slow
def test_live_depth_in_the_worker(visit, site):
    page = visit(site.url)
    page.click("#take")
    until(page, "document.getElementById('video').videoWidth > 0")
    asked = len(site.requests)
    page.click("#live")
    until(page, "document.getElementById('live-words').textContent.includes('ms behind')")
    assert shot(page, "#live-map").std() > 10
    assert not any(command == "POST" for command, *_ in site.requests[asked:])  # frames stay here
    page.click("#camera button[value=take]")
    page.wait_for_selector("body[data-state=done]")  # a photo after live depth


@pytest.mark.slow
def test_opened_as_a_file_it_says_what_to_do(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto((site.folder / "index.html").as_uri())
    page.wait_for_selector(".late", timeout=60_000)  # visible
    assert "web server" in page.inner_text(".late") and page.get_attribute("body", "data-ready") is None
    context.close()
