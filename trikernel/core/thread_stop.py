"""Raising in the user's code that another thread executes, which no signal handler reaches.

What is wanted: a subshell's cell that computes is stopped as one of the main shell is, and the
kernel's own code in that thread is not hit.

What does not work: a signal; Python runs handlers in the main thread only. To raise in a thread
without a look at what it executes: that may be Trio, or the lane.

What is done: Python has another thread raise an exception at its next step. Whoever holds the
interpreter lock may look where that thread stands first: whether an interrupt might be raised there
if it were the main thread, by the marks that Trio goes by. The thread raises as soon as it has the
lock again, so it cannot have gone on meanwhile. The exception's class says when it is made, which
the thread does itself: until then it has not heard.

What remains: code in C that does not return, `time.sleep` above all, hears nothing before it does.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import trio

from .user_code import call_unprotected, is_machinery, is_ours

__all__ = ["raise_in_thread"]

_STEP = "unrolled_run"  # what of Trio steps the tasks of a loop


def raise_in_thread(
    ident: int,
    kind: type[BaseException],
    heard: Callable[[], object],
    *,
    hard: bool = False,
    tasks: bool = True,
) -> bool:
    """Have the user's code in a thread raise a ``kind``, unless it runs no such code now; whether
    it will. ``heard`` is called in that thread as it raises. A finalizer is hit only if ``hard``,
    a task that does not begin with code of ours only if ``tasks``: it may be a host's.
    """
    made = _class_of(kind, heard)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    number, value = ctypes.c_ulong(ident), ctypes.py_object(made)
    frame = sys._current_frames().get(ident)
    if frame is None or not _is_users(frame, hard, tasks):
        return False
    if sys._current_frames().get(ident) is not frame:  # the lock was lost while it was looked at
        return False
    set_exception(number, value)
    return True


def _is_users(frame: FrameType | None, hard: bool, tasks: bool) -> bool:
    """Whether that frame is not protected: by the first one that is marked, or by whose task it is.

    As Trio does it for the main thread, but for tasks: they inherit that, and only those that the
    user's code has started begin with code that is not ours.
    """
    marked = _marks()
    while frame is not None:
        code = frame.f_code
        is_of_kernel = is_ours(code.co_filename)
        if code.co_name == _STEP and is_machinery(code.co_filename) and not is_of_kernel:
            return tasks
        with suppress(KeyError):
            return not marked[code]
        if is_of_kernel and not marked:
            return code is call_unprotected.__code__
        if code.co_name == "__del__" and not hard:
            return False
        frame = frame.f_back
    return False


def _marks() -> Any:
    """Which code is protected, and which is not; without that nothing of ours is hit."""
    try:
        return trio._core._ki._CODE_KI_PROTECTION_STATUS_WMAP
    except AttributeError:
        return {}


def _class_of(kind: type[BaseException], heard: Callable[[], object]) -> type[BaseException]:
    """A class of the same name, which tells when it is raised."""

    def __init__(self: BaseException, *args: object) -> None:
        BaseException.__init__(self, *args)
        heard()

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__init__": __init__})
