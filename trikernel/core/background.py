"""Tasks that outlive the cell that started them, and do not fall when one of them does.

A crash is reported under the cell that started the task; its siblings, the running cell and the
kernel go on. When the kernel ends, the tasks are cancelled and clean up.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from ..system import exit_if_forked, fork_count
from .application import Application
from .boundary import collapse, raise_cancel
from .protection import run_unprotected
from .reopening import ReopeningNursery
from .request import background_scope

__all__ = ["BackgroundNursery"]

T = TypeVar("T")


class BackgroundNursery:
    """Used like a Trio nursery: `start_soon`, `start`, `child_tasks`, `cancel_scope`."""

    def __init__(self, application: Application, nursery: ReopeningNursery) -> None:
        self._application = application
        self._nursery = nursery

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that run in it."""
        return self._nursery.child_tasks

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope of the background tasks of now; those of later have another one."""
        return self._nursery.cancel_scope

    def __repr__(self) -> str:
        return f"<background nursery: {len(self.child_tasks)} tasks, which %tasks shows>"

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None
    ) -> None:
        """Start a task, as `trio.Nursery.start_soon` does; what it raises is reported."""
        _check_function(async_fn)
        self._nursery.start_soon(self._run, async_fn, args, name=name or async_fn)

    async def start(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None
    ) -> Any:
        """Start a task and wait for ``task_status.started()``, as `trio.Nursery.start` does.

        What it raises before that is raised here, what it raises later is reported.
        """
        _check_function(async_fn)
        return await self._nursery.start(self._start, async_fn, args, name=name or async_fn)

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager that stays open until the kernel ends.

        It is entered and exited in a task of its own. Returns what it yields.
        """

        async def hold(*, task_status: trio.TaskStatus[T]) -> None:
            async with manager as value:
                task_status.started(value)
                await trio.sleep_forever()

        generator = getattr(manager, "gen", None)  # of a contextlib.asynccontextmanager
        name = getattr(generator, "__qualname__", type(manager).__qualname__)
        value: T = await self.start(hold, name=f"enter {name}")
        return value

    @enable_ki_protection
    async def _run(self, async_fn: Callable[..., Awaitable[object]], args: Any) -> None:
        generation = fork_count()
        with trio.CancelScope() as scope:
            background_scope.set(scope)
            try:
                await run_unprotected(async_fn, *args)
                exit_if_forked(generation)
            except BaseException as raised:
                exit_if_forked(generation, raised)
                raise_cancel(raised, self._application.report_background_error)
                self._application.report_background_error(collapse(raised))

    @enable_ki_protection
    async def _start(
        self,
        async_fn: Callable[..., Awaitable[object]],
        args: Any,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        status, generation = _Status(task_status), fork_count()
        with trio.CancelScope() as scope:
            background_scope.set(scope)
            try:
                await run_unprotected(partial(async_fn, *args, task_status=status))
                exit_if_forked(generation)
            except BaseException as raised:
                exit_if_forked(generation, raised)
                if not status.is_started:
                    raise
                raise_cancel(raised, self._application.report_background_error)
                self._application.report_background_error(collapse(raised))


def _check_function(async_fn: object) -> None:
    """Find at the call what would be found too late, in the background."""
    if callable(async_fn):
        return
    if inspect.iscoroutine(async_fn):
        async_fn.close()
        name = async_fn.__name__
        raise TypeError(
            f"a nursery starts an async function and was given a coroutine: "
            f"write start_soon({name}, ...), not start_soon({name}(...))"
        )
    raise TypeError(f"a nursery starts an async function, not {async_fn!r}")


class _Status:
    """Remembers whether a task has said that it started."""

    def __init__(self, status: trio.TaskStatus[Any]) -> None:
        self._status = status
        self.is_started = False

    def started(self, value: Any = None) -> None:
        """What the task calls."""
        self.is_started = True
        self._status.started(value)
