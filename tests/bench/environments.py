"""An environment of its own for each kernel that is measured, made once and kept."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Set
from pathlib import Path

import attrs

__all__ = [
    "CONTENDERS",
    "PEERS",
    "ROOT",
    "STACK",
    "WITH_STACK",
    "Contender",
    "add_earlier",
    "contender_of",
    "environment",
    "versions",
]

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
FLAG = "-f"


@attrs.frozen
class Contender:
    """What to install, and how to start it; the connection file comes last.

    ``environment`` is whose environment it shares, if it has none of its own. ``lacks`` are the
    groups of figures that it has not. ``preload`` is what a fork server imports that starts it.
    """

    name: str
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    package: str = ""
    environment: str = ""
    interrupted_by: str = "signal"
    preload: tuple[str, ...] | None = None  # of a fork server; None for an ordinary start
    environ: Mapping[str, str] = attrs.field(factory=dict)
    lacks: Set[str] = frozenset()


CONTENDERS = {
    one.name: one
    for one in (
        Contender("trikernel", (f"{ROOT}[python,debug]",), ("-m", "trikernel", "start", FLAG)),
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
            lacks={"interrupts"},  # it exits when it is interrupted
        ),
        Contender(
            "floor",
            ("pyzmq",),
            (str(HERE / "floor.py"), FLAG),
            package="pyzmq",
            lacks={"outputs", "busy", "interrupts", "idle"},
        ),
        Contender(
            "echo",
            (),
            (str(HERE / "echo.py"), FLAG),
            package="trikernel",
            environment="trikernel",
            lacks={"requests", "outputs", "busy", "interrupts", "idle"},
        ),
        Contender(
            "warm",
            (),
            ("-m", "trikernel", "start", FLAG),
            package="trikernel",
            environment="trikernel",
            preload=(),
            lacks={"requests", "outputs", "busy", "interrupts", "subshells", "idle"},
        ),
    )
}
"""``floor`` is a blocking loop of the same messages, ``echo`` a trikernel without Python, ``warm``
the Python kernel that a fork server starts."""
STACK = ("pandas", "matplotlib.pyplot")  # what many notebooks import
WITH_STACK = {
    one.name: one
    for one in (
        Contender(
            "trikernel-stack",
            (f"{ROOT}[python]", "pandas", "matplotlib"),
            ("-m", "trikernel", "start", FLAG),
        ),
        Contender(
            "warm-stack",
            (),
            ("-m", "trikernel", "start", FLAG),
            environment="trikernel-stack",
            preload=STACK,
        ),
        Contender(
            "ipykernel-stack",
            ("ipykernel", "pandas", "matplotlib"),
            ("-m", "ipykernel_launcher", FLAG),
        ),
    )
}

ENGINES = Contender("engines", (f"{ROOT}[python,parallel]",), (), package="ipyparallel")
"""Both kinds of engines, and the controller that they share."""

PEERS = ("ipykernel", "async-kernel", "xeus-python", "floor")


def add_earlier(folder: str) -> None:
    """Have ``before`` be the trikernel of another checkout."""
    ours = CONTENDERS["trikernel"]
    requirements = (f"{Path(folder).resolve()}[python,debug]",)
    CONTENDERS["before"] = attrs.evolve(
        ours, name="before", requirements=requirements, package="trikernel"
    )


def contender_of(name: str) -> Contender:
    """The one of that name."""
    return {**CONTENDERS, **WITH_STACK, ENGINES.name: ENGINES}[name]


@functools.cache
def environment(name: str) -> Path:
    """The Python of the environment in which the kernel is installed; anew once in each run."""
    contender = contender_of(name)
    if contender.environment:
        return environment(contender.environment)
    folder = ROOT / ".bench" / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making an environment for {name} ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
    ours = name in ("trikernel", "before", "trikernel-stack", "engines")
    if ours or not (folder / "ready").exists():
        pip = [str(python), "-m", "pip", "install", "-q", *contender.requirements]
        subprocess.run(pip, check=True)
        if ours:  # the version stays the same while the code changes
            subprocess.run([*pip, "--force-reinstall", "--no-deps"], check=True)
        # whoever keeps no bytecode would measure the compiler
        compiles = [str(python), "-m", "compileall", "-q", sysconfig_folder(python)]
        subprocess.run(compiles, check=False, capture_output=True)
        (folder / "ready").touch()
    return python


def sysconfig_folder(python: Path) -> str:
    """Where the packages of an environment are."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def versions(name: str) -> str:
    """The version of a contender, as it is installed."""
    pip = [str(environment(name)), "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True)
    found = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    package = contender_of(name).package or name
    return f"{package} {found[package]}"
