"""Calling the user's code, nurseries that it may break, and tasks that outlive their cell.

All code of this package runs protected: a `KeyboardInterrupt` is never raised inside it. Verbs,
cells, comm handlers and event loops are called by `call_unprotected` and `await_unprotected`, in
whose frames it may be raised. Whether code is ours or the user's is told by the file that it is in
(`is_ours`, `is_machinery`).

A *boundary* is a place that catches whatever the user's code raises: `ShellLane.run_handler` for
requests, and others for scheduled calls, background tasks, user nurseries, event loops,
``do_shutdown``, cells and so on. Each of them lets a cancel from outside pass, by `raise_cancel` or
`is_cancel`.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import os
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import CoroutineType, FrameType, TracebackType
from typing import Any, TypeVar

import outcome
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ..errors import CellStopped
from ..system import exit_forked, runs_here
from ..wire import json
from .request import background_scope

__all__ = [
    "MACHINERY",
    "BackgroundNursery",
    "OutermostScope",
    "UserNursery",
    "await_unprotected",
    "call_unprotected",
    "holds_cancel",
    "in_finalizer",
    "is_cancel",
    "is_machinery",
    "is_ours",
    "raise_cancel",
    "run_unprotected",
    "unwrap_interrupt",
]

T = TypeVar("T")
Report = Callable[[BaseException], object]

_OURS = str(Path(__file__).parent.parent) + os.sep
MACHINERY = (_OURS, *(str(Path(inspect.getfile(one)).parent) + os.sep for one in (trio, outcome)))
"""The folders of our own code and of Trio's."""


_step = object  # for a call that does nothing: `object()` is the fastest one

json.mark_users_code(disable_ki_protection)  # a ``__repr__`` in a display's data, for example


# Whose code it is


def is_ours(filename: str) -> bool:
    """Whether that file is part of this package."""
    return filename.startswith(_OURS)


def is_machinery(filename: str) -> bool:
    """Whether code of that file is ours or Trio's, not the user's."""
    return filename.startswith(MACHINERY)


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether the user's code in that frame runs in a ``__del__``, which Trio protects."""
    while frame is not None and not is_machinery(frame.f_code.co_filename):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


# Calls across the line


@disable_ki_protection
def call_unprotected(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call the user's function; `KeyboardInterrupt` may be raised in it."""
    __tracebackhide__ = True  # from a debugger's stack
    return function(*args, **kwargs)


@disable_ki_protection
async def await_unprotected(awaitable: Awaitable[T]) -> T:
    """Await the user's coroutine; `KeyboardInterrupt` may be raised in it."""
    __tracebackhide__ = True
    result = await awaitable
    _step()  # at this call Python raises what `thread_stop` has asked for, if not before
    return result


async def run_unprotected(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that may be plain or async, and await what it returns."""
    result = call_unprotected(function, *args, **kwargs)
    if isinstance(result, CoroutineType) or inspect.isawaitable(result):
        return await await_unprotected(result)
    return result


# What every boundary does with what the user's code raises


def is_cancel(raised: BaseException) -> bool:
    """Whether this has to pass through every boundary: a cancel from outside, alone or in a group.

    A `trio.Cancelled` while this task is not being cancelled is one that the user's code has caught
    elsewhere and raised again here: an error like any other. A `GeneratorExit` outside of a task
    means that this coroutine is being closed, because its loop is gone.
    """
    if isinstance(raised, GeneratorExit) and not trio.lowlevel.in_trio_task():
        return True
    if trio.current_effective_deadline() != -math.inf:
        return False
    return holds_cancel(raised)


def holds_cancel(raised: BaseException) -> bool:
    """Whether it is a `trio.Cancelled`, or a group with one, of whatever scope."""
    if isinstance(raised, BaseExceptionGroup):
        return raised.subgroup(trio.Cancelled) is not None
    return isinstance(raised, trio.Cancelled)


def raise_cancel(raised: BaseException, report: Report) -> None:
    """Raise the cancel from outside that is in ``raised``; do nothing if there is none.

    ``report`` is called with what the user's code raised beside the cancel, as it cleaned up.
    """
    if not is_cancel(raised):
        return
    if not isinstance(raised, BaseExceptionGroup):
        raise raised
    cancelled, rest = raised.split(trio.Cancelled)
    assert cancelled is not None
    if rest is not None:
        report(unwrap_interrupt(rest))
    raise cancelled


def unwrap_interrupt(error: BaseException) -> BaseException:
    """`KeyboardInterrupt` for a group of nothing else and for `CellStopped`; else the error."""
    if isinstance(error, CellStopped):
        return KeyboardInterrupt().with_traceback(error.__traceback__)
    if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is None:
        return KeyboardInterrupt()
    return error


# Nurseries


class OutermostScope:
    """The scope around all tasks of a kernel in one loop. This package never cancels it.

    With ``is_ours``, that is when the loop is the kernel's own, a cancel from further outside means
    that Trio itself ends, because a system task of the user's has crashed it. `is_lost` tells that
    while the kernel's tasks are still being cancelled.
    """

    def __init__(self, *, is_ours: bool) -> None:
        self._is_ours = is_ours
        self._scope = trio.CancelScope()

    @property
    def is_lost(self) -> bool:
        """Whether Trio ends the loop, which is the kernel's own."""
        return self._is_ours and self.is_ended_from_outside

    @property
    def is_ended_from_outside(self) -> bool:
        """Whether all tasks of the kernel are cancelled: by a host program, or as Trio ends."""
        status = getattr(self._scope, "_cancel_status", None)
        return bool(getattr(status, "effectively_cancelled", False))

    def __enter__(self) -> OutermostScope:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._scope.__exit__(exc_type, exc, traceback)


class UserNursery:
    """A nursery that opens again when the user's code has broken or cancelled it: that ends the
    tasks that are in it, and no others.

    Code that leaves a nursery open (by calling ``__aenter__`` itself, or in an async generator that
    it does not finish) breaks the nursery that its task runs in, and so does code that cancels its
    parent's scope. That must not reach the kernel's own tasks. ``ended_with_it`` names background
    tasks that ended because the present nursery did.
    """

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._pending: deque[Callable[[], None]] = deque()
        self._starters = trio.lowlevel.ParkingLot()
        self.ended_with_it: list[str] = []

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that run in it."""
        return self._nursery.child_tasks if self._nursery is not None else frozenset()

    def is_nursery(self, nursery: trio.Nursery | None) -> bool:
        """Whether that is the Trio nursery behind it at present."""
        return nursery is not None and nursery is self._nursery

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope of the present tasks. Tasks that start after it was cancelled have another."""
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
        """As `trio.Nursery.start`. Raises `RuntimeError` in another loop than its own, in a nested
        `trio.run` for example: it would wait for a loop that stands still meanwhile.
        """
        if self._token is not None and not runs_here(self._token):
            raise RuntimeError(
                "start() waits for the kernel's loop, which stands still in a nested run: "
                "use start_soon()"
            )
        while not self._is_open():
            await self._starters.park()
        assert self._nursery is not None
        return await self._nursery.start(async_fn, *args, name=name)

    @enable_ki_protection
    async def run(
        self,
        report: Report,
        on_open: Callable[[trio.Nursery], object] = lambda nursery: None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep it open until cancelled from outside. ``report`` is called with each exception that
        broke it, ``on_open`` with each Trio nursery that it opens.
        """
        self._token = trio.lowlevel.current_trio_token()
        while True:
            try:
                async with trio.open_nursery() as self._nursery:
                    self.ended_with_it = []
                    on_open(self._nursery)
                    while self._pending:
                        self._pending.popleft()()
                    self._starters.unpark_all()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await trio.sleep_forever()
            except BaseException as raised:  # `raise_cancel` lets a cancel from outside go on
                raise_cancel(raised, report)
                report(raised)

    def _is_open(self) -> bool:
        return self._nursery is not None and not self._nursery.cancel_scope.cancel_called


class BackgroundNursery:
    """For tasks that outlive the cell that started them; a crash of one does not end the others.

    Used like a Trio nursery: `start_soon`, `start`, `child_tasks`, `cancel_scope`. A crash is
    reported under the cell that started the task; its siblings, the running cell and the kernel go
    on. When the kernel ends, the tasks are cancelled and clean up.
    """

    def __init__(self, nursery: UserNursery, report: Report) -> None:
        self._nursery = nursery
        self._report = report

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that run in it."""
        return self._nursery.child_tasks

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope of the present background tasks. Later ones may have another one."""
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
        process = os.getpid()
        with trio.CancelScope() as scope:
            background_scope.set(scope)
            try:
                await run_unprotected(async_fn, *args)
                if os.getpid() != process:
                    exit_forked()
            except BaseException as raised:  # `raise_cancel` lets a cancel from outside go on
                if os.getpid() != process:
                    exit_forked(raised)
                self._note_end(scope)
                raise_cancel(raised, self._report)
                self._report(unwrap_interrupt(raised))

    @enable_ki_protection
    async def _start(
        self,
        async_fn: Callable[..., Awaitable[object]],
        args: Any,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        status, process = _Status(task_status), os.getpid()
        with trio.CancelScope() as scope:
            background_scope.set(scope)
            try:
                await run_unprotected(partial(async_fn, *args, task_status=status))
                if os.getpid() != process:
                    exit_forked()
            except BaseException as raised:
                if os.getpid() != process:
                    exit_forked(raised)
                if not status.is_started:
                    raise
                self._note_end(scope)
                raise_cancel(raised, self._report)
                self._report(unwrap_interrupt(raised))

    def _note_end(self, scope: trio.CancelScope) -> None:
        """Name the calling task if the nursery's end is what ends it."""
        if not scope.cancel_called and trio.current_effective_deadline() == -math.inf:
            self._nursery.ended_with_it.append(trio.lowlevel.current_task().name)


def _check_function(async_fn: object) -> None:
    """Raise `TypeError` at the call for what would else fail later, in the background."""
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
