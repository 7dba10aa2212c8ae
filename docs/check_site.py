"""Report dead links of a built site, and resources that a page would load from another host.

    python docs/check_site.py site

Zensical checks links in Markdown. This reads the HTML, so it also covers images, raw HTML, the navigation and API
pages.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
"""Tags whose target a browser loads without a click, and the attribute with its URL."""
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
"""Values of `rel` that do not load anything."""


class Page(HTMLParser):
    """The anchors, links and loaded resources of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in FETCHED and FETCHED[tag] in values and values.get("rel") not in NOT_FETCHED:
            self.fetched.append(values[FETCHED[tag]])


def check(site: Path) -> list[str]:
    """One line per fault: the page, and the target that does not exist or is on another host."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    faults = [] if pages else [f"{site}: no pages in it"]
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are relative to the root of a server
        name = path.relative_to(site)
        faults += [f"{name}: would load {url}" for url in page.fetched if urlsplit(url).netloc]
        for url in page.links + page.fetched:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if parts.path.startswith("/") or not target.exists():
                faults.append(f"{name}: no {url}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{name}: no anchor {url}")
    for path in sorted(site.rglob("*.css")):
        for url in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?(//[^\"')]+)", path.read_text()):
            faults.append(f"{path.relative_to(site)}: would load {url}")
    return faults


if __name__ == "__main__":
    sys.exit("\n".join(check(Path(sys.argv[1]).resolve())) or None)
