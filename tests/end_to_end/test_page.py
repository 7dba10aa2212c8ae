"""The page in a real browser (Debian's Chromium), against a real server on the loopback."""

import base64
import io
import re
import socket
import threading

import numpy as np
import pytest
from browsing import MAGIC, ROOT, point, shot, until, upload, words
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
from serving import MetricModel, serving

from depth_anything.predict.backends import NANO_ONNX
from depth_anything.predict.prediction import load


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


def test_an_image_gives_a_map_with_readings_a_divider_and_a_download(visit, server, photo, nano, tmp_path):
    page = visit(server.url)
    assert page.is_visible("text=Drop an image here") and not page.is_visible("#view")
    upload(page, photo)

    # the value under the pointer, in words, as the model's own numbers have it
    disparity = nano(photo).disparity
    for x, y in ((0.2, 0.15), (0.5, 0.9), (0.9, 0.5)):
        point(page, x, y)
        value, percent = re.fullmatch(r"disparity (\S+), nearer than (\d+) % of the image", words(page)).groups()
        row, column = int(y * 160), int(x * 240)
        around = disparity[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert around.min() - 0.006 <= float(value) <= around.max() + 0.006
        farther = [100 * (disparity < limit).mean() for limit in (around.min(), around.max())]
        assert farther[0] - 2 <= int(percent) <= farther[1] + 2

    # the divider: left of it the image, right of it the map
    def drawn_left_of(share: float) -> np.ndarray:
        view = shot(page, "#view")
        return view[:, int(share * view.shape[1])]

    before = drawn_left_of(0.35)
    point(page, 0.5, 0.3)
    page.mouse.down()
    point(page, 0.2, 0.3)
    page.mouse.up()
    assert abs(float(page.input_value("#split")) - 20) <= 1
    assert np.abs(drawn_left_of(0.35) - before).mean() > 20
    page.focus("#split")
    page.keyboard.press("End")
    assert float(page.input_value("#split")) == 100

    with page.expect_download() as expected:
        page.click("[data-form=png16]")
    expected.value.save_as(tmp_path / expected.value.suggested_filename)
    loaded = load(tmp_path / "picture_disparity.png")
    assert loaded.model == "nano"
    assert np.abs(loaded.disparity - disparity).max() <= (disparity.max() - disparity.min()) / 65535


@pytest.mark.slow
def test_the_shape_is_drawn_and_turns(visit, server, photo):
    page = visit(server.url)
    upload(page, photo)
    page.click("#tab-solid")
    page.wait_for_selector("#solid:not(.waiting) model-viewer")
    until(page, "document.querySelector('model-viewer').modelIsVisible")

    def settled() -> np.ndarray:
        """The view after it has stopped to move."""
        last = shot(page, "#solid")
        for _ in range(60):
            page.wait_for_timeout(500)
            now = shot(page, "#solid")
            if np.abs(now - last).mean() < 0.05:
                return now
            last = now
        raise AssertionError("the view does not come to rest")

    ahead = settled()
    middle = ahead[ahead.shape[0] // 3 : -ahead.shape[0] // 3, ahead.shape[1] // 3 : -ahead.shape[1] // 3]
    assert middle.std(axis=(0, 1)).min() > 15  # a textured surface, not an empty ground
    assert page.input_value("#fov") == "55" and "55" in page.inner_text("#solid-words")
    box = page.locator("#solid").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 200, steps=8)
    page.mouse.up()
    turned = settled()
    assert np.abs(turned - ahead).mean() > 5
    page.focus("model-viewer")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert np.abs(settled() - turned).mean() > 1
    # other distances make another shape
    page.fill("#far", "30")
    page.click("#geometry button")
    page.wait_for_selector("#solid:not(.waiting) model-viewer")
    assert np.abs(settled() - ahead).mean() > 1


@pytest.mark.slow
def test_colours_are_the_servers_and_every_form_downloads(visit, server, photo, nano, tmp_path):
    page = visit(server.url)
    upload(page, photo)
    for name in ("inferno", "Spectral_r"):
        page.locator(f"input[value={name}]").focus()
        page.keyboard.press("Space")
        data = page.evaluate("document.getElementById('map').toDataURL().split(',')[1]")
        canvas = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        assert np.abs(canvas - nano(photo).colored(name)).max() <= 8  # one of 256 colours beside, where 16 bits round
    for form, magic in MAGIC.items():
        with page.expect_download() as expected:
            page.click(f"[data-form={form}]")
        expected.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().startswith(magic), form
        assert expected.value.suggested_filename.startswith("picture_")
        page.wait_for_selector(f"[data-form={form}]:not([aria-busy])")
    assert set(MAGIC) == {button.get_attribute("data-form") for button in page.query_selector_all("[data-form]")}


@pytest.mark.slow
def test_the_model_can_be_chosen(visit, photo, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(NANO_ONNX.read_bytes())
    with serving("--model", "nano", str(other)) as server:
        page = visit(server.url)
        assert page.eval_on_selector_all("#model option", "all => all.map((one) => one.value)") == ["nano", "other"]
        upload(page, photo)
        before = words(page)
        with page.expect_response("**/v1/depth?*model=other*") as answered:
            page.select_option("#model", "other")
        assert answered.value.status == 200
        page.wait_for_selector("body[data-state=done]")
        assert words(page) == before  # the same weights


@pytest.mark.slow
def test_camera_paste_drop_and_examples(visit, server, photo):
    page = visit(server.url)
    page.click("#take")
    until(page, "document.getElementById('video').videoWidth > 0")
    page.click("#camera button[value=cancel]")
    assert page.get_attribute("body", "data-state") == "empty"
    page.click("#take")
    until(page, "document.getElementById('video').videoWidth > 0")
    page.click("#camera button[value=take]")
    page.wait_for_selector("body[data-state=done]")
    assert page.evaluate("document.getElementById('video').srcObject") is None  # the camera is off

    give = """async ([name, address]) => {
        const blob = await (await fetch(address)).blob();
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], "x.jpg", { type: "image/jpeg" }));
        const event = name === "paste" ? new ClipboardEvent(name, { clipboardData: transfer })
                                       : new DragEvent(name, { dataTransfer: transfer, cancelable: true });
        window.dispatchEvent(event);
    }"""
    for name, example in (("paste", "kodak_12.jpg"), ("drop", "kodak_19.jpg")):
        page.evaluate(give, [name, f"/static/examples/{example}"])
        width, height = Image.open(ROOT / "examples" / example).size
        until(page, f"document.getElementById('map').width === {width} && document.body.dataset.state === 'done'")
        assert page.evaluate("document.getElementById('map').height") == height
    for button in page.query_selector_all("[data-example]"):
        page.evaluate("document.body.dataset.state = 'asked'")  # not the state of the image before
        button.click()
        page.wait_for_selector("body[data-state=done]")
        assert page.is_hidden("#problem")


def watch_live(page) -> tuple[list[str], list[bytes], list[str]]:
    """What happens from now on: addresses of WebSockets, maps that come there, requests to /v1/depth."""
    sockets, maps, requests = [], [], []

    def opened(socket) -> None:
        sockets.append(socket.url)
        socket.on("framereceived", lambda content: maps.append(content) if isinstance(content, bytes) else None)

    page.on("websocket", opened)
    page.on("request", lambda request: requests.append(request.url) if "/v1/depth" in request.url else None)
    return sockets, maps, requests


def more(page, items: list, count: int) -> None:
    for _ in range(600):
        if len(items) >= count:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{len(items)} of {count}")


def live_is_on(page) -> None:
    until(page, "document.getElementById('live-words').textContent.includes('ms behind')")


@pytest.mark.slow
def test_live_depth_of_the_camera(visit, server):
    page = visit(server.url)
    sockets, maps, requests = watch_live(page)
    page.click("#take")
    until(page, "document.getElementById('video').videoWidth > 0")
    assert page.is_hidden("#live-map") and not sockets
    page.click("#live")
    live_is_on(page)
    first = shot(page, "#live-map")
    assert first.std() > 10  # a map, not a plain colour
    ratio = "(({0}.videoWidth || {0}.width) / ({0}.videoHeight || {0}.height))"
    shapes = [page.evaluate(ratio.format(f"document.getElementById('{name}')")) for name in ("live-map", "video")]
    assert shapes[0] == pytest.approx(shapes[1], rel=0.01)
    more(page, maps, len(maps) + 3)
    assert len(sockets) == 1 and sockets[0].endswith("/v1/live?format=png16&model=nano&colors=Spectral_r")
    assert not requests
    page.click("#live")
    assert page.is_hidden("#live-map")
    page.wait_for_timeout(1500)
    ended = len(maps)
    page.wait_for_timeout(500)
    assert len(maps) == ended  # nothing is sent when it is off
    page.click("#live")
    live_is_on(page)
    page.click("#camera button[value=cancel]")
    until(page, "document.getElementById('video').srcObject === null")  # the camera is off
    assert page.get_attribute("body", "data-state") == "empty" and page.is_hidden("#problem")
    for _ in range(100):  # and the connection is closed
        if "depth_anything_live_connections 0.0" in page.request.get(f"{server.url}/metrics").text():
            return
        page.wait_for_timeout(100)
    raise AssertionError("the connection is open")


@pytest.mark.slow
def test_live_depth_by_requests_where_no_connection_is_free(visit):
    from websockets.sync.client import connect

    with serving("--live-at-once", "1", DEPTH_ANYTHING_TOKEN="open-sesame?") as server:
        page = visit(server.url, ready="#key[open]")
        page.fill("#token", "open-sesame?")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        sockets, maps, requests = watch_live(page)
        address = f"ws://127.0.0.1:{server.port}/v1/live"
        with connect(address, additional_headers={"Authorization": "Bearer open-sesame?"}):
            page.click("#take")
            until(page, "document.getElementById('video').videoWidth > 0")
            page.click("#live")
            live_is_on(page)
            more(page, requests, 3)
            assert len(sockets) == 1 and not maps
            page.click("#camera button[value=cancel]")
        page.click("#take")
        until(page, "document.getElementById('video').videoWidth > 0")
        page.click("#live")
        more(page, maps, 3)  # now it is free, and the token goes with it
        live_is_on(page)
        page.click("#camera button[value=cancel]")


@pytest.mark.slow
def test_live_depth_says_when_the_server_is_gone(visit):
    with serving() as server:
        page = visit(server.url)
        page.click("#take")
        until(page, "document.getElementById('video').videoWidth > 0")
        page.click("#live")
        live_is_on(page)
    until(page, "document.getElementById('live-words').textContent.includes('Is it still running?')")
    assert page.is_hidden("#live-map")


@pytest.mark.slow
def test_errors_are_shown_and_disappear(visit, server, photo, tmp_path):
    page = visit(server.url)
    text = tmp_path / "notes.jpg"
    text.write_text("no image")
    page.set_input_files("#file", text)
    page.wait_for_selector("#problem:not([hidden])")
    assert "not an image" in page.inner_text("[role=alert]")
    upload(page, photo)
    assert page.is_hidden("#problem")
    page.fill("#near", "9")
    page.fill("#far", "3")
    page.click("#geometry button")
    page.wait_for_selector("#problem:not([hidden])")
    assert "near" in page.inner_text("[role=alert]")
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(33 * 2**20))
    page.set_input_files("#file", large)
    until(page, "document.getElementById('problem').textContent.includes('MiB')")


@pytest.mark.slow
def test_the_token_is_asked_for(visit, photo):
    with serving(DEPTH_ANYTHING_TOKEN="open-sesame") as server:
        page = visit(server.url, ready="#key[open]")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('token').value === ''")  # it asks again
        page.fill("#token", "open-sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        upload(page, photo)
        assert "disparity" in words(page)


@pytest.mark.slow
def test_everything_has_a_name_and_the_keyboard_reaches_it(visit, server, photo):
    page = visit(server.url)
    upload(page, photo)
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, [tabindex], [role=img], img, dialog, section, form")]
        .filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length
                         || e.innerText?.trim() || e.textContent.trim() || e.alt || e.querySelector("img[alt]")))
        .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert not nameless
    for attribute in ("aria-labelledby", "aria-controls", "aria-describedby"):
        for element in page.query_selector_all(f"[{attribute}]"):
            assert page.query_selector(f"#{element.get_attribute(attribute)}")
    assert page.get_attribute("html", "lang") == "en" and len(page.query_selector_all("h1")) == 1

    seen = []
    page.focus("#choose")
    for _ in range(40):
        seen.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.form || document.activeElement.name || ''"
            )
        )
        page.keyboard.press("Tab")
    for expected in ("take", "tab-compare", "split", "probe", "colors", "near", "far", "fov", "color", "png16", "glb"):
        assert expected in seen, f"Tab does not reach {expected}: {seen}"

    page.focus("#probe")
    before = words(page)
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    assert words(page) != before and page.get_attribute("#reading", "aria-live") == "polite"
    page.focus("#tab-compare")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-solid", "aria-selected") == "true" and page.is_visible("#panel-solid")
    assert page.evaluate("document.activeElement.id") == "tab-solid"


def contrast(first: list[float], second: list[float]) -> float:
    """Of two sRGB colours, by WCAG 2."""

    def luminance(color: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_it_fits_and_can_be_read(visit, server, photo, scheme, phone):
    page = visit(server.url, *((390, 844) if phone else (1280, 860)), scheme=scheme, phone=phone)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    upload(page, photo)
    assert page.evaluate(fits)
    color = """(name) => {
        const probe = document.createElement("i");
        probe.style.color = `var(${name})`;
        document.body.append(probe);
        const rgb = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
        probe.remove();
        return rgb;
    }"""
    ground, card, ink, soft, accent, on_accent, warn, warn_ground = (
        page.evaluate(color, f"--{name}")
        for name in ("ground", "card", "ink", "soft", "accent", "on-accent", "warn", "warn-ground")
    )
    assert (sum(ground) > 384) == (scheme == "light")
    for front, back in (
        (ink, ground),
        (ink, card),
        (soft, ground),
        (soft, card),
        (on_accent, accent),
        (warn, warn_ground),
    ):
        assert contrast(front, back) >= 4.5
    if phone:
        for selector in ("#choose", "#take", "[data-form=glb]"):
            assert page.locator(selector).bounding_box()["height"] >= 40  # for thumbs


@pytest.mark.slow
def test_a_metric_model_reads_in_metres(visit, photo):
    """Nearest and farthest are not asked for, values are metres, and what is unknown is said to be."""
    import uvicorn

    from depth_anything.web.server import create_app

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app({"metric": MetricModel()}), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            page = visit(f"http://127.0.0.1:{listener.getsockname()[1]}")
            upload(page, photo)
            assert page.is_hidden("#near") and page.is_hidden("#far") and page.is_visible("#fov")
            point(page, 0.7, 0.25)
            metres, percent = re.fullmatch(r"(\S+) m away, nearer than (\d+) % of the image", words(page)).groups()
            assert abs(float(metres) - 15.5) < 0.3 and abs(int(percent) - 25) <= 2
            point(page, 0.05, 0.5)
            assert words(page).startswith("unknown here")
            assert page.inner_text("#end-far") == "far 20.0 m" and page.inner_text("#end-near") == "2.00 m near"
            page.click("#tab-solid")
            page.wait_for_selector("#solid:not(.waiting) model-viewer")
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.mark.slow
def test_metres_in_words(visit, server):
    page = visit(server.url)
    told = page.evaluate(
        """async () => {
        const { DepthMap } = await import("/static/depthmap.js");
        const values = new Uint16Array([0, 1500, 12340, 30000, 65535]);
        const map = new DepthMap({ width: 5, height: 1, values, text: { quantity: "depth_m" } });
        return [[0, 1, 2, 3, 4].map((x) => map.reading(x, 0)), map.ends()];
    }"""
    )
    readings, ends = told
    assert readings[0] is None
    assert [reading["value"] for reading in readings[1:]] == [
        "1.50 m away",
        "12.3 m away",
        "30.0 m away",
        "65.5 m or more away",
    ]
    assert [reading["place"] for reading in readings[1:3]] == [
        "nearer than 75 % of the image",
        "nearer than 50 % of the image",
    ]
    assert readings[1]["nearness"] == 1 and readings[4]["nearness"] == 0
    assert ends == ["65.5 m or more", "1.50 m"]
