"""The browser, and a visit that asks nobody but the page's own server."""

from pathlib import Path

import pytest
from browsing import CHROMIUM, FLAGS, ROOT, WAIT_MS
from npm import absent
from PIL import Image

from depth_anything.predict.predictor import Predictor


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        absent(f"{CHROMIUM} is absent: make system installs it")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        absent("playwright is not installed: it comes with the extra dev")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a page; at the end, nothing was asked of anybody but its server, and nothing went wrong in it."""
    contexts, outside, wrong = [], [], []

    def opened(
        url: str,
        width: int = 1280,
        height: int = 860,
        scheme: str = "light",
        phone: bool = False,
        ready="body[data-ready]",
    ):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=phone, is_mobile=phone
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: asked(request.url))
        page.on("websocket", lambda socket: asked(socket.url.replace("ws", "http", 1)))
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def asked(address: str) -> None:
            if not address.startswith((url, f"blob:{url}", "data:")):
                outside.append(address)

        page.goto(url)
        page.wait_for_selector(ready)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not outside, f"requests left the machine: {outside}"
    assert not wrong, wrong


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    with Image.open(ROOT / "examples/kodak_24.jpg") as image:
        image.resize((240, 160)).save(path, quality=92)
    return path


@pytest.fixture(scope="module")
def nano():
    return Predictor("nano", threads=1)
