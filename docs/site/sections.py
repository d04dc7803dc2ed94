"""The tree of pages: a new page is in it by the folder that it lies in.

The pages that are named here come first, in this order; the others of a folder follow by name.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from sphinx.application import Sphinx

SECTIONS = {
    "Tutorial": [
        "examples/quickstart",
        "examples/structured_concurrency",
        "tutorial/a-kernel-in-20-lines",
        "tutorial/test-your-kernel",
        "tutorial/*",
    ],
    "Notebooks": ["examples/*"],
    "How to": ["how-to/coming-from-*", "how-to/*"],
    "Discussion": ["discussion/why-structured-concurrency", "discussion/*"],
    "Reference": ["reference/kernel", "reference/settings", "reference/testing", "reference/*"],
    "API": ["reference/api/kernel", "reference/api/*"],
    "For contributors": ["contributing/tour", "contributing/*", "changelog"],
}


def add_tree(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the tree to the first page."""
    if docname != "index":
        return
    named = {name for names in SECTIONS.values() for name in names}
    for caption, names in SECTIONS.items():
        pages: list[str] = []
        for pattern in names:
            found = [one for one in app.env.found_docs if PurePosixPath(one).match(pattern)]
            pages += [one for one in sorted(found) if one == pattern or one not in {*named, *pages}]
        lines = [f":caption: {caption}", ":hidden:", "", *pages]
        source[0] += "\n".join(["\n\n```{toctree}", *lines, "```", ""])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_tree)
    app.connect("env-get-outdated", lambda *_: ["index"])  # for pages that are new
    return {"parallel_read_safe": True}
