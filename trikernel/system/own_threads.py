"""Threads of ours, which a debugger neither stops nor shows.

A debugger stops every thread when one of them is at a breakpoint. What keeps a kernel reachable has
to go on then, so each thread that is not the user's is marked, by the attributes that pydevd looks
for. A worker thread of Trio's is anybody's, and cannot be marked: what the service loop has done
beside itself is done in `run_beside`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

from .loops import run_in

__all__ = ["mark_untraced", "run_beside"]

T = TypeVar("T")


def mark_untraced(thread: threading.Thread) -> threading.Thread:
    """The same thread, which debuggers leave alone."""
    vars(thread).update(pydev_do_not_trace=True, is_pydev_daemon_thread=True)
    return thread


async def run_beside(function: Callable[[], T], name: str) -> T:
    """Call a function in a thread of its own, that debuggers leave alone; its result, or what it
    raised. Cancelled, the wait ends, and the function goes on.
    """
    done, token = trio.Event(), trio.lowlevel.current_trio_token()
    results: list[outcome.Outcome[T]] = []

    def call() -> None:
        results.append(outcome.capture(function))
        run_in(token, done.set)

    mark_untraced(threading.Thread(target=call, name=name, daemon=True)).start()
    await done.wait()
    return results[0].unwrap()
