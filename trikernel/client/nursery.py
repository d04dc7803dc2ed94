"""A nursery that an async context manager hides inside: errors come out as they were raised."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["open_hidden_nursery"]


@asynccontextmanager
async def open_hidden_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled when the body ends, and adds no group to a single error.

    Who writes ``async with open_kernel() as client`` sees no nursery, and so should see no
    `ExceptionGroup` around what the body raises. Several errors still come as a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
        return
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
    raise error  # outside of the except clause, so that the group is not its context
