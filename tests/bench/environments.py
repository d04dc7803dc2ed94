"""An environment of its own for each kernel that is measured, made once and kept."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["CONTENDERS", "PEERS", "ROOT", "Contender", "environment", "versions"]

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
FLAG = "-f"


@attrs.frozen
class Contender:
    """What to install, and how to start it; the connection file comes last.

    ``environment`` is where it is installed, by default a folder of its own. ``lacks`` says of
    groups of figures why this kernel has none.
    """

    name: str
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    package: str = ""
    environment: str = ""
    interrupted_by: str = "signal"
    environ: Mapping[str, str] = attrs.field(factory=dict)
    lacks: Mapping[str, str] = attrs.field(factory=dict)


_ONLY_MESSAGES = "it runs no code of its own"
_NO_INTERRUPT = "it exits when it is interrupted"

CONTENDERS = {
    one.name: one
    for one in (
        Contender("trikernel", (f"{ROOT}[python]",), ("-m", "trikernel", "start", FLAG)),
        Contender("ipykernel", ("ipykernel",), ("-m", "ipykernel_launcher", FLAG)),
        Contender(
            "async-kernel",
            ("async-kernel", "trio"),
            ("-m", "async_kernel", "start", "--backend=trio", FLAG),
            interrupted_by="message",
        ),
        Contender(
            "xeus-python",
            ("xeus-python",),
            ("-m", "xpython_launcher", FLAG),
            lacks={"interrupts": _NO_INTERRUPT},
        ),
        Contender(
            "floor",
            ("pyzmq",),
            (str(HERE / "floor.py"), FLAG),
            package="pyzmq",
            lacks=dict.fromkeys(("outputs", "busy", "interrupts", "idle"), _ONLY_MESSAGES),
        ),
        Contender(
            "echo",
            (),
            (str(HERE / "echo.py"), FLAG),
            package="trikernel",
            environment="trikernel",
            lacks=dict.fromkeys(("requests", "outputs", "busy", "interrupts"), _ONLY_MESSAGES),
        ),
    )
}
"""``floor`` is a blocking loop of the same messages, ``echo`` a trikernel without Python."""

PEERS = ("ipykernel", "async-kernel", "xeus-python", "floor")


def environment(name: str) -> Path:
    """The Python of the environment in which the kernel is installed."""
    contender = CONTENDERS[name]
    label = contender.environment or name
    folder = ROOT / ".bench" / f"{label}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making an environment for {label} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
    if contender.requirements and (name == "trikernel" or not (folder / "ready").exists()):
        pip = [str(python), "-m", "pip", "install", "-q", "--upgrade", *contender.requirements]
        subprocess.run(pip, check=True)
        if name == "trikernel":  # the version stays the same while the code changes
            subprocess.run([*pip, "--force-reinstall", "--no-deps"], check=True)
        (folder / "ready").touch()
    return python


def versions(name: str) -> str:
    """The version of a contender, as it is installed."""
    pip = [str(environment(name)), "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True)
    found = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    package = CONTENDERS[name].package or name
    return f"{package} {found[package]}"
