"""One way to stop what runs: interrupts, deadlines, aborts and shutdown all come through here.

What is wanted
    An interrupt works when the user's code computes, sleeps, awaits, waits for a thread or writes;
    it never hits the kernel's own code, another cell, or a host's tasks; and none is lost.

What does not work
    Trio's own Ctrl-C handling raises in the main task, which is the kernel. Cancelling a scope
    does not stop synchronous code. `signal.raise_signal` and `_thread.interrupt_main` do not wake a
    `time.sleep`. A signal handler that always raises hits the kernel between two instructions.

What is done
    `Stopper.stop` marks the request, and has its scope cancelled in the user loop. If that loop
    has not turned within 2 ms, the service loop signals the main thread by `pthread_kill`, and
    again every 50 ms until it is delivered. Our handler raises `KeyboardInterrupt` at once if
    the interrupted frame is unprotected and belongs to the request that is to stop, or if the loop
    has not turned for 50 ms; otherwise it leaves the wish where it is. Our own code is marked as
    protected (`trio.lowlevel.enable_ki_protection`), the user's is called through frames that are
    not. Functions of ours that the user's code calls in a loop (`print` above all) end in
    `raise_pending`, because such a loop is nearly always in protected code.

    One wish is a `StopSignal`:

    =========  =======  =========
    state      RAISE    TURN
    =========  =======  =========
    PENDING    RAISED   DELIVERED
    RAISED              DELIVERED
    DELIVERED
    =========  =======  =========

    ``RAISE``: the exception was raised in the request's own code, which may handle it: an interrupt
    is used up by that. ``TURN``: the user loop has turned, and its scope was cancelled unless an
    interrupt was used up.

    Every stop escalates: an interrupt with each one that follows within ten seconds, a deadline, an
    abort and a shutdown by themselves: the second step ``stop_grace`` seconds (1 unless set) after
    the first one, the third 60 ms after that (whose code has ended is answered first):

    ========================  =======================  =====================  =====================
    the request's code        first step               second step            third step, and on
    ========================  =======================  =====================  =====================
    is queued                 an interrupt does not    the same               the same
                              reach it; else it never
                              starts
    computes, sleeps, prints  `KeyboardInterrupt` is   the same               `CellStopped` is
                              raised                                          raised, every 20 ms
                                                                              until it leaves
    awaits                    its scope is cancelled   it is left behind      (not there any more)
    awaits in a shield or     its scope is cancelled;  it is left behind:     (not there any more)
    for a thread              after 0.5 s a line on    reply and ``idle`` go
                              stderr says so           out at once
    is in C code that keeps   as one that computes,    the same               the same
    the lock, and looks for   by signal or deadline
    signals
    is in C code that looks   (heard when it returns)  a line on stderr says  the same
    for no signals, and lets                           where it stands
    go of the lock
    is no request's           raised where it spins,   the same               the same
                              else ignored
    ========================  =======================  =====================  =====================

    In a `trio.run` of the user's code (`system.nested_run`) it is raised in the main task of that
    run while all of its tasks wait: none is left behind, because this thread is inside.

    Interrupts within 50 ms are one step. `CellStopped` is for code that swallows
    `KeyboardInterrupt`; it is told as the reason of the stop. Code that swallows that, too, is hit
    at a line drawn by lot (`line_lot`).

    A deadline has a timer of the system's beside the service loop, which signals the main thread
    without the interpreter lock. Its signal, and the service loop's, is not SIGINT, which is a
    person's, and to which a cell may have given back the end of the process (`deadlines`).

What remains
    C code that holds the interpreter lock and does not look for signals cannot be reached; where
    the system has no such timers, neither can a deadline reach what looks for them. Under inline
    services there is nobody beside the loop, so synchronous code cannot be stopped.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from types import FrameType

import trio

from ..errors import CellStopped
from ..system import (
    RemoteNursery,
    RepeatedEvent,
    SignalArrivals,
    interrupt_nested_run,
    is_nested_in,
    on_fork,
    run_in,
    unblock_signal,
)
from ..wire import tell_place
from .deadlines import Deadline, OwnSignal
from .line_lot import Swallowed
from .places import where_it_runs, where_it_stands, where_it_waits
from .request import Request, StopReason, current_request, is_served, request_of
from .stop_signals import STOP_TRANSITIONS, StopEvent, StopSignal, StopState
from .thread_stop import raise_in_thread
from .user_code import in_finalizer

__all__ = ["STOP_TRANSITIONS", "TURN_TIMEOUT", "StopSignal", "Stopper"]

TURN_TIMEOUT = 0.05  # seconds that the user loop has to turn before it counts as blocked
SOON = 0.002  # and before the request's own code is told where it is, which hits nobody else
INSISTS = 3  # the stop from which on the exception is one that nobody swallows by habit
INSIST_AFTER = 0.06  # seconds from the step before, where a step follows by itself
INSIST_INTERVAL = 0.02  # seconds between two of those
TELL_AFTER = 0.5  # seconds without effect, after which the person is told what is waited for


class Stopper:
    """Knows what runs, and stops it. `stop` and `interrupt` work from any thread.

    ``grace`` is in seconds: of a step, see above.

    ``token`` is the user loop's. ``on_pending`` is told whether any stop is `pending`, that is
    not delivered yet; ``tell`` puts a line under a request's cell. ``owns_loop`` says that no task
    of the user loop is a host's. `services` is where deadlines are watched, `abandoned` yields
    requests whose code is to be left behind.

    ``thread`` is the loop's, if that is not the main one: no signal reaches it, so what computes
    there is told by `thread_stop`, and what does not hear for two steps sets `stuck`: its thread is
    to be left. ``services`` is another stopper's then, which has opened it. `came` is set for each
    SIGINT, of which the main thread tells its own loop only.
    """

    def __init__(
        self,
        token: trio.lowlevel.TrioToken,
        *,
        on_pending: Callable[[bool], object] = lambda is_pending: None,
        tell: Callable[[Request, str], object] = lambda request, text: None,
        owns_loop: bool = False,
        grace: float = 1.0,
        services: RemoteNursery | None = None,
        thread: int | None = None,
    ) -> None:
        self.running: list[Request] = []
        self.pending: list[StopSignal] = []
        self.ignored = 0
        self.installed = False
        self._abandoned, self.abandoned = trio.open_memory_channel[Request](math.inf)
        self._token = token
        self._on_pending = on_pending
        self._tell = tell
        self._owns_loop = owns_loop
        self._grace = grace
        self.services = services or RemoteNursery()
        self.stuck, self.came = RepeatedEvent(), RepeatedEvent()
        self._thread = thread or threading.main_thread().ident or 0
        self._is_main = thread is None
        self._resends = not self._is_main
        self._forced_at = -math.inf
        self._previous: object = None
        self._arrivals: SignalArrivals | None = None
        self._swallowed = Swallowed()
        self._own_signal = OwnSignal(self._on_own_signal)
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: an interrupt is what it is anywhere."""
        self._resends = False
        self.services.close()
        self.pending.clear()
        if self._is_main and signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(-1)
        self._own_signal.close()
        self._swallowed.end()

    # Stopping

    def interrupt(self) -> None:
        """Stop the request that has the lane, else what awaits beside it, else what spins."""
        running = tuple(self.running)
        for one in [one for one in running if not one.beside][-1:] or running or (None,):
            self.stop(one, StopReason.INTERRUPT)

    def stands_in(self) -> str:
        """Where the main thread stands if what runs there has not heard of a stop for a step, or
        goes on after the third one; else nothing.
        """
        overdue = time.monotonic() - self._grace
        late = [one.request for one in tuple(self.pending) if one.since < overdue]
        if any(one in late or one.stops >= INSISTS for one in tuple(self.running)):
            return where_it_runs(self._thread)
        return ""

    def stop(self, request: Request | None, reason: StopReason) -> None:
        """Stop ``request`` for ``reason``; the next step if it is being stopped already."""
        stop_signal = StopSignal(request, reason)
        self.pending.append(stop_signal)
        self._on_pending(True)
        if request is not None:
            request.count_stop(stop_signal.since)
            request.mark(reason)
        run_in(self._token, lambda: self._deliver(stop_signal))
        if self._resends:
            self.services.start_soon(self._resend, stop_signal)

    def _deliver(self, stop_signal: StopSignal) -> None:
        """In the user loop: it turns, so cancelling reaches what awaits."""
        was_raised = stop_signal.state is StopState.RAISED
        self._mark_delivered(stop_signal, StopEvent.TURN)
        request = stop_signal.request
        if request is None:
            self.ignored += 1
            return
        is_interrupt = stop_signal.reason is StopReason.INTERRUPT
        if (was_raised and is_interrupt) or request.finished:
            return
        if request.task is not None and request.stood is None:
            request.stood = where_it_stands(request.task)
        request.cancel()
        now = trio.current_time()
        if request.stopped_at is None:
            request.stopped_at = now
            if is_interrupt:
                self.services.start_soon(self._tell_if_it_lingers, request)
            return
        long = now - request.stopped_at > (TURN_TIMEOUT if is_interrupt else 0.9 * self._grace)
        if long and not _is_ending(request, self._grace):
            self._abandoned.send_nowait(request)

    async def _resend(self, stop_signal: StopSignal) -> None:
        """Signal the thread until it is delivered (it may be in protected code), and go on with the
        next step by itself, unless that is a person's to say.
        """
        request, told_at = stop_signal.request, time.monotonic() + 2 * self._grace
        await trio.sleep(SOON if self._is_main else TURN_TIMEOUT)
        while stop_signal.state is StopState.PENDING and _is_live(stop_signal, self.running):
            if self._is_main:
                self._forced_at = time.monotonic()
                self._own_signal.send(self._on_sigint)
            elif _is_stuck(stop_signal, self._grace):
                self.stuck.set()
                return
            elif not _is_ending(request, self._grace):
                insists = request is not None and request.stops >= INSISTS
                kind = CellStopped if insists else KeyboardInterrupt
                heard, tasks = partial(self.consume, request), self._owns_loop
                raise_in_thread(self._thread, kind, heard, hard=insists, tasks=tasks)
            await trio.sleep(TURN_TIMEOUT)
            if request is not None and time.monotonic() > told_at:
                told_at = math.inf
                if stop_signal is next((one for one in self.pending if one.request is request), 0):
                    place = where_it_runs(self._thread)
                    self._tell(request, tell_place(place))
        if request is None:
            return
        if stop_signal.reason is StopReason.INTERRUPT and request.stops < INSISTS:
            return
        while _is_live(stop_signal, self.running):  # it swallows what is raised, or cleans up
            last, pauses = request.last_stop, {1: self._grace, 2: INSIST_AFTER}
            await trio.sleep(pauses.get(request.stops, INSIST_INTERVAL))
            if request.last_stop == last and _is_live(stop_signal, self.running):
                self.stop(request, stop_signal.reason)
                return

    async def _tell_if_it_lingers(self, request: Request) -> None:
        """Some time after an interrupt that has had no effect, say what the code waits in."""
        await trio.sleep(TELL_AFTER)

        def tell() -> None:
            interrupted = request.stop_reason is StopReason.INTERRUPT
            if interrupted and request in self.running and request.task is not None:
                place = where_it_waits(request.task)
                self._tell(
                    request,
                    f"interrupted, but it still waits in {place}; "
                    "a second interrupt leaves it behind\n",
                )

        run_in(self._token, tell)

    def raise_pending(self) -> None:
        """Raise `KeyboardInterrupt` if the calling request is to stop and has not heard of it.

        For the unprotected end of functions that user code calls in a loop, `print` above all:
        without it a loop that spends its time in protected code could not be stopped.
        """
        if not self.pending:
            return
        request = current_request.get()
        if (
            request is not None
            and any(one.request is request for one in self.pending)
            and threading.get_ident() == self._thread
            and not trio.lowlevel.currently_ki_protected()  # the kernel calls them too
        ):
            self.consume(request)
            raise self._exception_for(request, sys._getframe())

    def consume(self, request: Request | None) -> None:
        """The caller raises in the code of the request, which has heard of it by that."""
        for stop_signal in tuple(self.pending):
            if stop_signal.request is request:
                self._mark_delivered(stop_signal, StopEvent.RAISE)
        if request is not None:
            request.consume_interrupt()

    def _mark_delivered(self, stop_signal: StopSignal, event: StopEvent) -> None:
        stop_signal.advance(event)
        if stop_signal in self.pending:
            self.pending.remove(stop_signal)
            if not self.pending:
                self._on_pending(False)

    # Deadlines, and the service loop that watches them

    def serve_from(self, nursery: trio.Nursery, *, resends: bool) -> None:
        """Have deadlines watched in the calling loop; with ``resends`` also what does not stop at
        once.

        That is to signal the main thread, which takes a loop in another one.
        """
        self.services.open(nursery)
        self._resends = resends
        if self._arrivals is not None:
            nursery.start_soon(self._repeat_unheard, self._arrivals, name="signal watch")

    def stop_after(self, request: Request, seconds: float) -> None:
        """Give a request a deadline, ``seconds`` from now, instead of the one it may have.

        0 seconds mean none.
        """
        if not seconds:
            request.replace_deadline(lambda: None)
            return
        deadline = Deadline(request, seconds)
        self.services.start_soon(self._expire, deadline)
        if self.installed and self._resends:
            self._own_signal.arm(deadline)
        if self.services.token is not None:
            withdraw = self._own_signal.withdraw
            request.replace_deadline(partial(withdraw, deadline, self.services.token))

    async def _expire(self, deadline: Deadline) -> None:
        if await deadline.passes() and not deadline.is_told:
            deadline.is_told = True
            self.stop(deadline.request, deadline.reason)

    def _on_own_signal(self, signum: int, frame: FrameType | None) -> None:
        """The service loop has signalled, or a timer after its deadline: take the step that the
        loop has not taken, if it does not get the interpreter lock, and raise what is due.
        """
        self._forced_at = -math.inf
        past = [one for one in self._own_signal.past() if one.request in self.running]
        for deadline in past:
            request = deadline.request
            pause = INSIST_INTERVAL if request.stops >= INSISTS else self._grace + SOON
            if not deadline.is_told or request.last_stop < time.monotonic() - pause:
                deadline.is_told = True
                self.stop(request, deadline.reason)
        self._hear(frame, forced=True)

    # SIGINT

    def install(self) -> None:
        """Take over SIGINT; in the main thread only."""
        self._previous = signal.signal(signal.SIGINT, self._on_sigint)
        self._own_signal.take()
        self._arrivals = SignalArrivals(self.came.set, partial(run_in, self._token, int))
        self.installed = True

    def reinstall(self) -> None:
        """Take SIGINT, once installed, back from an earlier cell's code, which may have set a
        handler or a mask. What came while it was blocked was for that cell.
        """
        unblock_signal(signal.SIGINT)
        if signal.getsignal(signal.SIGINT) != self._on_sigint:
            signal.signal(signal.SIGINT, self._on_sigint)
        self._own_signal.take()
        if self._arrivals is not None:
            self._arrivals.listen()

    def restore(self) -> None:
        """Give SIGINT back to who had it before `install`; a second time, nothing."""
        if not self.installed:
            return
        self.installed = False
        self._own_signal.close()
        if signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
        if self._arrivals is not None:
            self._arrivals.close()

    async def _repeat_unheard(self, arrivals: SignalArrivals) -> None:
        """Signal the main thread again if it has not run the handler of a signal that came.

        A signal may come to another thread, or in the moment before the main thread blocks in
        a lock: then nothing wakes it, and an interrupt would be lost. If it has not run it for
        the grace, the main thread is in C code that looks for no signals: that is to stop.
        """
        while True:
            seconds = await arrivals.unheard(TURN_TIMEOUT)
            if signal.getsignal(signal.SIGINT) != self._on_sigint or self.pending:
                continue
            if seconds > self._grace and self.running:
                self.interrupt()
            self._own_signal.send(self._on_sigint)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if self._arrivals is not None:
            self._arrivals.heard()
        # a signal of our own is handled at once: if another handler took it, this one is not it
        forced = time.monotonic() - self._forced_at < TURN_TIMEOUT
        self._forced_at = -math.inf
        self._hear(frame, forced=forced)

    def _hear(self, frame: FrameType | None, *, forced: bool) -> None:
        """The main thread was signalled, in ``frame``: raise what is due, if that may be done here.

        ``forced`` says that it was by us, for a wish that is pending.
        """
        now = time.monotonic()
        live = [one for one in self.pending if _is_live(one, self.running)]
        if forced and not live:
            return
        context = _context_here(self._token)
        here = request_of(context)
        protected = trio.lowlevel.currently_ki_protected() and not (forced and in_finalizer(frame))
        due = [one for one in live if one.request is here or now - one.since >= TURN_TIMEOUT]
        due = [one for one in due if not _is_ending(one.request, self._grace)]
        nested = protected and _is_nested_loop_here(self._token)  # its main task is told
        served = self._owns_loop or (context is not None and context.get(is_served, False))
        if served and (nested or not protected) and (due if forced else here in self.running):
            for stop_signal in due if forced else ():
                if stop_signal.request in (None, here):  # any other one is cancelled in its turn
                    self._mark_delivered(stop_signal, StopEvent.RAISE)
            if forced and here is not None:
                here.consume_interrupt()
            elif here is not None:
                here.count_stop(now)
                if here.stops >= INSISTS:
                    self.stop(here, StopReason.INTERRUPT)
            if nested:
                interrupt_nested_run(self._exception_for(here, None))
                return
            raise self._exception_for(here, frame)
        if not forced:
            self.interrupt()

    def _exception_for(self, request: Request | None, frame: FrameType | None) -> BaseException:
        """What is raised in the code of a request that is to stop, which is in ``frame``."""
        if request is None or request.stops < INSISTS:
            return KeyboardInterrupt()
        token = self.services.token
        if self._swallowed.count(request, frame) == 1 and self._resends and token is not None:
            # the service loop may not get the lock, to tell it again
            again = Deadline(request, 0, request.stop_reason or StopReason.INTERRUPT, is_told=True)
            self._own_signal.arm(again)
            request.after_idle(partial(self._own_signal.withdraw, again, token))
        return CellStopped()


def _is_live(stop_signal: StopSignal, running: Sequence[Request]) -> bool:
    """Whether it still makes sense: a signal that comes late must hit nobody else."""
    return stop_signal.request is None or stop_signal.request in running


def _is_stuck(stop_signal: StopSignal, grace: float) -> bool:
    """Whether the code of a request in a thread of its own is to be left: it has not heard."""
    request = stop_signal.request
    if request is None:
        return False
    by_itself = stop_signal.reason is not StopReason.INTERRUPT
    seconds = TURN_TIMEOUT if request.stops > 1 else grace if by_itself else math.inf
    return time.monotonic() - stop_signal.since > seconds + TURN_TIMEOUT


def _is_ending(request: Request | None, grace: float) -> bool:
    """Whether its code has ended by a stop just now: who answers it is not hit."""
    return request is not None and time.monotonic() - request.ended_at < grace


def _is_nested_loop_here(token: trio.lowlevel.TrioToken) -> bool:
    """Whether the interrupted frame is a loop's own, which the user's code runs in that loop."""
    return not trio.lowlevel.in_trio_task() and is_nested_in(token)


def _context_here(token: trio.lowlevel.TrioToken) -> Context | None:
    """Of the interrupted frame: its task's, or of the code that waits for a nested loop."""
    if trio.lowlevel.in_trio_task():
        here = copy_context()  # within a step of another loop it is that of what steps there
        return here if request_of(here) is not None else trio.lowlevel.current_task().context
    return copy_context() if _is_nested_loop_here(token) else None
