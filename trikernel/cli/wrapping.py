"""``trikernel install --wrap NAME``: another kernelspec for the kernel of an installed one.

The command ``python -m X -f {connection_file}`` becomes ``python -m trikernel.compat X -f
{connection_file}``, with the same interpreter, environment, metadata and logos.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import kernelspecs

__all__ = ["wrap"]

_LAUNCHER = "trikernel.compat"
_PYTHON = re.compile(r"python(\d(\.\d+)?)?(\.exe)?", re.IGNORECASE)
_ASK = """\
import sys
from importlib.metadata import entry_points
import trikernel.compat
name = sys.argv[1]
found = [one.value for one in entry_points(group="console_scripts") if one.name == name]
print(*found[:1])
"""
_SECONDS = 60.0  # time limit for a question to another interpreter


def wrap(options: argparse.Namespace) -> tuple[str, str]:
    """Install the kernelspec. Returns its name and folder. Raises `UsageError` if the kernel cannot
    be wrapped.
    """
    name = options.wrap
    folder = kernelspecs.folder_of(name)
    try:
        spec: dict[str, Any] = json.loads((folder / "kernel.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--wrap: the kernelspec {name!r} cannot be read: {error}") from None
    spec["argv"] = _wrapped(name, spec.get("argv") or [])
    spec["display_name"] = options.display_name or f"{spec.get('display_name', name)} (Trio)"
    if options.language:
        spec["language"] = options.language
    spec["env"] = {**spec.get("env", {}), **kernelspecs.variables(options)}
    others = [path for path in sorted(folder.iterdir()) if path.name != "kernel.json"]
    is_elsewhere = options.user or options.prefix
    parent = kernelspecs.kernels_folder(options) if is_elsewhere else folder.parent
    given = f"{name}-trio" if options.name is None else options.name
    made = parent / kernelspecs.checked_name(given)
    if made == folder:
        raise UsageError(f"--wrap: {name!r} would replace itself: give it another --name")
    kernelspecs.put(spec, made, others)
    return made.name, str(made)


def _wrapped(name: str, argv: Sequence[str]) -> list[str]:
    if not argv:
        raise UsageError(f"--wrap: the kernelspec {name!r} has no argv")
    program, rest = argv[0], list(argv[1:])
    if not _PYTHON.fullmatch(Path(program).name):
        return _wrapped_script(name, program, rest)
    at = rest.index("-m") if "-m" in rest[:-1] else -1
    before = [
        one
        for last, one in zip(["", *rest], rest[: max(at, 0)], strict=False)
        if last not in ("-X", "-W")
    ]
    if at < 0 or not all(one.startswith("-") for one in before):
        raise UsageError(
            f"--wrap: {name!r} runs no module: {' '.join(argv)}; "
            "only `python -m MODULE` and installed scripts can be wrapped"
        )
    if rest[at + 1] == "trikernel":
        raise UsageError(f"--wrap: {name!r} is a kernel of trikernel's as it is")
    if rest[at + 1] == _LAUNCHER:
        raise UsageError(f"--wrap: {name!r} is wrapped already")
    python = program if Path(program).is_absolute() else shutil.which(program)
    _ask(name, sys.executable if _is_jupyters(program) else python or program, "")
    return [program, *rest[: at + 1], _LAUNCHER, *rest[at + 1 :]]


def _is_jupyters(program: str) -> bool:
    """Whether the program is a bare name that Jupyter replaces by its own interpreter."""
    return program.lower().removesuffix(".exe") in (
        "python",
        f"python{sys.version_info[0]}",
        f"python{sys.version_info[0]}.{sys.version_info[1]}",
    )


def _wrapped_script(name: str, program: str, rest: Sequence[str]) -> list[str]:
    """The command for an installed script: the interpreter in its first line runs the function of
    its entry point.
    """
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"--wrap: {name!r} runs {program!r}, and there is no such program")
    with open(path, "rb") as file:
        first = file.readline(1000)
    python = first[2:].decode(errors="replace").strip() if first.startswith(b"#!") else ""
    if not _PYTHON.fullmatch(Path(python).name):
        raise UsageError(f"--wrap: {name!r} runs {program!r}, which is no script of Python's")
    place = _ask(name, python, Path(path).name)
    if not place:
        raise UsageError(
            f"--wrap: {name!r} runs {program!r}, which no installed package says to be a script"
        )
    return [python, "-m", _LAUNCHER, place, *rest]


def _ask(name: str, python: str, script: str) -> str:
    """Ask an interpreter for the entry point of a script; empty if there is none.

    Raises `UsageError` if the interpreter does not run, or cannot import this package.
    """
    try:
        run = subprocess.run(
            [python, "-c", _ASK, script],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--wrap: the interpreter of {name!r} does not run: {error}") from None
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(
            f"--wrap: the interpreter of {name!r} cannot run trikernel ({last}): "
            f"{python} -m pip install 'trikernel[python]'"
        )
    return run.stdout.strip()
