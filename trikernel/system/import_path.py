"""`sys.path` of the user's code, which is another than the program's; whether debugpy is installed.

A program that starts in a folder of the user's must not import a ``random.py`` that lies there in
place of Python's own, so it is started with ``-P``. The user's code imports from that folder all
the same, but its modules come after those of the standard library, as in ipykernel.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Sequence

__all__ = ["has_debugpy", "with_working_folder"]

LOOK_AGAIN = 10.0  # seconds

_INSTALLED = ("site-packages", "dist-packages")
_debugpy_is_there, _looked_at = False, -math.inf


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
    """Whether debugpy, which a debugger needs, can be imported. It is not imported here.

    Every kernel_info_reply tells it, also while a cell computes. Each look into a folder gives the
    interpreter lock to that cell, which then keeps it for a whole switch interval. So once debugpy
    was found, that is remembered; if it was not, it is looked for again after `LOOK_AGAIN`.
    """
    global _debugpy_is_there, _looked_at
    now = time.monotonic()
    if not _debugpy_is_there and now - _looked_at > LOOK_AGAIN:
        _looked_at = now
        try:
            _debugpy_is_there = importlib.util.find_spec("debugpy") is not None
        except (ImportError, ValueError):  # a module of that name that is broken
            _debugpy_is_there = False
    return _debugpy_is_there
