"""Calls that a test must await, and whether it did.

A coroutine that nobody awaits does nothing, and a check that does nothing passes. Python says so in
a warning when it finds the coroutine among the garbage; a test should fail.
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
        """The same coroutine, to be awaited by the caller of the method that calls this.

        ``call`` says in a failure what was not awaited.
        """
        self._forget_begun()
        frame = inspect.currentframe()
        while frame is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back
        where = "" if frame is None else _place(frame.f_code.co_filename, frame.f_lineno)
        self._made[coroutine] = f"{where}{call} was not awaited, so it has done nothing"
        return coroutine

    def pop(self) -> list[BaseException]:
        """An `AssertionError` for each call that was not awaited until now."""
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
