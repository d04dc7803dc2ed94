"""An environment of its own for each kernel that is measured, made once and kept."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["KERNELS", "environment", "versions"]

ROOT = Path(__file__).parent.parent.parent

KERNELS = {
    "trikernel": (f"{ROOT}[python]", ["-m", "trikernel", "start", "-f"]),
    "ipykernel": ("ipykernel", ["-m", "ipykernel_launcher", "-f"]),
}
"""What to install, and how to start it; the connection file comes last."""


def environment(name: str) -> Path:
    """The Python of the environment in which the kernel is installed."""
    folder = ROOT / ".bench" / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making an environment for {name} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
    requirement = KERNELS[name][0]
    if name == "trikernel" or not (folder / "ready").exists():
        pip = [str(python), "-m", "pip", "install", "-q", "--upgrade", requirement]
        subprocess.run(pip, check=True)
        if name == "trikernel":  # the version stays the same while the code changes
            subprocess.run([*pip, "--force-reinstall", "--no-deps"], check=True)
        (folder / "ready").touch()
    return python


def versions(python: Path) -> dict[str, str]:
    """What is installed there."""
    pip = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True)
    return {one["name"]: one["version"] for one in json.loads(listed.stdout)}
