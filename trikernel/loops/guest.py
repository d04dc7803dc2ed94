"""An asyncio loop as a guest of Trio's: for verbs that await what asyncio makes.

What is wanted
    Kernels that were written for ipykernel await asyncio's futures: `asyncio.sleep`, a stream, a
    task of their own; and what those tasks do goes on between two requests. The same coroutine may
    await Trio as well: a verb of a Python kernel does, by calling the one that it overrides.

What does not work
    To run the other loop until a verb is done: nothing else would turn meanwhile, no cancel would
    reach it, and what it starts would stand still when it has returned.

What is done
    The asyncio loop never waits. Its selector says, when nothing is ready, that nothing happened,
    and stops the loop, so that `GuestLoop.turn` runs what is ready and returns. A Trio task, the
    pump, waits in its place: until a descriptor is readable or a timer is due. All of this by
    public names.

    A verb's coroutine is an asyncio task, but it is stepped in the Trio task that waits for it, so
    what it awaits of Trio is handed to Trio there, and what interrupts that Trio task interrupts
    the coroutine. Cancelled, the asyncio task is cancelled, and has to end before the cancel goes
    on. A coroutine of this package runs outside of the asyncio loop (`TrioAwaitable`): the cells in
    it may call `asyncio.run`.

    A plain verb is called as a step of a task would be (`call_in_step`): there is a running loop,
    which it may start tasks in. The loop is made before the kernel is, whose author may start
    something on it at once; Trio's loop takes it over later (`bind`).

What remains
    Where the system has no descriptor that says that others are ready (Windows), the loop looks
    every 10 ms. Callbacks and tasks that an author has started by asyncio's own means cannot be
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
_ROUNDS = 100  # of the asyncio loop, after which Trio has its turn
_POLL = 0.01  # seconds
_Closed = trio.ClosedResourceError

Start = Callable[[Callable[[], Awaitable[object]]], object]


class _Selector(selectors.DefaultSelector):
    """Waits for nothing while the loop is a guest: then ``on_idle`` is told for how long it might.

    None is for ever. As long as ``on_idle`` is None, it is like any other one; and so it is within
    the ``callbacks`` of a round, one of which may run the loop again, as nest_asyncio has it.
    """

    on_idle: Callable[[float | None], object] | None = None
    rounds = 0
    callbacks = 0  # that have begun and not ended

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
    """See the top of the module. Used in one Trio loop, whose clock is its clock.

    Made before there is one, it keeps what is started on it until `bind`.
    """

    _token: trio.lowlevel.TrioToken | None = None
    _clock: trio.abc.Clock | None = None
    grace = 0.6  # seconds that a task which is to end may clean up
    is_ending = False
    _shift = 0.0  # seconds, from Trio's clock to this loop's
    _start: Start
    _start_call: Start

    def __init__(self) -> None:
        self._is_early = not trio.lowlevel.in_trio_run()
        self._thread = threading.get_ident()
        self.selector = _Selector()
        self._is_turning = False
        self._is_in_step = False
        self._again = False
        self._due = math.inf  # on Trio's clock, when there is something to do
        self._parked: trio.CancelScope | None = None
        self._is_pumped = False
        super().__init__(self.selector)

    def bind(self, start: Start, start_call: Start) -> None:
        """Be a guest of the calling Trio loop from now on.

        ``start`` starts the pump, in a nursery that lives as long as the loop, ``start_call`` a
        coroutine of Trio's for a task that nobody waits for.
        """
        clock = trio.lowlevel.current_clock()
        if self._is_early:  # there may be timers already
            self._shift = self.time() - clock.current_time()
        self._clock, self._token = clock, trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._start, self._start_call = start, start_call

    def time(self) -> float:
        """Seconds; once it is bound, on Trio's clock, which may be virtual."""
        if self._clock is None:
            return super().time()
        return self._clock.current_time() + self._shift

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:  # type: ignore[override]
        """See `asyncio.loop.call_soon`."""
        handle = super().call_soon(*args, **kwargs)
        self._note(-math.inf)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_at`."""
        handle = super().call_at(when, *args, **kwargs)
        self._note(when - self._shift)
        return handle

    def _note(self, when: float) -> None:
        """There is something to do at that time of Trio's: the pump is not to sleep beyond it."""
        self._again = True
        if self._token is None:
            return
        if threading.get_ident() != self._thread:  # Tornado makes its loop where it is asked for it
            run_in(self._token, partial(self._note, when))
        elif not self._is_turning and when < self._due:
            self._due = when
            if self._parked is not None:
                self._parked.deadline = when
            self.keep_turning()

    @property
    def is_here(self) -> bool:
        """Whether it can still turn, and the caller's Trio loop is the one that it was made in."""
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
        """Run what is ready now. Raises `KeyboardInterrupt` if a task's code was interrupted.

        Raises `RuntimeError` in a turn, which is left as it is.
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
        self._again = False  # unless what runs to the end of this round wants more
        self.stop()

    def keep_turning(self) -> None:
        """Have it turn whenever there is something to do, from now on."""
        if not self._is_pumped and not self.is_closed():
            self._is_pumped = True
            self._start(self._pump)

    async def _pump(self) -> None:
        self._is_pumped = True
        try:
            await self._turn_until(self.is_closed)
        except trio.Cancelled:
            self.is_ending = True
            raise
        finally:
            self._is_pumped = False

    async def _turn_until(self, is_done: Callable[[], object]) -> None:
        while not is_done():
            try:
                self.turn()
            except (KeyboardInterrupt, SystemExit) as error:
                _log.warning("a task of the asyncio loop was ended", exc_info=error)
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
        """See `asyncio.loop.close`; what waits for it is told."""
        fileno = getattr(self.selector, "fileno", None)
        if fileno is not None and not self.is_closed() and not self.is_running() and self.is_here:
            trio.lowlevel.notify_closing(fileno())
        super().close()

    def end(self) -> None:
        """Cancel what runs in it, let that clean up as far as it does not wait, and close it."""
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
        """Tornado's loop over this one: what its `IOLoop.current` returns here; in any thread."""
        from tornado.ioloop import IOLoop

        return self.call_in_step(IOLoop.current)

    def be_current(self) -> None:
        """Be the current event loop again, if there is no other one; in the main thread."""
        if not self.is_closed():
            try:
                asyncio.get_event_loop()
            except RuntimeError:
                asyncio.set_event_loop(self)

    def is_running(self) -> bool:
        """Whether code runs in it: so it cannot be run by that."""
        return self._is_in_step or super().is_running()

    @enable_ki_protection
    def call_in_step(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a plain function, for which this is the running loop, as for a task's step.

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
        """Await what may await asyncio and Trio, in the calling Trio task; what it returns.

        Cancelled, or interrupted, the asyncio task is cancelled; when it has ended, that is raised.
        A caller that runs in a task of asyncio's already awaits it there.
        """
        if in_asyncio_task():
            return await await_unprotected(awaitable)
        self.keep_turning()
        return await Steps(self).run(awaitable)

    def hand_to_trio(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        """Have a coroutine of Trio's run for a task of this loop, which awaits the future.

        In the Trio task of the verb that it belongs to, else in one of its own.
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
    """A coroutine of this package, for authors' code: awaited anywhere, it runs in Trio."""

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
