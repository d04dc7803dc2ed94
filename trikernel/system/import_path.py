"""Where the user's code imports from, which is not where the program itself does; what is there.

A program that starts in a folder of the user's must not import a ``random.py`` that lies there in
place of Python's own, so it is started with ``-P``. The user's code imports from that folder all
the same, but its modules come after those of the standard library, as in ipykernel.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

__all__ = ["has_debugpy", "with_working_folder"]

_INSTALLED = ("site-packages", "dist-packages")


def with_working_folder(path: Sequence[str]) -> list[str]:
    """``sys.path`` with ``""``, the current folder, before the first folder of installed packages.

    Where ``python -m`` has put the current folder first (without ``-P``), it moves from there.
    """
    found = list(path)
    by_name = getattr(sys.modules.get("__main__"), "__spec__", None) is not None
    if by_name and not sys.flags.safe_path and found[:1] in ([""], [os.getcwd()]):
        del found[0]
    if "" in found:
        return found
    places = (n for n, one in enumerate(found) if os.path.basename(one) in _INSTALLED)
    found.insert(next(places, 0), "")
    return found


def has_debugpy() -> bool:
    """Whether debugpy, which a debugger needs, can be imported; it is not."""
    try:
        return importlib.util.find_spec("debugpy") is not None
    except (ImportError, ValueError):  # a module of that name that is broken
        return False
