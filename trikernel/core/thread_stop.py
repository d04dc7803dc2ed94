"""Raising in the user's code that another thread executes, which no signal handler reaches.

What is wanted: a subshell's cell that computes is stopped as one of the main shell is, and the
kernel's own code in that thread is not hit.

What does not work: a signal, because Python runs handlers in the main thread only. To raise in a
thread without looking at what it executes, because that may be Trio, or the lane.

What is done: by ``PyThreadState_SetAsyncExc`` Python raises an exception in another thread at its
next step. The caller holds the interpreter lock, so it can look first where that thread stands, and
whether an interrupt might be raised there if it were the main thread, by the marks that Trio uses.
The thread raises as soon as it gets the lock, so it cannot have gone on meanwhile. It makes the
instance of the exception's class itself, and the class's ``__init__`` tells that: only then the
stop counts as delivered.

A loop that the user's code runs there, of Trio's or asyncio's, is asked to raise it: so a loop that
waits is woken, and what a loop does between two steps is not cut in two.

What remains: C code that does not return, `time.sleep` above all, notices nothing before it does.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import CodeType, FrameType
from typing import Any

import trio
from trio.lowlevel import disable_ki_protection

from ..system import interrupt_nested_run, nested_token, run_in
from .schedulers import Scheduler
from .user_code import call_unprotected, is_machinery, is_ours

__all__ = ["raise_in_thread"]

_STEP = "unrolled_run"  # what of Trio steps the tasks of a loop


def raise_in_thread(
    ident: int,
    kind: type[BaseException],
    heard: Callable[[], bool | None],
    *,
    finalizers: bool = False,
    tasks: bool = True,
    waits: bool = True,
) -> bool:
    """Have the user's code in a thread raise a ``kind``; False if the thread runs no such code now,
    or if a loop that it runs was asked to raise it.

    ``heard`` is called in that thread as it raises; it may return False for a stop that is over. In
    a finalizer it is raised only with ``finalizers``, in a task that does not begin with code of
    ours, and so may be a host's, only with ``tasks``. In a nested Trio loop that waits, the main
    task raises it. With ``waits`` nothing is raised while a scheduler is at work.
    """
    made = _class_of(kind, heard)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    number, value = ctypes.c_ulong(ident), ctypes.py_object(made)
    frame = sys._current_frames().get(ident)
    if frame is None or not _is_users(frame, finalizers, tasks):
        token = nested_token(ident)
        if token is not None:
            run_in(token, partial(_raise_nested, kind, heard))
        return False
    scheduler = Scheduler.at(frame) if waits else None
    if sys._current_frames().get(ident) is not frame:  # the lock was lost while it was looked at
        return False
    if scheduler is not None:
        scheduler.have_called(partial(_raise, kind, heard))
        return False
    set_exception(number, value)
    return True


@disable_ki_protection
def _raise(kind: type[BaseException], heard: Callable[[], bool | None]) -> None:
    if heard() is not False:
        raise kind


def _raise_nested(kind: type[BaseException], heard: Callable[[], bool | None]) -> None:
    """In a nested Trio loop, which turns: raise it where the main task of that loop waits."""
    if heard() is not False:
        interrupt_nested_run(kind())


def _is_users(frame: FrameType | None, finalizers: bool, tasks: bool) -> bool:
    """Whether a frame is unprotected: as the innermost marked one around it says, else its task.

    Trio does the same for the main thread. Tasks without a mark inherit it there; here those that
    do not begin with code of ours count as the user's.
    """
    marked, outermost = _marks(), None
    while frame is not None:
        code = frame.f_code
        is_of_kernel = is_ours(code.co_filename)
        if code.co_name == _STEP and is_machinery(code.co_filename) and not is_of_kernel:
            return tasks and _is_users_task(outermost)
        with suppress(KeyError):
            return not marked[code]
        if is_of_kernel and not marked:
            return code is call_unprotected.__code__
        if code.co_name == "__del__" and (not finalizers or is_machinery(code.co_filename)):
            return False
        outermost, frame = code, frame.f_back
    return False


def _is_users_task(code: CodeType | None) -> bool:
    """Whether what a Trio loop has called is the coroutine of a user's task. It may be a task of
    Trio's own, or no task, but what the loop does between two steps.
    """
    if code is None or is_machinery(code.co_filename):
        return False
    return bool(code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE))


def _marks() -> Any:
    """Trio's marks: which code is protected, and which is not. Empty in a Trio without them."""
    try:
        return trio._core._ki._CODE_KI_PROTECTION_STATUS_WMAP
    except AttributeError:
        return {}


def _class_of(kind: type[BaseException], heard: Callable[[], bool | None]) -> type[BaseException]:
    """A class of the same name, which tells when it is raised."""

    def __init__(self: BaseException, *args: object) -> None:
        BaseException.__init__(self, *args)
        heard()

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__init__": __init__})
