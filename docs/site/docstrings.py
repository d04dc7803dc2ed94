"""Names in docstrings as links: `KernelDied` leads to `trikernel.errors.KernelDied`.

Docstrings name classes as code does, without their module. A name that begins with a capital and
that the site has once is what is meant; any other that leads nowhere is shown as code.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """The link, if there is something to link to."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target[:1].isupper():
        return None
    known = {
        name: entry
        for name, entry in env.domains.python_domain.objects.items()
        if name.endswith(f".{target}") and not entry.aliased
    }
    if len(known) != 1:
        return None
    ((name, entry),) = known.items()
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True}
