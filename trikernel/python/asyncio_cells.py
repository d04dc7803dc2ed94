"""Cells that run in asyncio: ``%autoawait asyncio``, ``%%asyncio`` and `trikernel.notebook.aio`.

Each Trio loop that runs cells (the main shell's, and one for each subshell) has its own asyncio
loop, which is created when it is first needed. That loop is a guest of the Trio loop
(`loops.cell_loop`): it goes on while the kernel is idle and while cells await, whatever they await.
A statement of an asyncio cell is an asyncio task whose steps run in the cell's own Trio task. So it
may await both, and is interrupted, cancelled and given deadlines as any cell.

For why it is done this way, see the discussion page "asyncio cells".
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import CodeType
from typing import Any

import trio
from trio.lowlevel import RunVar, enable_ki_protection

from ..core import Stopper, await_unprotected, call_unprotected, current_request, current_subshell
from ..errors import UsageError
from ..loops import CellLoop, in_asyncio_task
from ..system import runs_here
from ..timeline import OtherTask
from .asyncio_runs import with_asyncio_runs
from .cell_run import run_statement

__all__ = ["AsyncioCells"]

_CLOSED = (
    "\x1b[2mthe asyncio loop was closed by a cell; this one gets a new one, "
    "and what ran in the old one has ended\x1b[0m\n"
)


class AsyncioCells:
    """The asyncio loops of one kernel. ``find`` returns the kernel."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._is_known = False
        self._here: RunVar[CellLoop | None] = RunVar("trikernel: the asyncio loop of cells", None)

    @property
    def existing(self) -> CellLoop | None:
        """The asyncio loop of the calling Trio loop, if there is one that is not closed."""
        loop = self._here.get()
        return loop if loop is not None and not loop.is_closed() else None

    @property
    def loop(self) -> CellLoop:
        """The asyncio loop of the calling Trio loop; a new one if there is none, or it was closed.

        Raises `UsageError` in a `trio.run` within a cell, where the kernel's loops stand still.
        """
        loop = self._here.get()
        if loop is not None and not loop.is_closed():
            return loop
        kernel, subshell, request = self._find(), current_subshell.get(), current_request.get()
        server = kernel.server
        token = server.user_token if subshell is None else subshell.lane.token
        if not runs_here(token):
            raise UsageError(
                "the kernel's asyncio loop stands still in a trio.run: use asyncio.run(...) here"
            )
        if loop is not None and request is not None:
            loop.end()
            server.connection.iopub.tell(request, _CLOSED)
        new = CellLoop(server.application.report_background_error, kernel.shutdown_grace)
        background: Any = (server if subshell is None else subshell).background
        start = partial(background.start_soon, name="the asyncio loop")
        new.bind(partial(_outside_of_cells, start), kernel.nursery.start_soon)
        new.interrupt_again = partial(_interrupt_unless_told, server.stopper_here)
        server.application.at_end.callback(new.end)
        self._here.set(new)
        if not self._is_known:
            self._is_known = True
            with_asyncio_runs.add(kernel)
            server.application.at_end.callback(with_asyncio_runs.remove, kernel)
        if kernel.owns_process and threading.current_thread() is threading.main_thread():
            asyncio.set_event_loop(new)
            if loop is None:  # the first one; asyncio.run clears the current loop: set it again
                kernel.shell.events.register("post_execute", self._be_current)
        return new

    def tasks(self) -> list[OtherTask]:
        """The tasks of the asyncio loop of the calling Trio loop, for ``%tasks``."""
        loop = self.existing
        return [_as_other(loop, task) for task in loop.living()] if loop is not None else []

    def _be_current(self) -> None:
        loop = self.existing if trio.lowlevel.in_trio_run() else None
        if loop is not None and threading.current_thread() is threading.main_thread():
            loop.be_current()

    # What runs in the asyncio loop

    @enable_ki_protection
    async def run(self, what: Any, *args: Any) -> Any:
        """Await ``what`` in asyncio; if it is a function, call it and await what it returns.

        Returns the result. What is awaited may also await Trio. If the caller is cancelled, it is
        cancelled too, and the call waits until it has ended. Called in an asyncio task, of any
        loop, it is awaited in that task.
        """
        if in_asyncio_task():
            if not inspect.isawaitable(what):
                what = call_unprotected(what, *args)
            return await await_unprotected(what) if inspect.isawaitable(what) else what
        loop = self.loop
        if not inspect.isawaitable(what):
            what = loop.call_in_step(what, *args)
        if inspect.isawaitable(what):
            return await loop.run(what)
        loop.keep_turning()
        return what

    @enable_ki_protection
    async def run_after_checkpoint(self, what: Any, *args: Any) -> Any:
        """The same, and a checkpoint of Trio's unless it is called in an asyncio task: a loop that
        does it again and again keeps nobody from running, and can be interrupted.
        """
        if not in_asyncio_task():
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                if inspect.iscoroutine(what):
                    what.close()  # else Python warns that it was never awaited
                elif asyncio.isfuture(what):
                    what.cancel()
                raise
        return await self.run(what, *args)

    @enable_ki_protection
    async def call_handler(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Call a comm's handler, plain or async, while this asyncio loop is the running one."""
        return await self.run(handler, *args)

    @enable_ki_protection
    async def run_statement(
        self, code: CodeType, module: dict[str, Any], names: dict[str, Any], async_: bool
    ) -> StopIteration | None:
        """Run one statement of a cell in an asyncio task; see `cell_run.run_statement`.

        A statement that awaits nothing runs in a task too, so `asyncio.current_task` finds one.
        """
        __tracebackhide__ = True
        ended: StopIteration | None
        ended = await self.loop.run(run_statement(code, module, names, async_))
        return ended


def _as_other(loop: CellLoop, task: asyncio.Task[Any]) -> OtherTask:
    origin, coroutine = loop.origin_of(task), task.get_coro()
    called = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    own = task.get_name()
    return OtherTask(
        task,
        called if own.startswith("Task-") else own,
        coroutine,
        origin.request if origin is not None else None,
        origin.since if origin is not None else trio.current_time(),
        task.cancel,
    )


def _outside_of_cells(start: Callable[..., object], function: Any) -> None:
    """Start ``function`` in a context without a current request: it belongs to no cell, even if a
    cell's code is the reason that it is started.
    """

    def call() -> None:
        current_request.set(None)
        start(function)

    context: Context = copy_context()
    context.run(call)


def _interrupt_unless_told(stopper: Stopper) -> None:
    """Interrupt the cell that awaits, if there is one, and it is not being stopped already."""
    running = tuple(stopper.running)
    first = [one for one in running if not one.beside] or running
    if first and all(request.stop_reason is None for request in first):
        stopper.interrupt()
