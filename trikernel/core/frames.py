"""Which code is ours or Trio's, and which is the user's: by the file that it is in."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import FrameType

import outcome
import trio

__all__ = ["in_finalizer", "is_machinery", "is_ours"]

_OURS = str(Path(__file__).parent.parent) + os.sep
_MACHINERY = (_OURS, *(str(Path(inspect.getfile(one)).parent) + os.sep for one in (trio, outcome)))


def is_ours(filename: str) -> bool:
    """Whether that file is part of this package."""
    return filename.startswith(_OURS)


def is_machinery(filename: str) -> bool:
    """Whether code of that file is ours or Trio's, not the user's."""
    return filename.startswith(_MACHINERY)


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether the user's code in that frame runs in a ``__del__``, which Trio protects."""
    while frame is not None and not is_machinery(frame.f_code.co_filename):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
