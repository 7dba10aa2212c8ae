"""Look for dead links in a built site, and for anything that a page would fetch from elsewhere.

    python docs/check_site.py site

Zensical's own check reads Markdown; this one reads the pages that came of it, so it also sees pictures, raw HTML, the
navigation and API pages.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
"""Tags whose target a browser loads by itself, and the attribute that names it. Links that people follow are `a`."""
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
"""Values of `rel` that load nothing."""


class Page(HTMLParser):
    """The anchors of a page and what it points to."""

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
    """A line for each fault: a page, and what it points to in vain or would fetch from elsewhere."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    faults = [] if pages else [f"{site}: no pages in it"]
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the root of a server
        name = path.relative_to(site)
        faults += [f"{name}: would fetch {url}" for url in page.fetched if urlsplit(url).netloc]
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
            faults.append(f"{path.relative_to(site)}: would fetch {url}")
    return faults


if __name__ == "__main__":
    sys.exit("\n".join(check(Path(sys.argv[1]).resolve())) or None)
