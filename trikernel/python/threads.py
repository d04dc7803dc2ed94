"""Threads keep the cell that started them: their output appears under it.

`threading.Thread.start` and `ThreadPoolExecutor.submit` carry one context variable along, the
current request; everything else of a thread's context stays as Python has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..core import Request, current_request

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
            request = current_request.get()
            if request is not None:
                thread.run = _carrying(request, thread.run)  # type: ignore[method-assign]
            original_start(thread)

        def submit(
            self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            request = current_request.get()
            if request is not None:
                fn = _carrying(request, fn)
            return original_submit(self, fn, *args, **kwargs)

        threading.Thread.start = start  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]

    def restore(self) -> None:
        """Put both back."""
        threading.Thread.start = self._start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _carrying(request: Request, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = current_request.set(request)
        try:
            return function(*args, **kwargs)
        finally:
            current_request.reset(token)

    return run
