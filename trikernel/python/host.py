"""Cells in the loop of an asyncio program, whose kernel lives in a thread of its own.

What is wanted
    A cell uses a program's objects, and awaits its coroutines, as the program's own code would: in
    the program's thread and loop. An interrupt ends the cell, and never a task of the program, or
    its loop.

What does not work
    Trio as a guest of the program's loop: both would be in one thread, so the kernel could not
    react to an interrupt while a cell computes, and each wait of Trio's would cost the program a
    hop to a thread. Running cells in the kernel's thread: asyncio's objects must not be used there.

What is done
    The kernel's loop runs in a thread of its own. Each statement of a cell is a task of the
    program's loop, and the kernel waits for it. If the cell is cancelled, that task is cancelled.
    If it computes, an exception is raised in it as in the thread of a subshell
    (`core.thread_stop`), which hits only code that is marked as a cell's. Whatever a statement
    raises, an interrupt too, is caught in the task and raised again in Trio, because a
    `KeyboardInterrupt` in a task would end the program's loop.

What remains
    A cell that computes blocks the program, as the program's own code would. During `time.sleep` an
    interrupt takes effect only when the sleep is over.
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

_TURN = 0.05  # seconds within which a loop that is not blocked runs a callback
_GRACE = 5.0  # seconds that a cancelled task may take to end before the kernel stops waiting


class AsyncioHost:
    """The loop and the thread of the asyncio program that creates it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    @enable_ki_protection
    async def run_statement(
        self, code: CodeType, module: dict[str, Any], names: dict[str, Any], async_: bool
    ) -> StopIteration | None:
        """Run one statement of a cell in the program's loop; see `cell_run.run_statement`."""
        __tracebackhide__ = True
        ended: StopIteration | None
        ended = await self._await(run_statement(code, module, names, async_))
        return ended

    @enable_ki_protection
    async def call_handler(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Call a comm's handler, plain or async, in the program's loop."""
        return await self._await(_call(handler, args))

    async def _await(self, awaitable: Awaitable[Any]) -> Any:
        """Await ``awaitable`` in a task of the program's loop. Returns and raises what it does.

        If this is cancelled, the task is cancelled, and waited for `_GRACE` seconds at most.
        """
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
        """Cancel the task and wait for its end. While its loop is blocked, so that it has not run
        the cancel yet, raise `KeyboardInterrupt` in the task.
        """
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
    """The callback for an interrupt that was raised: nothing is to be done."""


@enable_ki_protection
async def _guarded(awaitable: Awaitable[Any]) -> outcome.Outcome[Any]:
    """Await it and return its outcome. Only a cancellation of asyncio's is raised."""
    try:
        return outcome.Value(await await_unprotected(awaitable))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # raised again in Trio; `trio.Cancelled` cannot occur here
        return outcome.Error(error)


@disable_ki_protection
async def _call(handler: Callable[..., Any], args: Any) -> Any:
    result = handler(*args)
    return await result if inspect.isawaitable(result) else result
