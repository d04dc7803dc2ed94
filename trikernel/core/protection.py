"""Calls across the line between our code and the user's.

Everything of ours runs protected: a `KeyboardInterrupt` is never raised inside it. Verbs,
cells, comm handlers and event loops are called through these frames, in which it may be.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, TypeVar

from trio.lowlevel import disable_ki_protection

__all__ = ["await_unprotected", "call_unprotected", "run_unprotected"]

T = TypeVar("T")


@disable_ki_protection
def call_unprotected(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call the user's function; `KeyboardInterrupt` may be raised in it."""
    __tracebackhide__ = True  # from a debugger's stack
    return function(*args, **kwargs)


@disable_ki_protection
async def await_unprotected(awaitable: Awaitable[T]) -> T:
    """Await the user's coroutine; `KeyboardInterrupt` may be raised in it."""
    __tracebackhide__ = True
    return await awaitable


async def run_unprotected(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that may be plain or async, and await what it returns."""
    result = call_unprotected(function, *args, **kwargs)
    if isinstance(result, CoroutineType) or inspect.isawaitable(result):
        return await await_unprotected(result)
    return result
