"""Threads keep the cell that started them: their output appears under it.

`threading.Thread.start` and `ThreadPoolExecutor.submit` carry along whose output it is, the
current request and a ``%%capture``; everything else of a thread's context stays as Python has it.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from ..core import current_request
from .capture import current_capture

__all__ = ["ThreadPatches"]


class ThreadPatches:
    """Both functions, replaced by `install` and put back by `restore`."""

    def __init__(self) -> None:
        self._start = threading.Thread.start
        self._submit = ThreadPoolExecutor.submit

    def install(self) -> None:
        """Have threads carry their request."""
        original_start, original_submit = threading.Thread.start, ThreadPoolExecutor.submit
        self._start, self._submit = original_start, original_submit

        def start(thread: threading.Thread) -> None:
            if current_request.get() is not None:
                _carry(thread)
            original_start(thread)

        def submit(
            self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            if current_request.get() is not None:
                fn = _carrying(fn)
            return original_submit(self, fn, *args, **kwargs)

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]

    def restore(self) -> None:
        """Put both back."""
        threading.Thread.start = self._start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _carry(thread: threading.Thread) -> None:
    """Have a thread run with the two variables set, and no frame of ours in its tracebacks."""
    context = getattr(thread, "_context", None)  # Python 3.14: what the program has chosen for it
    if context is None:
        inherits = getattr(sys.flags, "thread_inherit_context", False)
        context = contextvars.copy_context() if inherits else contextvars.Context()
        thread.run = partial(context.run, thread.run)  # type: ignore[method-assign]
    with suppress(RuntimeError):  # the context is in use, by this very code perhaps
        context.run(current_request.set, current_request.get())
        context.run(current_capture.set, current_capture.get())


def _carrying(function: Callable[..., Any]) -> Callable[..., Any]:
    request, capture = current_request.get(), current_capture.get()

    def run(*args: Any, **kwargs: Any) -> Any:
        tokens = current_request.set(request), current_capture.set(capture)
        try:
            return function(*args, **kwargs)
        finally:
            current_request.reset(tokens[0])
            current_capture.reset(tokens[1])

    return run
