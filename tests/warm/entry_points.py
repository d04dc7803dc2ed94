"""What an installer writes from pyproject.toml, for an environment where it was not run again."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ..processes import ROOT

__all__ = ["write_entry_points"]

GROUP = "jupyter_client.kernel_provisioners"


def write_entry_points(folder: Path) -> Path:
    """The folder to be found in ``sys.path``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [f"{name} = {value}" for name, value in project["entry-points"][GROUP].items()]
    about = folder / "site" / "warm_entry-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: warm-entry\nVersion: 1\n")
    (about / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    return about.parent
