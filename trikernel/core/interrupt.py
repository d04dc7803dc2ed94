"""One way to stop what runs: interrupts, deadlines, aborts and shutdown all come through here.

`Interrupts.stop` cancels the request's scope in the user loop. Cancelling cannot stop
synchronous code, so when the user loop does not turn at once, the service loop sends SIGINT to
the main thread, and the handler raises `KeyboardInterrupt` in the user's code. It is never raised
in ours: see the discussion page "interrupts".
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import Any

import attrs
import trio

from ..system import on_fork, run_in
from .frames import in_finalizer
from .request import Request, StopReason, background_scope, current_request, is_served
from .signals import SignalArrivals, signal_main_thread

__all__ = ["Interrupts"]

PATIENCE = 0.05  # seconds that the user loop has to turn before it counts as blocked
PROMPT = 0.002  # and before the request's own code is told where it is, which hits nobody else
LINGER = 1.0  # seconds that code may go on after its deadline before it is stopped again


@attrs.define(eq=False)
class _Ticket:
    """One wish to stop something, until the user loop or the signal handler has seen to it."""

    request: Request | None
    reason: StopReason
    delivered: bool = False
    since: float = attrs.field(factory=time.monotonic)


class Interrupts:
    """Knows what runs, and stops it. `stop` and `interrupt` work from any thread."""

    def __init__(self, token: trio.lowlevel.TrioToken, *, owns_loop: bool = False) -> None:
        self._token = token
        self._owns_loop = owns_loop
        self._services: tuple[trio.lowlevel.TrioToken, trio.Nursery] | None = None
        self._insistent = False
        self._forced_at = -math.inf
        self._previous: object = None
        self._arrivals: SignalArrivals | None = None
        self.installed = False
        self.before_stop: Callable[[], object] = lambda: None
        self.running: list[Request] = []
        self._tickets: list[_Ticket] = []
        self.ignored = 0
        on_fork(self)

    def interrupt(self) -> None:
        """Stop the innermost running request; with none running, code that spins."""
        running = tuple(self.running)
        self.stop(running[-1] if running else None, StopReason.INTERRUPT)

    def stop(self, request: Request | None, reason: StopReason) -> None:
        """Stop ``request`` for ``reason``; a second interrupt abandons one that lingers."""
        ticket = _Ticket(request, reason)
        self._tickets.append(ticket)
        self.before_stop()
        if request is not None:
            request.mark(reason)
        run_in(self._token, lambda: self._deliver(ticket))
        if self._insistent:
            self.in_services(self._insist, ticket)

    def raise_pending(self) -> None:
        """Raise `KeyboardInterrupt` if the calling request is to stop and has not heard of it.

        For the unprotected end of functions that user code calls in a loop, `print` above all:
        without it a loop that spends its time in protected code could not be stopped.
        """
        if not self._tickets:
            return
        request = current_request.get()
        if (
            request is not None
            and any(ticket.request is request for ticket in self._tickets)
            and threading.current_thread() is threading.main_thread()
            and not trio.lowlevel.currently_ki_protected()  # the kernel calls them too
        ):
            self.settle(request)
            raise KeyboardInterrupt

    def settle(self, request: Request) -> None:
        """The caller raises in the code of the request: no need to insist."""
        for ticket in tuple(self._tickets):
            if ticket.request is request:
                self._settle(ticket)
        request.hear()

    def after_fork(self) -> None:
        """In a forked child: an interrupt is what it is anywhere."""
        self._services, self._insistent = None, False
        self._tickets.clear()
        if signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(-1)

    def install(self) -> None:
        """Take over SIGINT; in the main thread only."""
        self._previous = signal.signal(signal.SIGINT, self._on_sigint)
        self._arrivals = SignalArrivals()
        self.installed = True

    def reinstall(self) -> None:
        """Take SIGINT back from an earlier cell's code, which may have set a handler or a mask."""
        if not self.installed:
            return
        if signal.getsignal(signal.SIGINT) != self._on_sigint:
            signal.signal(signal.SIGINT, self._on_sigint)
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if self._arrivals is not None:
            self._arrivals.listen()

    def restore(self) -> None:
        """Give SIGINT back to who had it before `install`."""
        if signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
        if self._arrivals is not None:
            self._arrivals.close()

    def serve_from(
        self, token: trio.lowlevel.TrioToken, nursery: trio.Nursery, *, insist: bool
    ) -> None:
        """Have deadlines watched in that loop; with ``insist`` also what does not stop at once.

        To insist is to signal the main thread, which takes a loop in another one.
        """
        self._services = token, nursery
        self._insistent = insist
        if self._arrivals is not None:
            nursery.start_soon(self._repeat_unheard, self._arrivals, name="signal watch")

    def stop_after(self, request: Request, seconds: float) -> None:
        """Give a request a deadline, ``seconds`` from now, instead of the one it may have.

        0 seconds mean none.
        """
        if not seconds:
            request.replace_deadline(lambda: None)
            return
        done = trio.Event()
        self.in_services(self._expire, request, seconds, done)
        if self._services is not None:
            request.replace_deadline(partial(run_in, self._services[0], done.set))

    async def _expire(self, request: Request, seconds: float, done: trio.Event) -> None:
        with trio.move_on_after(seconds):
            await done.wait()
            return
        self.stop(request, StopReason.TIMEOUT)

    def in_services(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a task in the service loop; from any thread."""
        if self._services is not None:
            token, nursery = self._services
            run_in(token, lambda: self._start(nursery, function, *args))

    def _start(
        self, nursery: trio.Nursery, function: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        if self._services is not None:
            nursery.start_soon(function, *args)

    def stop_serving(self) -> None:
        """That loop's nursery has ended."""
        self._services = None

    async def _insist(self, ticket: _Ticket) -> None:
        """Signal the main thread until the ticket is delivered: it may be in protected code."""
        await trio.sleep(PROMPT)
        while not ticket.delivered and self._is_live(ticket):
            self._forced_at = time.monotonic()
            signal_main_thread()
            await trio.sleep(PATIENCE)
        if ticket.request is not None and ticket.reason is not StopReason.INTERRUPT:
            await trio.sleep(LINGER)
            if self._is_live(ticket):  # it has swallowed the exception, or cleans up for long
                self.stop(ticket.request, ticket.reason)

    async def _repeat_unheard(self, arrivals: SignalArrivals) -> None:
        """Signal the main thread again if it has not run the handler of a signal that came.

        A signal may come to another thread, or in the moment before the main thread blocks in
        a lock: then nothing wakes it, and an interrupt would be lost.
        """
        while True:
            await arrivals.unheard(PATIENCE)
            if signal.getsignal(signal.SIGINT) == self._on_sigint:
                signal_main_thread()

    def _is_live(self, ticket: _Ticket) -> bool:
        """Whether it still makes sense: a signal that comes late must hit nobody else."""
        return ticket.request is None or ticket.request in self.running

    def _deliver(self, ticket: _Ticket) -> None:
        """In the user loop: it turns, so cancelling reaches what awaits."""
        delivered_before = ticket.delivered
        self._settle(ticket)
        request = ticket.request
        if request is None:
            self.ignored += 1
            return
        if delivered_before and ticket.reason is StopReason.INTERRUPT:
            return  # it was raised in the request's code, and heard
        request.cancel()
        now = time.monotonic()
        if request.stopped_at is None:
            request.stopped_at = now
        elif ticket.reason is StopReason.INTERRUPT and now - request.stopped_at > PATIENCE:
            request.abandon()

    def _settle(self, ticket: _Ticket) -> None:
        ticket.delivered = True
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if self._arrivals is not None:
            self._arrivals.heard()
        # a signal of our own is handled at once: if another handler took it, this one is not it
        now = time.monotonic()
        forced = now - self._forced_at < PATIENCE
        self._forced_at = -math.inf
        live = [ticket for ticket in self._tickets if self._is_live(ticket)]
        if forced and not live:
            return
        here = self._request_here()
        protected = trio.lowlevel.currently_ki_protected() and not (forced and in_finalizer(frame))
        due = [one for one in live if one.request is here or now - one.since >= PATIENCE]
        if not protected and self._is_served_here() and (due if forced else here in self.running):
            for ticket in due if forced else ():
                if ticket.request in (None, here):  # any other one is cancelled in its turn
                    self._settle(ticket)
            if forced and here is not None:
                here.hear()
            raise KeyboardInterrupt
        if not forced:
            self.interrupt()

    def _is_served_here(self) -> bool:
        """Whether the interrupted frame is the kernel's, and not of a host that serves it."""
        if self._owns_loop or not trio.lowlevel.in_trio_task():
            return self._owns_loop
        return trio.lowlevel.current_task().context.get(is_served, False)

    def _request_here(self) -> Request | None:
        """The request that the interrupted frame is a part of; a background task is of none."""
        if not trio.lowlevel.in_trio_task():
            return None
        context = trio.lowlevel.current_task().context
        if context.get(background_scope) is not None:
            return None
        return context.get(current_request)
