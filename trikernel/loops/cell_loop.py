"""The asyncio loop that cells run in: a guest of Trio's, adapted to what a notebook needs.

What is wanted
    A task that a cell starts goes on after the cell, and still belongs to it: what the task prints,
    and the error by which it fails, appear under that cell. An interrupt reaches code that computes
    in the loop. The loop does not take the kernel's signals.

What is done
    Callbacks that are given to the loop, and so the steps of tasks, are called through a frame in
    which `KeyboardInterrupt` may be raised, in the context of the cell that they come from; what
    they raise is reported under that cell. Nothing else of the loop can be interrupted: a step that
    is not made, or a future that is not told, would leave a task waiting for ever.

    A callback of `add_reader` or `add_writer` that held the loop until it was stopped is removed:
    its descriptor is still ready, so the loop would call it again before the cell that is to end
    gets its turn. A task that fails is reported soon after its end or its cell's, unless somebody
    has asked for its exception. (asyncio itself reports it when the task is collected, which never
    happens in a notebook, whose names live on.) Threads of executors get the context of the code
    that calls them. Signal handlers are set by `signal.signal`, so that the wakeup descriptor stays
    the kernel's.

    When the kernel ends, the tasks are cancelled, and have a limited time to clean up, in which
    they may await.

What remains
    Code that asyncio calls in another way, the methods of protocols, cannot be interrupted while it
    computes.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import attrs
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ..core import Request, current_request
from ..errors import CellStopped
from .guest import GuestLoop
from .steps import is_stepped

__all__ = ["CellLoop", "TaskOrigin"]

STUBBORN = 2.0  # seconds that a Trio task has at the end to end the asyncio task that it waits for
HELD = 0.05  # seconds from which on a callback counts as one that holds the loop
HEARD_WITHIN = 0.1  # seconds in which code that awaits a failed task asks for its exception

# Modules of asyncio whose callbacks are its own: plain functions, and methods.
_PASSING_ON = frozenset({"asyncio.tasks", "asyncio.futures"})
_CALLING = ("_chain_future", "run_coroutine_threadsafe")  # callbacks of futures, eager tasks
_GROUPING = frozenset({"asyncio.taskgroups", "asyncio.timeouts"})
_call_soon = asyncio.SelectorEventLoop.call_soon
Report = Callable[[BaseException], object]


@attrs.define(eq=False)
class TaskOrigin:
    """Where a task comes from: the context that it was made in, the time of that on Trio's clock,
    and its number in the order in which tasks are made.
    """

    context: Context
    since: float
    number: int

    @property
    def request(self) -> Request | None:
        """The request of the cell that has made the task."""
        return self.context.get(current_request)


class CellLoop(GuestLoop):
    """See the top of the module. ``report`` shows an exception under the calling context's cell.

    ``grace`` is in seconds: how long tasks may clean up when the kernel ends.
    """

    def __init__(self, report: Report, grace: float) -> None:
        self._numbers = itertools.count()
        self._report = report
        self.grace = grace
        self._handlers: dict[int, tuple[Any, Any]] = {}  # of signals: those before, and ours
        super().__init__()

    def origin_of(self, task: Any) -> TaskOrigin | None:
        """Where a task of this loop comes from; None for one that was not made by the loop."""
        return getattr(task, "trikernel_origin", None)

    def living(self) -> list[asyncio.Task[Any]]:
        """The loop's tasks in the order in which they were made, without those that are stepped in
        a Trio task: see `steps`.
        """
        tasks = [one for one in asyncio.all_tasks(self) if not is_stepped(one)]
        return sorted(tasks, key=lambda one: getattr(self.origin_of(one), "number", 0))

    # Callbacks and tasks

    @enable_ki_protection
    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon`."""
        handle = _call_soon(self, _call, self, callback, *args, context=context)
        if self._is_turning:
            self._again = True
        else:
            self._note(-math.inf)
        return handle

    @enable_ki_protection
    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_at`."""
        return super().call_at(when, _call, self, callback, *args, **kwargs)

    @enable_ki_protection
    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon_threadsafe`."""
        return super().call_soon_threadsafe(_call, self, callback, *args, context=context)

    def add_reader(  # type: ignore[override]
        self, fd: Any, callback: Any, *args: Any
    ) -> None:
        """See `asyncio.loop.add_reader`."""
        call = partial(_call_when_ready, partial(self.remove_reader, fd), callback)
        super().add_reader(fd, _call, self, call, *args)

    def add_writer(  # type: ignore[override]
        self, fd: Any, callback: Any, *args: Any
    ) -> None:
        """See `asyncio.loop.add_writer`."""
        call = partial(_call_when_ready, partial(self.remove_writer, fd), callback)
        super().add_writer(fd, _call, self, call, *args)

    def create_task(
        self, coro: Any, *, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """See `asyncio.loop.create_task`."""
        made_in = copy_context() if context is None else context
        if context is not None or self.get_task_factory() is None:  # some take no context
            options["context"] = made_in
        task: Any = super().create_task(coro, **options)
        since = self._clock.current_time() if self._clock is not None else 0.0
        with suppress(AttributeError):  # a task factory may return an object that has no attributes
            task.trikernel_origin = TaskOrigin(made_in, since, next(self._numbers))
        task.add_done_callback(self._on_done, context=made_in)
        return task  # type: ignore[no-any-return]

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio.loop.default_exception_handler`; an exception is shown under its cell."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._report(error)
        else:
            super().default_exception_handler(context)

    @enable_ki_protection
    def _on_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or not getattr(task, "_log_traceback", False):
            return
        tell = partial(self._tell_if_unheard, task)
        request = current_request.get()
        if request is None or request.finished:
            if not self.is_closed():
                self.call_later(HEARD_WITHIN, tell)
        else:  # the cell may still ask for it
            request.after_idle(partial(copy_context().run, tell))

    def _tell_if_unheard(self, task: asyncio.Task[Any]) -> None:
        """Report the error of a failed task, once, unless somebody has asked for its exception."""
        if not getattr(task, "_log_traceback", False):
            return
        task._log_traceback = False
        error = task.exception()
        self.call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": error, "future": task}
        )

    # Threads and signals

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """See `asyncio.loop.run_in_executor`; a thread prints under the cell that calls this."""
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            func = partial(copy_context().run, func)
        return super().run_in_executor(executor, func, *args)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Any, *args: Any
    ) -> None:
        """See `asyncio.loop.add_signal_handler`.

        Raises `NotImplementedError` for SIGINT, by which the kernel interrupts cells; asyncio's
        loops raise it where they do not support signals. `RuntimeError` if the signal cannot be
        handled.
        """
        if sig == signal.SIGINT:
            raise NotImplementedError("SIGINT is the kernel's, which interrupts cells by it")
        call = partial(copy_context().run, partial(self.call_soon_threadsafe, callback, *args))

        def handler(number: int, frame: object) -> None:
            call()

        try:
            before = signal.signal(sig, handler)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"sig {sig} cannot be caught: {error}") from None
        self._handlers[sig] = self._handlers.get(sig, (before,))[0], handler

    def remove_signal_handler(self, sig: int) -> bool:
        """See `asyncio.loop.remove_signal_handler`. The handler from before is set again, the
        kernel's own for example.
        """
        before, ours = self._handlers.pop(sig, (None, None))
        if ours is None:
            return False
        if signal.getsignal(sig) is ours:
            signal.signal(sig, signal.SIG_DFL if before is None else before)
        return True

    # The end

    async def _pump(self) -> None:
        try:
            await super()._pump()
        except trio.Cancelled:
            self._is_pumped = True  # this task goes on turning the loop: no second pump is started
            with trio.move_on_after(self.grace, shield=True):
                await self._wind_down()
            # Trio tasks that wait for an asyncio task which swallows its cancel close it meanwhile.
            with trio.move_on_after(STUBBORN, shield=True):
                await self._turn_until(self._awaits_nothing)
            self.end()
            raise

    async def _wind_down(self) -> None:
        """Cancel all tasks, and turn the loop until they have ended."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        await self._turn_until(lambda: self.is_closed() or not asyncio.all_tasks(self))

    def _awaits_nothing(self) -> bool:
        return self.is_closed() or not any(map(is_stepped, asyncio.all_tasks(self)))

    def end(self) -> None:
        """Close the loop. The coroutines of tasks that have not ended are closed, each in the
        context of its cell.
        """
        left = [] if self.is_closed() else list(asyncio.all_tasks(self))
        super().end()
        for number in tuple(self._handlers):
            with suppress(ValueError):  # in another thread no handler can be set
                self.remove_signal_handler(number)
        for task in left:
            origin = self.origin_of(task)
            if not task.done() and origin is not None:
                origin.context.run(_close_coroutine, task)


@enable_ki_protection
def _call(loop: CellLoop, callback: Any, *args: Any) -> None:
    """Call a callback, which is the user's code; asyncio does that in the context of its cell.

    An interrupt may come before the callback has begun. Then it is still to come, and the callback
    is called all the same: a task one of whose steps is not made would never end.
    """
    selector, has_begun = loop.selector, [False]
    selector.callbacks += 1
    try:
        if _is_of_asyncio(callback):
            callback(*args)
            return
        while not has_begun[0]:
            try:
                _call_open(has_begun, callback, args)
            except (KeyboardInterrupt, CellStopped):
                if has_begun[0]:
                    raise
                loop.interrupt_again()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # as asyncio does; `trio.Cancelled` is not raised in plain calls
        loop.call_exception_handler(
            {"message": f"Exception in callback {callback!r}", "exception": error}
        )
    finally:
        selector.callbacks -= 1


def _is_of_asyncio(callback: Any) -> bool:
    """Whether it only notes what has happened, as for `asyncio.gather`: if one of these is cut off,
    some task waits for ever. The user's code runs in none of them, other than in `_CALLING`.
    """
    kind = type(callback)  # the steps of tasks are neither, as a rule
    if kind is FunctionType and callback.__module__ in _PASSING_ON:
        return not callback.__qualname__.startswith(_CALLING)
    return kind is MethodType and callback.__module__ in _GROUPING


@disable_ki_protection
def _call_open(has_begun: list[bool], callback: Any, args: Any) -> None:
    has_begun[0] = True  # Python looks for signals as it enters a function and after calls
    callback(*args)


def _call_when_ready(remove: Callable[[], object], callback: Any, *args: Any) -> None:
    """Call a callback for a descriptor. ``remove`` is called if it is stopped when it has held the
    loop for `HELD` seconds; one that a stop hits by chance is called again.
    """
    began = time.monotonic()
    try:
        callback(*args)
    except (KeyboardInterrupt, CellStopped):
        if time.monotonic() - began > HELD:
            remove()
        raise


def _close_coroutine(task: asyncio.Task[Any]) -> None:
    close = getattr(task.get_coro(), "close", None)
    try:
        if close is not None:
            close()
    except BaseException as error:  # errors of the clean-up are dropped: the loop has ended
        if isinstance(error, SystemExit):
            raise
