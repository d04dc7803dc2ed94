"""Blocking waits in a thread that runs the user's code: where they may be, and for a lock."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import trio
from trio.lowlevel import currently_ki_protected, enable_ki_protection

__all__ = ["may_wait_here", "wait_until_free"]


@enable_ki_protection
def wait_until_free(lock: Any, seconds: float) -> None:
    """Wait until a lock is free, for ``seconds`` at most. Protected, because an interrupt between
    the two calls would leave the lock taken.
    """
    if lock.acquire(timeout=seconds):
        lock.release()


def may_wait_here() -> bool:
    """Whether the calling code may wait: in a task only unprotected code, in another thread all but
    finalizers, because the code that they interrupt may hold a lock.
    """
    if trio.lowlevel.in_trio_task() or threading.current_thread() is threading.main_thread():
        return not currently_ki_protected()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return False
        frame = frame.f_back
    return True
