"""The nursery that an async context manager hides inside, for what serves its body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

__all__ = ["open_service_nursery"]


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks serve the body: they end when it has ended, and not before.

    A cancel from outside reaches the body only. So while the body cleans up (interrupts its
    kernel, say, and waits for the cell's end) its tasks still receive. Who writes ``async with
    open_kernel() as client`` sees no nursery, and should see no `ExceptionGroup` around what the
    body raises: a single error comes out as it is. A task that crashes cancels the body.
    """
    with _without_group():
        async with trio.open_nursery() as outer:
            host = _Host()
            outer.start_soon(host.run)
            try:
                with trio.CancelScope(shield=True):  # for as long as a task needs to begin
                    await host.ready.wait()
                yield host.nursery
            finally:
                host.scope.cancel()


class _Host:
    """Holds the nursery open, out of the reach of cancels from outside."""

    nursery: trio.Nursery

    def __init__(self) -> None:
        self.scope = trio.CancelScope(shield=True)
        self.ready = trio.Event()

    async def run(self) -> None:
        with _without_group(), self.scope:
            async with trio.open_nursery() as self.nursery:
                self.ready.set()
                await trio.sleep_forever()


@contextmanager
def _without_group() -> Iterator[None]:
    """Raise the one error of a group itself; several stay a group.

    A `trio.Cancelled` beside it goes: the error takes its place, as one raised while cleaning up
    always does.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = [one for one in group.exceptions if not isinstance(one, trio.Cancelled)]
        if len(errors) > 1:
            raise
        error = errors[0] if errors else group.exceptions[0]
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # without the group
