"""Cells in the loop of an asyncio program, whose kernel lives in a thread of its own.

What is wanted
    A cell looks at a program's objects, and awaits its coroutines, as the program's own code would:
    in its thread and its loop. An interrupt of a cell ends that cell, and never a task, or the
    loop, of the program.

What does not work
    Trio as a guest of the program's loop: in one thread with it, a cell that computes keeps the
    kernel from hearing of an interrupt, and what Trio waits for costs the program a thread's hop
    each time. Cells in the kernel's thread: asyncio's objects are not to be touched from there.

What is done
    The kernel's loop is a thread's, and each statement of a cell is a task of the program's loop,
    which the kernel waits for. Cancelled, that task is cancelled. What computes in it is told as
    a subshell's thread is (`core.thread_stop`), which hits code that is marked as a cell's only.
    What a statement raises, an interrupt among it, ends there: asyncio would end its loop by it.

What remains
    A cell that computes holds the program up, as the program's own code would. `time.sleep` hears
    of an interrupt when it is over.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from types import CodeType
from typing import Any

import outcome
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ..core import await_unprotected
from ..core.thread_stop import raise_in_thread
from ..loops import take_over
from ..system import run_in
from .cell_run import run_statement

__all__ = ["AsyncioHost"]

_TURN = 0.05  # seconds in which a loop turns that does not compute
_GRACE = 5.0  # seconds that a cell's task may clean up before the kernel goes on without it


class AsyncioHost:
    """The calling asyncio program's loop and thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    @enable_ki_protection
    async def run_statement(
        self, code: CodeType, module: dict[str, Any], names: dict[str, Any], async_: bool
    ) -> StopIteration | None:
        """Run one statement of a cell there; see `cell_run.run_statement`."""
        __tracebackhide__ = True
        ended: StopIteration | None
        ended = await self._await(run_statement(code, module, names, async_))
        return ended

    @enable_ki_protection
    async def call_handler(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Call a comm's handler there."""
        return await self._await(_call(handler, args))

    async def _await(self, awaitable: Awaitable[Any]) -> Any:
        """Await it in a task of the program's loop; what it returns. Raises what it raises."""
        done, token, context = trio.Event(), trio.lowlevel.current_trio_token(), copy_context()
        tasks: list[asyncio.Task[outcome.Outcome[Any]]] = []

        def begin() -> None:
            task = self.loop.create_task(_guarded(awaitable), name="a cell", context=context)
            task.add_done_callback(lambda _: run_in(token, done.set))
            tasks.append(task)

        self.loop.call_soon_threadsafe(begin)
        try:
            await done.wait()
        except trio.Cancelled:
            with trio.move_on_after(_GRACE, shield=True):
                await self._end(tasks, done)
            raise
        take_over(context)
        return tasks[0].result().unwrap()

    async def _end(self, tasks: list[asyncio.Task[Any]], done: trio.Event) -> None:
        """Cancel the task and wait for its end; while its loop does not turn, interrupt it."""
        has_turned = False

        def cancel() -> None:
            nonlocal has_turned
            has_turned = tasks[0].cancel()

        self.loop.call_soon_threadsafe(cancel)
        while not done.is_set():
            with trio.move_on_after(_TURN):
                await done.wait()
            if not has_turned and not done.is_set():
                raise_in_thread(self.thread, KeyboardInterrupt, _nobody, tasks=False)


def _nobody() -> None:
    """Has to hear of it."""


@enable_ki_protection
async def _guarded(awaitable: Awaitable[Any]) -> outcome.Outcome[Any]:
    """How it ended; nothing but a cancel goes on into the program's loop."""
    try:
        return outcome.Value(await await_unprotected(awaitable))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # raised again in Trio; no cancel of Trio's comes to this loop
        return outcome.Error(error)


@disable_ki_protection
async def _call(handler: Callable[..., Any], args: Any) -> Any:
    result = handler(*args)
    return await result if inspect.isawaitable(result) else result
