"""Finds calls that a test should have awaited and has not.

A coroutine that is not awaited does nothing, so the check in it would seem to pass. Python only
warns, when the coroutine is garbage-collected; here the test fails.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["ForgottenAwaits"]

T = TypeVar("T")


class ForgottenAwaits:
    """Holds the coroutines of calls until they have begun to run."""

    def __init__(self) -> None:
        self._made: dict[Coroutine[Any, Any, Any], str] = {}

    def watch(self, call: str, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Returns the same coroutine. ``call`` is the text that names the call in a failure."""
        self._forget_begun()
        frame = inspect.currentframe()
        while frame is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back
        where = "" if frame is None else _place(frame.f_code.co_filename, frame.f_lineno)
        self._made[coroutine] = f"{where}{call} was not awaited, so it has done nothing"
        return coroutine

    def pop(self) -> list[BaseException]:
        """Return an `AssertionError` for each call that was not awaited until now, and close its
        coroutine.
        """
        self._forget_begun()
        made, self._made = self._made, {}
        for coroutine in made:
            coroutine.close()
        return [AssertionError(text) for text in made.values()]

    def _forget_begun(self) -> None:
        for coroutine in tuple(self._made):
            if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                del self._made[coroutine]


def _place(path: str, line: int) -> str:
    return f"{os.path.basename(path)}:{line}: "
