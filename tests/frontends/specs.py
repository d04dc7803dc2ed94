"""A kernelspec of this interpreter's kernel, for frontends to find."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["SPEC", "write_spec"]

SPEC = "trikernel-here"


def write_spec(data: Path, name: str = SPEC, spec: Mapping[str, Any] | None = None) -> None:
    """Write one below a Jupyter data folder, by default that of this interpreter."""
    path = data / "kernels" / name / "kernel.json"
    path.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "trikernel", "start", "-f", "{connection_file}"]
    here = {"argv": argv, "metadata": {"debugger": True}}
    common = {"display_name": name, "language": "python"}
    path.write_text(json.dumps({**common, **(here if spec is None else spec)}), "utf-8")
