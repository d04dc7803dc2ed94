"""Threads of this package, which a debugger neither stops nor shows.

A debugger stops every thread when one of them is at a breakpoint. The threads that answer messages
have to go on then, so each of ours is marked by the attributes that pydevd looks for. A worker
thread of Trio's cannot be marked, because the user's code may get the same one next. So the
service loop calls `run_in_own_thread` instead of `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

from .loops import run_in

__all__ = ["mark_untraced", "run_in_own_thread"]

T = TypeVar("T")


def mark_untraced(thread: threading.Thread) -> threading.Thread:
    """Have debuggers leave a thread alone; returns it."""
    vars(thread).update(pydev_do_not_trace=True, is_pydev_daemon_thread=True)
    return thread


async def run_in_own_thread(function: Callable[[], T], name: str) -> T:
    """Call a function in a new thread that debuggers leave alone; returns and raises what it does.

    Cancelled, the wait ends, and the function goes on.
    """
    done, token = trio.Event(), trio.lowlevel.current_trio_token()
    results: list[outcome.Outcome[T]] = []

    def call() -> None:
        results.append(outcome.capture(function))
        run_in(token, done.set)

    mark_untraced(threading.Thread(target=call, name=name, daemon=True)).start()
    await done.wait()
    return results[0].unwrap()
