"""A nursery that opens again: cancelled or broken by the user's code, it ends those tasks only.

Code that leaves a nursery open (by calling ``__aenter__`` itself, or in an async generator that
it does not finish) breaks the nursery that its task runs in, and so does one that cancels its
parent's scope. That must not reach the kernel's own tasks.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .boundary import raise_cancel

__all__ = ["ReopeningNursery"]


class ReopeningNursery:
    """Tasks of the user's code. ``report`` gets what broke it."""

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._nursery: trio.Nursery | None = None
        self._pending: deque[Callable[[], None]] = deque()
        self._starters = trio.lowlevel.ParkingLot()

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that run in it."""
        return self._nursery.child_tasks if self._nursery is not None else frozenset()

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope of the tasks of now. Tasks that are started later have another one."""
        assert self._nursery is not None
        return self._nursery.cancel_scope

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None
    ) -> None:
        """Start a task, in the caller's context; at once, or when it has opened again."""
        if self._is_open():
            assert self._nursery is not None
            self._nursery.start_soon(async_fn, *args, name=name)
            return
        context = contextvars.copy_context()
        start = partial(self.start_soon, async_fn, *args, name=name)
        self._pending.append(partial(context.run, start))

    async def start(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None
    ) -> Any:
        """As `trio.Nursery.start`."""
        while not self._is_open():
            await self._starters.park()
        assert self._nursery is not None
        return await self._nursery.start(async_fn, *args, name=name)

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it open until cancelled from outside."""
        while True:
            try:
                async with trio.open_nursery() as self._nursery:
                    while self._pending:
                        self._pending.popleft()()
                    self._starters.unpark_all()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await trio.sleep_forever()
            except BaseException as raised:
                raise_cancel(raised, self._report)
                self._report(raised)

    def _is_open(self) -> bool:
        return self._nursery is not None and not self._nursery.cancel_scope.cancel_called
