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
    has not turned for 50 ms; otherwise the stop stays pending. Our own code is marked as protected
    (`trio.lowlevel.enable_ki_protection`), the user's is called through frames that are not.
    Functions of ours that the user's code calls in a loop (`print` above all) end in
    `raise_pending`, because such a loop is nearly always in protected code.

    Each call of `Stopper.stop` makes a `StopSignal`:

    =========  =======  =========
    state      RAISE    TURN
    =========  =======  =========
    PENDING    RAISED   DELIVERED
    RAISED              DELIVERED
    DELIVERED
    =========  =======  =========

    ``RAISE``: the exception was raised in the request's own code, which may handle it: an interrupt
    is used up by that. ``TURN``: the user loop has turned, and the request's scope was cancelled,
    unless it was an interrupt that is used up.

    Every stop escalates in steps. The next step of an interrupt is another interrupt within ten
    seconds. A deadline, an abort and a shutdown escalate by themselves: ``stop_grace`` seconds (1
    unless set) after the first step comes the second, 60 ms after that the third. No step follows
    for a request whose code has ended and that is being answered.

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
    belongs to no request     raised if it computes,   the same               the same
                              else ignored
    ========================  =======================  =====================  =====================

    In a `trio.run` of the user's code (`system.nested_run`), while all tasks of that run wait, the
    exception is raised in its main task. Such code is not left behind: its thread is in that run.

    Interrupts within 50 ms are one step. `CellStopped` is for code that swallows
    `KeyboardInterrupt`; the reply names the reason of the stop instead of it. In code that swallows
    that, too, it is raised at a line that is chosen at random (`line_lot`).

    A deadline also has a timer of the operating system, which signals the main thread without the
    interpreter lock. That signal, and the service loop's, is not SIGINT: SIGINT is for a person's
    interrupt, and a cell may have set its default action, which ends the process (`deadlines`).

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
SIGNAL_AFTER = 0.002  # seconds until the main thread is signalled: it may run the request's code
THIRD_STEP = 3  # the step from which on `CellStopped` is raised, which few programs swallow
THIRD_STEP_AFTER = 0.06  # seconds after the second step, for stops that escalate by themselves
REPEAT_INTERVAL = 0.02  # seconds between two steps after that
NOTICE_AFTER = 0.5  # seconds until a line on stderr says what an interrupted cell still waits in


class Stopper:
    """Knows what runs, and stops it. `stop` and `interrupt` work from any thread.

    ``token`` is the user loop's, ``grace`` is in seconds. ``on_pending`` is told whether any stop
    is `pending`, that is not delivered yet; ``tell`` puts a line under a request's cell.
    ``owns_loop`` says that no task of the user loop is a host's. `services` is where deadlines are
    watched, `abandoned` yields requests whose code is to be left behind.

    ``thread`` is the loop's, if that is not the main thread. No signal reaches it, so an exception
    is raised there by `thread_stop`, and `stuck` is set if its code has not noticed after two
    steps: that thread is to be left. ``services`` is the main stopper's then, which has opened it.
    `sigint_came` is set for each SIGINT: the main thread handles it for its own loop only.
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
        self.ignored, self.installed = 0, False
        self._abandoned, self.abandoned = trio.open_memory_channel[Request](math.inf)
        self._token = token
        self._on_pending = on_pending
        self._tell = tell
        self._owns_loop, self._grace = owns_loop, grace
        self.services = services or RemoteNursery()
        self.stuck, self.sigint_came = RepeatedEvent(), RepeatedEvent()
        self._thread = thread or threading.main_thread().ident or 0
        self._is_main = thread is None
        self._resends = not self._is_main
        self._signalled_at = -math.inf
        self._previous: object = None
        self._arrivals: SignalArrivals | None = None
        self._swallowed, self._lock = Swallowed(), threading.RLock()
        self._own_signal = OwnSignal(self._on_own_signal)
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: an interrupt is what it is anywhere."""
        self._resends, self._lock = False, threading.RLock()
        self.services.close()
        self.pending.clear()
        if self._is_main and signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(-1)
        self._own_signal.close()
        self._swallowed.end()

    # Stopping

    def interrupt(self) -> None:
        """Stop the request that has the lane, else those that await beside it, else other code."""
        # not one that is answered at once, whose client could not read the error
        running = [one for one in tuple(self.running) if one.type is None or not one.type.quiet]
        has_lane = [one for one in running if not one.beside][-1:]
        for request in has_lane or running or (None,):
            self.stop(request, StopReason.INTERRUPT)

    def stuck_at(self) -> str:
        """Where the code of a request is that has not noticed a stop for ``grace`` seconds, or runs
        on after the third step; empty if there is none.
        """
        overdue = time.monotonic() - self._grace
        late = [one.request for one in tuple(self.pending) if one.since < overdue]
        if any(one in late or one.stops >= THIRD_STEP for one in tuple(self.running)):
            return where_it_runs(self._thread)
        return ""

    def stop(self, request: Request | None, reason: StopReason) -> None:
        """Stop ``request`` for ``reason``, or take the next step if it is being stopped already.
        None stands for code that belongs to no request.
        """
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
        """In the user loop, which turns: cancel the request's scope, or leave it behind."""
        with self._lock:  # a host's thread, which has the code, may be just hearing of it
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
        pause = (
            TURN_TIMEOUT if is_interrupt else 0.9 * self._grace
        )  # the first one came late, perhaps
        if now - request.stopped_at > pause and not _is_ending(request, self._grace):
            self._abandoned.send_nowait(request)

    async def _resend(self, stop_signal: StopSignal) -> None:
        """Signal the thread until the stop is delivered (it may be in protected code). After that,
        take the next step, unless it is an interrupt, which a person repeats.
        """
        request, told_at = stop_signal.request, time.monotonic() + 2 * self._grace
        await trio.sleep(SIGNAL_AFTER if self._is_main else TURN_TIMEOUT)
        while stop_signal.state is StopState.PENDING and _is_live(stop_signal, self.running):
            if self._is_main:
                self._signalled_at = time.monotonic()
                self._own_signal.send(self._on_sigint)
            elif _is_stuck(stop_signal, self._grace):
                self.stuck.set()
                return
            elif not _is_ending(request, self._grace):
                insists = request is not None and request.stops >= THIRD_STEP
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
        if stop_signal.reason is StopReason.INTERRUPT and request.stops < THIRD_STEP:
            return
        while _is_live(stop_signal, self.running):  # its code swallows exceptions, or cleans up
            last, pauses = request.last_stop, {1: self._grace, 2: THIRD_STEP_AFTER}
            await trio.sleep(pauses.get(request.stops, REPEAT_INTERVAL))
            if request.last_stop == last and _is_live(stop_signal, self.running):
                self.stop(request, stop_signal.reason)
                return

    async def _tell_if_it_lingers(self, request: Request) -> None:
        """Some time after an interrupt that has had no effect, say what the code waits in."""
        await trio.sleep(NOTICE_AFTER)

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
        """Raise `KeyboardInterrupt` if the calling request has a stop that is not delivered yet.

        For the unprotected end of functions that user code calls in a loop, `print` above all:
        without it a loop that spends its time in protected code could not be stopped.
        """
        request = current_request.get() if self.pending else None
        if (
            request is not None
            and threading.get_ident() == self._thread
            and not trio.lowlevel.currently_ki_protected()  # the kernel calls them too
            and self.consume(request)
        ):
            raise self._exception_for(request, sys._getframe())

    def consume(self, request: Request | None) -> bool:
        """Mark the stops of a request as delivered: the caller raises an exception in its code.
        False if there are none, or no longer: its scope is cancelled, which nobody takes back.
        """
        with self._lock:
            heard = [one for one in self.pending if one.request is request]
            for stop_signal in heard:
                self._mark_delivered(stop_signal, StopEvent.RAISE)
        if heard and request is not None:
            request.consume_interrupt()
        return bool(heard)

    def _mark_delivered(self, stop_signal: StopSignal, event: StopEvent) -> None:
        stop_signal.advance(event)
        if stop_signal in self.pending:
            self.pending.remove(stop_signal)
            if not self.pending:
                self._on_pending(False)

    # Deadlines, and the service loop that watches them

    def serve_from(self, nursery: trio.Nursery, *, resends: bool) -> None:
        """Have deadlines watched in the calling loop. ``resends`` says that it runs in another
        thread than the user loop, so that it can signal that one until a stop is delivered.
        """
        self.services.open(nursery)
        self._resends = resends
        if self._arrivals is not None:
            nursery.start_soon(self._repeat_unheard, self._arrivals, name="signal watch")

    def stop_after(self, request: Request, seconds: float) -> None:
        """Give a request another deadline, ``seconds`` from now; none for 0 seconds."""
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
        """The service loop has signalled, or the timer of a deadline. If the service loop does not
        get the interpreter lock, take its step for it; raise what is due.
        """
        self._signalled_at = -math.inf
        past = [one for one in self._own_signal.past() if one.request in self.running]
        for deadline in past:
            request = deadline.request
            pause = REPEAT_INTERVAL if request.stops >= THIRD_STEP else self._grace + SIGNAL_AFTER
            if not deadline.is_told or request.last_stop < time.monotonic() - pause:
                deadline.is_told = True
                self.stop(request, deadline.reason)
        self._on_signalled(frame, by_us=True)

    # SIGINT

    def install(self) -> None:
        """Take over SIGINT; in the main thread only."""
        self._previous = signal.signal(signal.SIGINT, self._on_sigint)
        self._own_signal.take()
        self._arrivals = SignalArrivals(self.sigint_came.set, partial(run_in, self._token, int))
        self.installed = True

    def reinstall(self) -> None:
        """Once installed, take SIGINT back from the code of an earlier cell, which may have set a
        handler or a mask. A SIGINT that came while it was blocked was meant for that cell.
        """
        unblock_signal(signal.SIGINT)
        if signal.getsignal(signal.SIGINT) != self._on_sigint:
            signal.signal(signal.SIGINT, self._on_sigint)
        self._own_signal.take()
        if self._arrivals is not None:
            self._arrivals.listen()

    def restore(self) -> None:
        """Put back the handler from before `install`; a second time, do nothing."""
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
        a lock: then nothing wakes it, and an interrupt would be lost. If the handler has not run
        for ``grace``, the main thread is in C code that does not check for signals: interrupt that.
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
        # one of ours is handled at once; one that comes later is a person's
        by_us = time.monotonic() - self._signalled_at < TURN_TIMEOUT
        self._signalled_at = -math.inf
        self._on_signalled(frame, by_us=by_us)

    def _on_signalled(self, frame: FrameType | None, *, by_us: bool) -> None:
        """The main thread was signalled, in ``frame``: raise what is due, if that may be done here.

        ``by_us`` says that we have sent the signal, for a stop that is pending.
        """
        now = time.monotonic()
        live = [one for one in self.pending if _is_live(one, self.running)]
        if by_us and not live:
            return
        context = _context_here(self._token)
        here = request_of(context)
        protected = trio.lowlevel.currently_ki_protected() and not (by_us and in_finalizer(frame))
        due = [one for one in live if one.request is here or now - one.since >= TURN_TIMEOUT]
        due = [one for one in due if not _is_ending(one.request, self._grace)]
        nested = protected and _is_nested_loop_here(self._token)  # its main task is told
        served = self._owns_loop or (context is not None and context.get(is_served, False))
        if served and (nested or not protected) and (due if by_us else here in self.running):
            for stop_signal in due if by_us else ():
                if stop_signal.request in (None, here):  # `_deliver` cancels the others
                    self._mark_delivered(stop_signal, StopEvent.RAISE)
            if by_us and here is not None:
                here.consume_interrupt()
            elif here is not None:
                here.count_stop(now)
                if here.stops >= THIRD_STEP:
                    self.stop(here, StopReason.INTERRUPT)
            if nested:
                interrupt_nested_run(self._exception_for(here, None))
                return
            raise self._exception_for(here, frame)
        if not by_us:
            self.interrupt()

    def _exception_for(self, request: Request | None, frame: FrameType | None) -> BaseException:
        """The exception to raise in ``frame``, in the code of a request that is to stop."""
        if request is None or request.stops < THIRD_STEP:
            return KeyboardInterrupt()
        token = self.services.token
        if self._swallowed.count(request, frame) == 1 and self._resends and token is not None:
            # a timer repeats it, because the service loop may not get the interpreter lock
            again = Deadline(request, 0, request.stop_reason or StopReason.INTERRUPT, is_told=True)
            self._own_signal.arm(again)
            request.after_idle(partial(self._own_signal.withdraw, again, token))
        return CellStopped()


def _is_live(stop_signal: StopSignal, running: Sequence[Request]) -> bool:
    """Whether its request still runs: a stop that comes late must not hit another one."""
    return stop_signal.request is None or stop_signal.request in running


def _is_stuck(stop_signal: StopSignal, grace: float) -> bool:
    """Whether a request in a thread of its own has not noticed a stop, so that it is to be left."""
    request = stop_signal.request
    if request is None:
        return False
    by_itself = stop_signal.reason is not StopReason.INTERRUPT
    seconds = TURN_TIMEOUT if request.stops > 1 else grace if by_itself else math.inf
    return time.monotonic() - stop_signal.since > seconds + TURN_TIMEOUT


def _is_ending(request: Request | None, grace: float) -> bool:
    """Whether its code has just ended by a stop: while it is being answered, it is not stopped."""
    return request is not None and time.monotonic() - request.ended_at < grace


def _is_nested_loop_here(token: trio.lowlevel.TrioToken) -> bool:
    """Whether the interrupted frame is of a loop that the user's code runs inside of that one."""
    return not trio.lowlevel.in_trio_task() and is_nested_in(token)


def _context_here(token: trio.lowlevel.TrioToken) -> Context | None:
    """The context of the interrupted frame: of its task, or of code that runs a nested loop."""
    if trio.lowlevel.in_trio_task():
        here = copy_context()  # within a step of another loop it is that of what steps there
        return here if request_of(here) is not None else trio.lowlevel.current_task().context
    return copy_context() if _is_nested_loop_here(token) else None
