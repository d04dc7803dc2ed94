"""The arguments of ``run``, ``conform``, ``tasks`` and ``attach``. They are apart from the modules
that implement these commands, because those take time to import.
"""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_conform_flags", "add_existing_flags", "add_run_flags"]


def add_conform_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``trikernel conform``."""
    add = parser.add_argument
    add("kernel", metavar="NAME|FILE", help="a kernelspec, or a running kernel's connection file")
    add("--feature", action="append", default=[], metavar="NAME", help="only this feature's")
    words = "where the kernel is to listen (default: tcp)"
    add("--over", choices=["tcp", "ipc", "curve"], help=words)
    add("--samples", metavar="FILE", help="code in its language, in a TOML file")
    add("-v", "--verbose", action="store_true", help="show the requirements that are met, too")
    add("--json", action="store_true", help="print the results as JSON")
    add("--junit", metavar="FILE", help="write the results as JUnit's XML")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``trikernel run``."""
    add = parser.add_argument
    add("notebooks", metavar="NOTEBOOK", nargs="+", help=".ipynb, or .py in the percent format")
    add("-o", "--output", metavar="OUT", help="write the run notebook to this file, or folder")
    add("--inplace", action="store_true", help="write the run notebook over the notebook")
    value: dict[str, Any] = {
        "nargs": 2,
        "metavar": ("NAME", "VALUE"),
        "action": "append",
        "default": [],
    }
    add("-p", "--parameter", **value, help="set a parameter: a JSON or Python literal, or text")
    add("-r", "--raw-parameter", **value, help="set a parameter to the text as it is")
    add("--kernel", metavar="NAME", help="a kernelspec (default: this environment's Python)")
    add("--allow-errors", action="store_true", help="go on after cells that fail, or take too long")
    add("--cell-timeout", metavar="SECONDS", type=_seconds, help="interrupt a cell after this")
    add("--timeout", metavar="SECONDS", type=_seconds, help="interrupt a notebook after this")
    add("-j", "--jobs", metavar="N", type=_count, help="notebooks to run at once (default: CPUs)")
    add("--cwd", metavar="DIR", help="where notebooks work (default: each one's folder)")
    parser.epilog = (
        "Exit codes: 0 all cells went well, 1 a cell failed or took too long, or the output could "
        "not be written any more, 2 something about the call or a file is to be mended, 3 a kernel "
        "could not be started or died, 130 or 143 ended by Ctrl-C or SIGTERM. Of several notebooks "
        "the highest counts."
    )


def add_existing_flags(tasks: argparse.ArgumentParser, attach: argparse.ArgumentParser) -> None:
    """Add the arguments of ``trikernel tasks`` and ``trikernel attach``."""
    about = "its connection file: a path, or a name in Jupyter's runtime folder"
    tasks.add_argument("--existing", metavar="FILE", required=True, help=about)
    tasks.add_argument(
        "--watch",
        metavar="SECONDS",
        type=_seconds,
        nargs="?",
        const=1.0,
        help="show them again so often (default: 1), until Ctrl-C",
    )
    attach.add_argument("file", metavar="FILE", help=about)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0, not {text!r}")
    return value


def _count(text: str) -> int:
    value = int(text) if text.isdecimal() else -1
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a number, at least 1, not {text!r}")
    return value
