"""A kernelspec of this interpreter's kernel, for frontends to find."""

from __future__ import annotations

import json
import sys
from pathlib import Path

__all__ = ["SPEC", "write_spec"]

SPEC = "trikernel-here"


def write_spec(data: Path) -> None:
    """Write it below a Jupyter data folder."""
    path = data / "kernels" / SPEC / "kernel.json"
    path.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "trikernel", "start", "-f", "{connection_file}"]
    metadata = {"debugger": True}
    spec = {"argv": argv, "display_name": SPEC, "language": "python", "metadata": metadata}
    path.write_text(json.dumps(spec), "utf-8")
