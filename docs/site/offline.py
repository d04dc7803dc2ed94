"""What leaves the site, looked at without a network: links by their form, and nothing but links.

A page loads no script, style, font or picture from elsewhere, so that the site and its search work
from a folder, behind a firewall and in a train.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
_HOST = re.compile(r"([a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)


class _Page(HTMLParser):
    """Gathers what is wrong with one page."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loaded = given.get(_LOADED.get(tag, "")) or ""
        if urlsplit(loaded).netloc and given.get("rel") != "canonical":
            self.faults.append(f"loads {loaded}")
        if tag == "a":
            self.faults += faults_of(given.get("href") or "")


def faults_of(link: str) -> Iterator[str]:
    """What is wrong with the form of a link that leaves the site."""
    parts = urlsplit(link)
    if parts.scheme in ("", "mailto") and not parts.netloc:
        return
    if parts.scheme != "https":
        yield f"{link}: it is not https"
    elif not _HOST.fullmatch(parts.hostname or ""):
        yield f"{link}: it has no host"
    elif re.search(r"\s|[.,;)]$", link):
        yield f"{link}: it has a space in it, or ends in punctuation"


def look(app: Sphinx, error: Exception | None) -> None:
    """End the build if there are faults in the pages that were made."""
    if error is not None or app.builder.format != "html":
        return
    faults = []
    for file in sorted(Path(app.outdir).rglob("*.html")):
        page = _Page()
        page.feed(file.read_text("utf-8"))
        faults += [f"{file.relative_to(app.outdir)}: {fault}" for fault in page.faults]
    if faults:
        raise ExtensionError("\n".join(["what leaves the site is wrong:", *faults]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", look)
    return {"parallel_read_safe": True}
