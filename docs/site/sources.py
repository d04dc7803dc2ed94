"""Pages of the files and folders that pages link to, with colours, in the place of downloads.

On GitHub `[the kernel](../examples/echo_kernel.py)` leads to the file; here it leads to a page that
shows it, and a link to a folder leads to a page that shows each of its files.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from html import escape
from os.path import normpath
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

PREFIX = "source"
_trees: dict[Path, dict[int, Any]] = {}


def lead_to_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Turn links to what is no page into links to pages of ours."""
    docname = app.env.docname
    for node, path in list(_leading_out(app, doctree)):
        _linked(app).setdefault(docname, set()).add(path)
        uri = app.builder.get_relative_uri(docname, f"{PREFIX}/{path}")
        node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=uri))


def _leading_out(app: Sphinx, doctree: nodes.document) -> Iterator[tuple[nodes.Element, str]]:
    """The links to what is no page of the site, each with its path from the top of the checkout."""
    here = app.srcdir.joinpath(app.env.docname).parent
    for node in doctree.findall(addnodes.download_reference):
        yield node, _from_top(app, here / node["reftarget"])
    for node in doctree.findall(addnodes.pending_xref):
        target = node.get("reftarget", "")
        if node.get("reftype") != "myst" or target in app.env.found_docs:
            continue
        if node["refdomain"] == "doc":  # Markdown outside of the site
            yield node, _from_top(app, Path(f"{target}.md"))
        elif "/" in target and (here / target).is_dir():
            yield node, _from_top(app, here / target)


def share_tree(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Make the tree beside one of these pages once for all that lie as deep: it takes longest."""
    if pagename.startswith(f"{PREFIX}/"):
        made = _trees.setdefault(app.outdir, {})
        depth, make = pagename.count("/"), context["toctree"]

        def tree(**options: Any) -> Any:
            if depth not in made:
                made[depth] = make(**options)
            return made[depth]

        context["toctree"] = tree


def make_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages: name, what the theme is told, template."""
    for path in sorted(set().union(*_linked(app).values())):
        place = _root(app) / path
        if place.is_dir():
            listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."]
            run = subprocess.run(listed, cwd=place, capture_output=True, text=True, check=True)
            names = sorted(run.stdout.split(), key=lambda name: (name.count("/"), name))
            body = "".join(f"<h2>{escape(name)}</h2>{_shown(app, place / name)}" for name in names)
        else:
            body = _shown(app, place)
        title = f"<h1><code>{escape(path)}</code></h1>"
        name = f"{PREFIX}/{path}"
        context = {"title": escape(path), "body": title + body}
        yield name, context, "page.html"


def _shown(app: Sphinx, file: Path) -> str:
    languages = {".py": "python", ".toml": "toml", ".md": "markdown", ".yml": "yaml"}
    text = file.read_text("utf-8")
    return app.builder.highlighter.highlight_block(text, languages.get(file.suffix, "text"))


def _root(app: Sphinx) -> Path:
    return app.srcdir.parent


def _from_top(app: Sphinx, path: Path) -> str:
    return Path(normpath(path)).relative_to(_root(app)).as_posix()


def _linked(app: Sphinx) -> dict[str, set[str]]:
    if not hasattr(app.env, "linked_sources"):
        app.env.linked_sources = {}  # kept with the pages that were read before
    return app.env.linked_sources


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", lead_to_pages, priority=100)  # before downloads are collected
    app.connect("env-purge-doc", lambda app, env, docname: _linked(app).pop(docname, None))
    app.connect("html-collect-pages", make_pages)
    app.connect("html-page-context", share_tree, priority=100)  # before the theme asks for it
    return {"parallel_read_safe": False}
