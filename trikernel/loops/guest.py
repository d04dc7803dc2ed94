"""An asyncio loop as a guest of Trio's: for verbs that await asyncio.

A *verb* is a method of a kernel that handles a request (``do_execute``). To *turn* the asyncio loop
is to run its callbacks that are ready, without waiting.

What is wanted
    Kernels that were written for ipykernel await asyncio's futures: `asyncio.sleep`, a stream, a
    task of their own; and their tasks go on between two requests. The same coroutine may await
    Trio as well: a verb of a Python kernel does so when it calls the method that it overrides.

What does not work
    To run the asyncio loop until a verb is done: the Trio loop would stand still meanwhile, no
    cancel would reach the verb, and tasks that it has started would stand still after it.

What is done
    The asyncio loop never waits. When nothing is ready, its selector returns at once and stops the
    loop, so that `GuestLoop.turn` runs what is ready and returns. A Trio task, the pump, waits in
    its place, until a descriptor is readable or a timer is due. This needs no private names.

    A verb's coroutine is an asyncio task, but its steps are made in the Trio task that waits for it
    (`steps`). So what it awaits of Trio is awaited in that Trio task, and an interrupt of that Trio
    task reaches the coroutine. If the Trio task is cancelled, the asyncio task is cancelled, and
    has to end before the cancel goes on. A coroutine of this package runs outside of the asyncio
    loop (`TrioAwaitable`): so cells that it executes may call `asyncio.run`.

    A plain verb is called as if in a step of a task (`call_in_step`): there is a running loop, in
    which it may start tasks. The loop is made before the kernel, whose author may start tasks on it
    at once; `bind` makes it a guest of Trio's loop later.

What remains
    On Windows, where a selector has no descriptor of its own to wait for, the loop is turned every
    10 ms. Callbacks and tasks that an author has started by asyncio's own functions cannot be
    interrupted while they compute.
"""

from __future__ import annotations

import asyncio
import logging
import math
import selectors
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import sniffio
import trio
from trio.lowlevel import enable_ki_protection

from ..core import await_unprotected, call_unprotected
from ..system import run_in, runs_here
from .steps import Steps, call_for, current_steps

__all__ = ["GuestLoop", "TrioAwaitable", "in_asyncio_task"]

_log = logging.getLogger("trikernel")
_ROUNDS = 100  # iterations of the asyncio loop in one turn, then Trio's other tasks run
_POLL = 0.01  # seconds between two turns where the selector has no descriptor
_Closed = trio.ClosedResourceError

Start = Callable[[Callable[[], Awaitable[object]]], object]


class _Selector(selectors.DefaultSelector):
    """A selector that does not wait while the loop is a guest: instead it calls ``on_idle`` with
    the seconds that it would wait, None for no limit.

    While ``on_idle`` is None it is like any other selector. So it is while ``callbacks`` run, too:
    one of them may run the loop again, by nest_asyncio, and then waits in `select`.
    """

    on_idle: Callable[[float | None], object] | None = None
    rounds = 0
    callbacks = 0  # how many have begun and not ended

    def select(self, timeout: float | None = None) -> Any:
        """See `selectors.BaseSelector.select`."""
        if self.on_idle is None or self.callbacks:
            return super().select(timeout)
        events = super().select(0)
        self.rounds += 1
        if not events and (timeout is None or timeout > 0):
            self.on_idle(timeout)
        elif self.rounds > _ROUNDS:
            self.on_idle(0)
        return events


class GuestLoop(asyncio.SelectorEventLoop):
    """See the top of the module. A guest of one Trio loop, whose clock it uses.

    It may be made before the Trio loop runs: what is started on it then runs after `bind`.
    """

    _token: trio.lowlevel.TrioToken | None = None
    _clock: trio.abc.Clock | None = None
    grace = 0.6  # seconds that a cancelled task has for its clean-up
    is_ending = False
    _shift = 0.0  # seconds, from Trio's clock to this loop's
    _start: Start
    _start_call: Start

    def __init__(self) -> None:
        # Called when an interrupt was raised in a callback: who awaits beside has not heard of it.
        self.interrupt_again: Callable[[], object] = lambda: None
        self.on_ending: set[Callable[[], object]] = set()  # called as it begins to end
        self._is_early = not trio.lowlevel.in_trio_run()
        self._thread = threading.get_ident()
        self.selector = _Selector()
        self._is_turning = False
        self._is_in_step = False
        self._again = False
        self._due = math.inf  # when the loop has to turn next, on Trio's clock
        self._parked: trio.CancelScope | None = None
        self._is_pumped = False
        super().__init__(self.selector)

    def bind(self, start: Start, start_call: Start) -> None:
        """Be a guest of the calling Trio loop from now on.

        ``start`` starts a Trio task for the pump, in a nursery that lives as long as the loop.
        ``start_call`` starts one for a coroutine that an asyncio task awaits (`hand_to_trio`).
        """
        clock = trio.lowlevel.current_clock()
        if self._is_early:  # timers may have been set already, by the clock of before
            self._shift = self.time() - clock.current_time()
        self._clock, self._token = clock, trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._start, self._start_call = start, start_call

    def time(self) -> float:
        """The loop's time in seconds: once it is bound, by Trio's clock, which may be virtual."""
        if self._clock is None:
            return super().time()
        return self._clock.current_time() + self._shift

    @enable_ki_protection
    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        """See `asyncio.loop.call_soon`."""
        handle = super().call_soon(*args, **kwargs)
        self._note(-math.inf)
        return handle

    @enable_ki_protection
    def call_at(  # type: ignore[override]
        self, when: float, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_at`."""
        handle = super().call_at(when, *args, **kwargs)
        self._note(when - self._shift)
        return handle

    def _note(self, when: float) -> None:
        """Have the pump turn the loop at ``when``, on Trio's clock, or earlier."""
        self._again = True
        if self._token is None:
            return
        # Tornado may make its loop in another thread, and calls this asyncio loop there.
        if threading.get_ident() != self._thread:
            run_in(self._token, partial(self._note, when))
        elif not self._is_turning and when < self._due:
            self._due = when
            if self._parked is not None:
                self._parked.deadline = when
            self.keep_turning()

    @property
    def is_here(self) -> bool:
        """Whether the loop is open, and the caller is in the Trio loop that it is bound to."""
        return not self.is_closed() and self._token is not None and runs_here(self._token)

    @property
    def is_bound(self) -> bool:
        """Whether it belongs to a Trio loop."""
        return self._token is not None

    @property
    def is_turning(self) -> bool:
        """Whether the calling code runs in a step of this loop."""
        return self._is_turning

    @enable_ki_protection
    def turn(self) -> None:
        """Run what is ready now, without waiting.

        Raises `KeyboardInterrupt` if the code of a task was interrupted; `RuntimeError`, without
        any effect, if the loop is turning already.
        """
        if self._is_turning:
            raise RuntimeError("the asyncio loop turns already")
        library, sniffio.thread_local.name = sniffio.thread_local.name, None
        self._is_turning, self.selector.on_idle, self.selector.rounds = True, self._on_idle, 0
        try:
            self._again = True
            while self._again and self.selector.rounds <= _ROUNDS:
                self.run_forever()
        finally:
            self._is_turning, self.selector.on_idle = False, None
            sniffio.thread_local.name = library
            if self._again:
                self._due = -math.inf
            if self._parked is not None:
                self._parked.deadline = self._due

    def _on_idle(self, seconds: float | None) -> None:
        self._due = math.inf if seconds is None else self.time() - self._shift + seconds
        self._again = False  # callbacks that run in the rest of this iteration may set it again
        self.stop()

    def keep_turning(self) -> None:
        """Start the pump, unless it runs: it turns the loop whenever there is something to do."""
        if not self._is_pumped and not self.is_closed():
            self._is_pumped = True
            self._start(self._pump)

    async def _pump(self) -> None:
        self._is_pumped = True
        try:
            await self._turn_until(self.is_closed)
        except trio.Cancelled:
            self._begin_to_end()
            raise
        finally:
            self._is_pumped = False

    def _begin_to_end(self) -> None:
        self.is_ending = True
        for tell in tuple(self.on_ending):
            tell()

    async def _turn_until(self, is_done: Callable[[], object]) -> None:
        while not is_done():
            try:
                self.turn()
            except (KeyboardInterrupt, SystemExit) as error:
                is_interrupt = isinstance(error, KeyboardInterrupt)
                level = logging.DEBUG if is_interrupt else logging.WARNING
                _log.log(level, "a task of the asyncio loop was ended", exc_info=error)
                if is_interrupt:
                    self.interrupt_again()
            if not self.is_closed():
                await self._wait()

    async def _wait(self) -> None:
        fileno = getattr(self.selector, "fileno", None)
        if fileno is None:
            await trio.sleep_until(min(self._due, trio.current_time() + _POLL))
            return
        try:
            with trio.CancelScope(deadline=self._due) as self._parked, suppress(_Closed):
                await trio.lowlevel.wait_readable(fileno())
        finally:
            self._parked = None
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """See `asyncio.loop.close`. A pump that waits for its descriptor is woken.

        From another thread, it is closed as soon as its Trio loop turns.
        """
        token, is_here = self._token, threading.get_ident() == self._thread
        if token is not None and not is_here and run_in(token, self.close):
            return
        fileno = getattr(self.selector, "fileno", None)
        if fileno is not None and not self.is_closed() and not self.is_running() and self.is_here:
            trio.lowlevel.notify_closing(fileno())
        super().close()
        self._begin_to_end()

    def end(self) -> None:
        """Cancel all tasks, turn once so that they can clean up without waiting, and close it."""
        if self.is_closed():
            return
        for task in asyncio.all_tasks(self):
            task.cancel()
        try:
            self.turn()
        except (KeyboardInterrupt, SystemExit) as error:
            _log.warning("a task of the asyncio loop was ended", exc_info=error)
        finally:
            self.close()

    # The running loop

    @property
    def io_loop(self) -> Any:
        """Tornado's loop on top of this one: what `IOLoop.current` returns in code that runs in it.
        May be read in any thread.
        """
        from tornado.ioloop import IOLoop

        return self.call_in_step(IOLoop.current)

    def be_current(self) -> None:
        """Be asyncio's current event loop again, if there is no other; in the main thread."""
        if not self.is_closed():
            try:
                asyncio.get_event_loop()
            except RuntimeError:
                asyncio.set_event_loop(self)

    def is_running(self) -> bool:
        """Whether code runs in this loop, which therefore cannot be started by that code."""
        return self._is_in_step or super().is_running()

    @enable_ki_protection
    def call_in_step(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain function, for which this is asyncio's running loop, as in a task's step.
        Returns and raises what it does.

        `KeyboardInterrupt` may be raised in it.
        """
        try:
            outer: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            outer = None
        library, sniffio.thread_local.name = sniffio.thread_local.name, None
        in_step, is_here = self._is_in_step, threading.get_ident() == self._thread
        if is_here:
            self._is_in_step = True
        asyncio._set_running_loop(self)
        try:
            return call_unprotected(function, *args, **kwargs)
        finally:
            asyncio._set_running_loop(outer)
            if is_here:
                self._is_in_step = in_step
            sniffio.thread_local.name = library

    # Coroutines

    @enable_ki_protection
    async def run(self, awaitable: Awaitable[Any]) -> Any:
        """Await, in the calling Trio task, an object that may await both asyncio and Trio. Returns
        and raises what that does.

        If the caller is cancelled or interrupted, the asyncio task is cancelled; after its end
        `trio.Cancelled` or `KeyboardInterrupt` is raised. A caller that runs in an asyncio task
        already awaits the object there.
        """
        if in_asyncio_task():
            return await await_unprotected(awaitable)
        self.keep_turning()
        return await Steps(self).run(awaitable)

    def hand_to_trio(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        """Run a coroutine that awaits Trio for a task of this loop, which awaits the future.

        It runs in the Trio task of the verb that has called this, or in one of its own if that
        verb has ended or there is none.
        """
        future: asyncio.Future[Any] = self.create_future()
        steps = current_steps.get()
        if steps is not None and steps.is_running:
            steps.calls.append((coroutine, future))
            steps.wake()
        else:
            self._start_call(partial(call_for, coroutine, future))
        return future


def in_asyncio_task() -> bool:
    """Whether the calling code is a step of an asyncio task, so that it may await asyncio."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no asyncio loop runs here
        return False


class TrioAwaitable:
    """A coroutine of this package, for authors' code: wherever it is awaited, it runs in Trio."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            loop: object = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if isinstance(loop, GuestLoop) and loop.is_turning:
            return loop.hand_to_trio(self._coroutine).__await__()
        return self._coroutine.__await__()
