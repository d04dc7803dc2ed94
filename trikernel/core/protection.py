"""Calls across the line between our code and the user's.

Everything of ours runs protected: a `KeyboardInterrupt` is never raised inside it. Verbs,
cells, comm handlers and event loops are called through these frames, in which it may be.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, TypeVar

import trio
from trio.lowlevel import disable_ki_protection

__all__ = ["await_unprotected", "call_unprotected", "in_finalizer", "run_unprotected"]

T = TypeVar("T")
_MACHINERY = tuple(
    os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), trio.__file__)
)


@disable_ki_protection
def call_unprotected(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call the user's function; `KeyboardInterrupt` may be raised in it."""
    return function(*args, **kwargs)


@disable_ki_protection
async def await_unprotected(awaitable: Awaitable[T]) -> T:
    """Await the user's coroutine; `KeyboardInterrupt` may be raised in it."""
    return await awaitable


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether the user's code in that frame runs in a ``__del__``, which Trio protects."""
    if frame is None or frame.f_code.co_filename.startswith(_MACHINERY):
        return False
    while frame is not None and not frame.f_code.co_filename.startswith(_MACHINERY):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


async def run_unprotected(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that may be plain or async, and await what it returns."""
    result = call_unprotected(function, *args, **kwargs)
    if inspect.isawaitable(result):
        return await await_unprotected(result)
    return result
