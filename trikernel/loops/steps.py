"""A coroutine that is an asyncio task, each step of which is made in one Trio task.

Such a coroutine may await both asyncio and Trio. If the Trio task is interrupted or cancelled, so
is the coroutine. See `loops.guest`.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

import outcome
import trio
from trio.lowlevel import current_task, enable_ki_protection

from ..core import Request, await_unprotected, current_request
from ..errors import CellStopped
from ..system import innermost_status, leave_shield, run_in, shield_within

__all__ = ["Steps", "call_for", "current_steps", "is_stepped", "take_over"]

_NOTHING = object()
_AGAIN, _TIMES = 0.05, 20  # a task that swallows cancels: seconds between two, and how many
_stepped: WeakSet[Any] = WeakSet()  # the asyncio tasks whose steps are made in a Trio task


class _Loop(Protocol):
    """What is needed of the `GuestLoop`. ``grace`` is in seconds: the time for the clean-up of a
    task whose request was left behind, or that runs when the loop is to end. ``is_ending`` says
    that the loop is to end; what is in ``on_ending`` is called as it begins to.
    """

    grace: float
    is_ending: bool
    on_ending: set[Callable[[], object]]

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        """See `asyncio.loop.create_task`."""

    def create_future(self) -> Any:
        """See `asyncio.loop.create_future`."""

    def turn(self) -> None:
        """Run what is ready now."""

    def call_in_step(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a plain function as in a task's step."""

    def is_closed(self) -> bool:
        """Whether it has ended."""


async def call_for(coroutine: Coroutine[Any, Any, Any], future: asyncio.Future[Any]) -> None:
    """Await a coroutine in Trio, and set asyncio's future to its outcome. If the future is
    cancelled, so is the coroutine.
    """
    with trio.CancelScope() as scope:
        future.add_done_callback(partial(_cancel_with, scope))
        result = await outcome.acapture(_just_await, coroutine)
        if not future.done():
            if isinstance(result, outcome.Value):
                future.set_result(result.value)
            else:
                future.set_exception(result.error)


@enable_ki_protection
def _cancel_with(scope: trio.CancelScope, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        scope.cancel()


async def _just_await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def _forget_loop(error: BaseException) -> None:
    """Remove from a traceback the frames of the asyncio loop that are before those of the verb."""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code is Steps.steps.__code__:
            break
        at = at.tb_next
    error.__traceback__ = at


class Steps:
    """One verb's coroutine: an asyncio task whose steps are made in one Trio task."""

    def __init__(self, loop: _Loop) -> None:
        self.calls: deque[tuple[Coroutine[Any, Any, Any], asyncio.Future[Any]]] = deque()
        self.is_running = True
        self._loop = loop
        self._trio_task = current_task()
        self._event = trio.Event()
        # The asyncio task waits for this until the Trio task turns the loop, and makes its step.
        self._turn: asyncio.Future[None] | None = None
        self._trap: object = None  # what the coroutine has yielded to Trio, as it awaits Trio
        self._trap_ended: asyncio.Future[None] | None = None
        self._trap_scope = self._call_scope = trio.CancelScope()
        self._answer: object = None  # what Trio sends to the coroutine for the trap
        self._outside = innermost_status()  # Trio's, of the scope around all of the coroutine's
        self._shield: trio.CancelScope | None = None  # from that, once it cleans up
        self._due = math.inf  # until when what is awaited now may last
        # a cancel by a scope that the coroutine has entered, still to be raised in it
        self._cancelled: trio.Cancelled | None = None

    def wake(self) -> None:
        """Wake the Trio task, which has something to do."""
        self._event.set()

    async def run(self, awaitable: Awaitable[Any]) -> Any:
        """See `GuestLoop.run`."""
        coroutine = await_unprotected(awaitable)
        context = copy_context()
        context.run(current_steps.set, self)
        task = self._loop.create_task(self._task(coroutine), name="the cell", context=context)
        _stepped.add(task)
        task.add_done_callback(self._on_done, context=context)
        self._loop.on_ending.add(self.wake)
        try:
            await self._until_done(task, coroutine)
        except (trio.Cancelled, KeyboardInterrupt, CellStopped) as raised:
            _forget_loop(raised)
            await self._end(task, coroutine)
            raise
        finally:
            self.is_running = False
            take_over(context)
            self._loop.on_ending.discard(self.wake)
            if self._shield is not None:
                leave_shield(self._shield)
            if task.done() and not task.cancelled():
                task.exception()  # asyncio need not report it: it, or the cancel, is raised here
        return task.result()

    async def _end(self, task: asyncio.Task[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Cancel the asyncio task and wait for its end; it may await as it cleans up.

        If its request was left behind, or the loop is to end, it has ``grace`` seconds for that.
        Then it is cancelled again and again, and in the end its coroutine is closed.
        """
        self._shield = shield_within(self._outside)
        request, token = current_request.get(), trio.lowlevel.current_trio_token()
        hurry = partial(run_in, token, partial(self._hurry, request))
        self._loop.on_ending.add(hurry)
        if request is not None and not request.finished:
            request.after_idle(hurry)  # also called as it is left behind
        self._hurry(request)
        try:
            for _ in range(1 + _TIMES):
                task.cancel()
                try:
                    await self._until_done(task, coroutine)
                except (KeyboardInterrupt, CellStopped):
                    if task.done():
                        raise
                    continue  # another task of the loop has raised it
                if task.done() or self._loop.is_closed():
                    break
                self._due = trio.current_time() + _AGAIN
        finally:
            self._loop.on_ending.discard(hurry)
        if task.done():
            return
        with suppress(BaseException):  # nobody waits for the errors of this clean-up
            # in a step, so that code which goes on awaits once more, and fails
            self._loop.call_in_step(coroutine.close)
        if not self._loop.is_closed():
            task.cancel()
            self._loop.turn()

    def _hurry(self, request: Request | None) -> None:
        """Limit the time for the clean-up, if its request was left behind or the loop is to end."""
        is_left = request is not None and request.abandoned
        if (is_left or self._loop.is_ending) and self._due == math.inf:
            self._due = trio.current_time() + self._loop.grace
            self._trap_scope.deadline = self._call_scope.deadline = self._due
            self.wake()

    @enable_ki_protection
    def _on_done(self, task: object) -> None:
        self.wake()

    async def _until_done(self, task: asyncio.Task[Any], stepped: Coroutine[Any, Any, Any]) -> None:
        """Turn the loop and make the task's steps until the task is done, or the time is over. A
        closed loop is an error, except for a task that cleans up.

        ``stepped`` is used by its name in this frame: `core.places` finds there the coroutine that
        the Trio task waits for.
        """
        while True:
            self._event = trio.Event()
            if self._turn is not None:
                turn, self._turn = self._turn, None
                if not turn.done():
                    turn.set_result(None)
            if self._shield is not None and self._loop.is_closed():
                return
            self._loop.turn()
            if task.done() or trio.current_time() >= self._due:
                return
            if self._trap is not None:
                with self._trap_scope:
                    # Trio's answer is an `outcome`, also for a cancel: it raises nothing here.
                    self._answer = await _yield_to_trio(self._trap)
                self._trap = None
                assert self._trap_ended is not None
                if not self._trap_ended.done():
                    self._trap_ended.set_result(None)
            elif self.calls:
                with trio.CancelScope(deadline=self._due) as self._call_scope:
                    await call_for(*self.calls.popleft())
            else:
                await self._wait(task)

    async def _wait(self, task: asyncio.Task[Any]) -> None:
        """Wait until there is something to do for the Trio task, or the time is over.

        If a scope is cancelled that the coroutine has entered itself, what it awaits of asyncio is
        cancelled, and `trio.Cancelled` is raised in the coroutine. A cancel from outside of it is
        raised here.
        """
        try:
            with trio.CancelScope(deadline=self._due):
                await self._event.wait()
        except trio.Cancelled as cancelled:
            outside = self._outside
            if self._shield is None and (outside is None or outside.effectively_cancelled):
                raise
            self._cancelled = cancelled
            task.cancel()

    @enable_ki_protection
    async def _task(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await _Steppable(self.steps(coroutine))

    @enable_ki_protection
    def steps(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The coroutine as asyncio steps it: what it yields to asyncio is passed on, what it yields
        to Trio is answered by the Trio task.
        """
        resume: Callable[[], Any] = partial(coroutine.send, None)
        while True:
            while not (trio.lowlevel.in_trio_task() and current_task() is self._trio_task):
                self._turn = self._loop.create_future()
                self.wake()
                try:
                    yield from self._turn
                except asyncio.CancelledError as error:
                    resume = partial(coroutine.throw, self._as_trio_has_it(error))
            try:
                yielded = resume()
            except StopIteration as end:
                return end.value
            if yielded is None or asyncio.isfuture(yielded):
                try:
                    value = yield yielded
                    resume = partial(coroutine.send, value)
                except BaseException as error:  # raised in the coroutine, also if it is a cancel
                    resume = partial(coroutine.throw, self._as_trio_has_it(error))
            else:
                cancelled = yield from self._trapped(yielded)
                if cancelled is not None:
                    resume = partial(coroutine.throw, cancelled)
                else:
                    resume = partial(coroutine.send, self._answer)

    def _as_trio_has_it(self, error: BaseException) -> BaseException:
        """The exception to raise in the coroutine: `trio.Cancelled` in place of asyncio's, if Trio
        has cancelled it; else ``error``.
        """
        cancelled, self._cancelled = self._cancelled, None
        task = asyncio.current_task()
        if cancelled is None or task is None or not isinstance(error, asyncio.CancelledError):
            return error
        task.uncancel()
        return cancelled

    @enable_ki_protection
    def _trapped(self, trap: object) -> Generator[Any, Any, asyncio.CancelledError | None]:
        """Wait until Trio has answered the trap. If asyncio cancels the task meanwhile, what it
        awaits of Trio is cancelled, and asyncio's error is returned.
        """
        # The task may be cancelled before the Trio task waits in that scope.
        self._trap_scope = trio.CancelScope(deadline=self._due)
        self._trap, cancelled = trap, None
        self.wake()
        while self._trap is not None:
            self._trap_ended = self._loop.create_future()
            try:
                yield from self._trap_ended
            except asyncio.CancelledError as error:
                cancelled = error
                self._trap_scope.cancel()
        return cancelled


current_steps: ContextVar[Steps | None] = ContextVar("current_steps", default=None)


def is_stepped(task: Any) -> bool:
    """Whether an asyncio task is stepped in a Trio task, which waits for it."""
    return task in _stepped


def take_over(context: Context) -> None:
    """Set here the context variables that a task has set in ``context``, a copy of this one."""
    for variable, value in context.items():
        if variable is not current_steps and variable.get(_NOTHING) is not value:
            variable.set(value)


class _Steppable:
    """An awaitable that yields what a generator yields."""

    def __init__(self, generator: Generator[Any, Any, Any]) -> None:
        self._generator = generator

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._generator


@types.coroutine
def _yield_to_trio(trap: object) -> Generator[Any, Any, Any]:
    return (yield trap)
