"""The notebooks of the site, with the outputs that `trikernel run` gives them as the site is made.

All of them are run by one call, several at once, so that the outputs are never those of an earlier
release. A cell that fails ends the build.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ENDING = ".ipynb"


def run_all(app: Sphinx) -> None:
    """Run the notebooks into a folder of their own."""
    folder = tempfile.TemporaryDirectory(prefix="trikernel-site-")
    app.connect("build-finished", lambda app, error: folder.cleanup())
    found = sorted(app.srcdir.glob(f"examples/*{ENDING}"))
    command = [sys.executable, "-m", "trikernel", "run", *map(str, found), "-o", folder.name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise ExtensionError(f"the notebooks do not run:\n{run.stdout}{run.stderr}")
    app.connect("source-read", lambda app, docname, source: _put(app, folder.name, docname, source))


def _put(app: Sphinx, folder: str, docname: str, source: list[str]) -> None:
    if app.env.doc2path(docname).suffix == ENDING:
        source[0] = (Path(folder) / f"{Path(docname).name}{ENDING}").read_text("utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", run_all)
    return {"parallel_read_safe": True}
