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
    again every 50 ms until it is delivered (`escalation`). Our handler raises `KeyboardInterrupt`
    at once if the interrupted frame is unprotected and belongs to the request that is to stop, or
    if the loop has not turned for 50 ms; otherwise the stop stays pending. Our own code is marked
    as protected (`trio.lowlevel.enable_ki_protection`), the user's is called through frames that
    are not. If Python drops the exception, because it was raised in a weak reference's callback for
    example, the request is interrupted again (`system.dropped_interrupts`). Nothing is raised where
    a scheduler of the user's is at work (`schedulers`).
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
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from weakref import ref

import trio

from ..errors import CellStopped
from ..system import (
    DroppedInterrupts,
    RemoteNursery,
    RepeatedEvent,
    interrupt_nested_run,
    on_fork,
    run_in,
)
from .deadlines import Deadline, Deadlines
from .escalation import SIGNAL_AFTER, Escalation
from .interrupted import InterruptedCode
from .line_lot import Swallowed
from .main_thread import MainThreadSignals
from .places import where_it_runs, where_it_stands
from .request import Request, StopReason, current_request
from .schedulers import PATIENCE
from .stop_signals import (
    THIRD_STEP,
    TURN_TIMEOUT,
    StopEvent,
    StopSignal,
    StopState,
    is_ending,
    is_stuck,
)
from .thread_stop import raise_in_thread

__all__ = ["Stopper"]

FINALIZERS_AFTER = 0.5  # seconds after which a stop is also raised in finalizers of another thread


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
        self.services = services or RemoteNursery()
        self.stuck = RepeatedEvent()
        self._token, self._on_pending = token, on_pending
        self._owns_loop, self._grace = owns_loop, grace
        self._thread = thread or threading.main_thread().ident or 0
        self._is_main = thread is None
        self._escalates = not self._is_main
        self._raised: ref[Request] | None = None  # in whose code a stop was raised last
        self._swallowed, self._lock = Swallowed(), threading.RLock()
        self._signals = MainThreadSignals(self._on_signal)
        self.sigint_came = self._signals.came
        self._deadlines = Deadlines(self.services, self._signals.start_timer)
        self._escalation = Escalation(
            self.running,
            self.pending,
            self._thread,
            grace,
            SIGNAL_AFTER if self._is_main else TURN_TIMEOUT,
            tell,
        )
        on_fork(self)
        if not self._is_main:
            DroppedInterrupts.tell(self, self._thread)

    def after_fork(self) -> None:
        """In a forked child: an interrupt is what it is anywhere."""
        self._escalates, self._lock = False, threading.RLock()
        self.services.close()
        self.pending.clear()
        self._deadlines.close()
        if self._is_main:
            self._signals.after_fork()
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

    def stop(self, request: Request | None, reason: StopReason, *, is_step: bool = True) -> None:
        """Stop ``request`` for ``reason``, or take the next step if it is being stopped already.
        None stands for code that belongs to no request. Without ``is_step`` it is a step that was
        lost, again.
        """
        stop_signal = StopSignal(request, reason)
        with self._lock:
            self.pending.append(stop_signal)
            self._on_pending(True)
        if request is not None:
            if is_step:
                request.count_stop(stop_signal.since)
            request.mark(reason)
        run_in(self._token, lambda: self._deliver(stop_signal))
        if self._escalates:
            self.services.start_soon(self._escalate, stop_signal)

    def raise_again(self) -> bool:
        """Have the stop that was raised last raised again, because Python has dropped it. False if
        none was, of code that still runs.
        """
        request = self._raised() if self._raised is not None else None
        if request is None or request not in self.running:
            return False
        self.stop(request, request.stop_reason or StopReason.INTERRUPT, is_step=False)
        return True

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
                tell = self._escalation.tell_if_it_lingers
                self.services.start_soon(tell, request, self._token)
            return
        # the first stop came late, perhaps
        pause = TURN_TIMEOUT if is_interrupt else 0.9 * self._grace
        if now - request.stopped_at > pause and not is_ending(request, self._grace):
            self._abandoned.send_nowait(request)

    def raise_pending(self) -> None:
        """Raise `KeyboardInterrupt` if the calling request has a stop that is not delivered yet.

        For the unprotected end of functions that user code calls in a loop, `print` above all:
        without it a loop that spends its time in protected code could not be stopped.
        """
        request = current_request.get() if self.pending else None
        if (
            request is not None
            and not trio.lowlevel.currently_ki_protected()  # the kernel calls them too
            and self.consume(request)
        ):
            raise self._exception_for(request, sys._getframe())

    def consume(self, request: Request | None) -> bool:
        """Mark the stops of a request as delivered: the caller raises an exception in its code.
        False if there are none, or no longer: its scope is cancelled, which nobody takes back; and
        in another thread than the loop's, whose code does not hear of it by that.
        """
        if threading.get_ident() != self._thread:
            return False
        with self._lock:
            heard = [one for one in self.pending if one.request is request]
            for stop_signal in heard:
                self._mark_delivered(stop_signal, StopEvent.RAISE)
        if heard and request is not None:
            self._raised = ref(request)
            request.consume_interrupt()
        return bool(heard)

    def _mark_delivered(self, stop_signal: StopSignal, event: StopEvent) -> None:
        stop_signal.advance(event)
        if stop_signal in self.pending:
            self.pending.remove(stop_signal)
            if not self.pending:
                self._on_pending(False)

    # In the service loop

    def serve_from(self, nursery: trio.Nursery, *, escalates: bool) -> None:
        """Have deadlines watched in the calling loop. ``escalates`` says that it runs in another
        thread than the user loop, so that it can remind that one until a stop is delivered.
        """
        self.services.open(nursery)
        self._escalates = escalates
        self._deadlines.has_timers = escalates and self.installed
        if self.installed:
            nursery.start_soon(self._repeat_unheard, name="signal watch")

    def stop_after(self, request: Request, seconds: float) -> None:
        """Give a request another deadline, ``seconds`` from now; none for 0 seconds."""
        if not seconds or request.finished:
            request.replace_deadline(lambda: None)
            return
        self.services.start_soon(self._watch, self._deadlines.set(request, seconds))

    async def _watch(self, deadline: Deadline) -> None:
        if await deadline.wait_until_due():
            self.stop(deadline.request, deadline.reason)

    async def _escalate(self, stop_signal: StopSignal) -> None:
        if await self._escalation.until_next_step(stop_signal, self._remind):
            self.stop(stop_signal.request, stop_signal.reason)
        elif await self._escalation.is_held_up(stop_signal, self._token):
            self.stop(stop_signal.request, stop_signal.reason, is_step=False)

    def _remind(self, stop_signal: StopSignal) -> bool:
        """Have the thread look at a stop that is not delivered; False if it is to be left."""
        if self._is_main:
            self._signals.remind()
            return True
        request = stop_signal.request
        if is_stuck(stop_signal, self._grace):
            self.stuck.set()
            return False
        if not is_ending(request, self._grace):
            insists = request is not None and request.stops >= THIRD_STEP
            kind = CellStopped if insists else KeyboardInterrupt
            heard = partial(self.consume, request)
            waits = not insists and time.monotonic() - stop_signal.since < PATIENCE
            # what is raised in a finalizer is dropped: it would have to be raised again
            late = time.monotonic() - stop_signal.since > FINALIZERS_AFTER
            raise_in_thread(
                self._thread,
                kind,
                heard,
                finalizers=insists or (late and DroppedInterrupts.are_told()),
                tasks=self._owns_loop,
                waits=waits,
            )
        return True

    async def _repeat_unheard(self) -> None:
        """Wake the main thread if it has not run the handler of a SIGINT that came, so that no
        interrupt is lost. If that has lasted for ``grace``, the main thread is in C code that does
        not check for signals: interrupt that.
        """
        while True:
            seconds = await self._signals.unheard()
            if self.pending:
                continue
            if seconds > self._grace and self.running:
                self.interrupt()
            self._signals.run_handlers()

    # In the main thread, as it is signalled

    def install(self) -> None:
        """Take over SIGINT; in the main thread only."""
        self._signals.install(self._token)
        DroppedInterrupts.tell(self, self._thread)
        self.installed = True

    def reinstall(self) -> None:
        """Once installed, take SIGINT back from the code of an earlier cell."""
        self._signals.reinstall()

    def restore(self) -> None:
        """Put back the handler from before `install`; a second time, do nothing."""
        if self.installed:
            self.installed = False
            self._deadlines.close()
            self._signals.restore()

    def _on_signal(self, frame: FrameType | None, by_us: bool) -> None:
        """The main thread was signalled, in ``frame``: raise what is due, if that may be done here.

        ``by_us`` says that we have sent it for a stop that is pending, or that a timer has.
        """
        if by_us:
            for deadline in self._deadlines.take_due(self.running, self._escalation.pause_after):
                self.stop(deadline.request, deadline.reason)
        now = time.monotonic()
        live = [one for one in self.pending if one.is_live(self.running)]
        if by_us and not live:
            return
        code = InterruptedCode.here(frame, self._token, owns_loop=self._owns_loop, by_us=by_us)
        here = code.request
        due = [one for one in live if one.request is here or now - one.since >= TURN_TIMEOUT]
        due = [one for one in due if not is_ending(one.request, self._grace)]
        since = min((one.since for one in due), default=now)
        waits = code.scheduler is not None and now - since < PATIENCE
        if waits or not code.is_open or not (due if by_us else here in self.running):
            if not by_us:
                self.interrupt()
            if code.scheduler is not None:
                code.scheduler.have_called(self.raise_pending)
            return
        if by_us:
            self._consume_here(due, here)
        elif here is not None:
            here.count_stop(now)
            if here.stops >= THIRD_STEP:
                self.stop(here, StopReason.INTERRUPT)
        if code.is_nested:
            interrupt_nested_run(self._exception_for(here, None))
            return
        raise self._exception_for(here, frame)

    def _consume_here(self, due: list[StopSignal], here: Request | None) -> None:
        with self._lock:
            for stop_signal in due:
                is_heard = stop_signal.request in (None, here)  # `_deliver` cancels the others
                if is_heard and stop_signal.state is StopState.PENDING:
                    self._mark_delivered(stop_signal, StopEvent.RAISE)
        if here is not None:
            here.consume_interrupt()

    def _exception_for(self, request: Request | None, frame: FrameType | None) -> BaseException:
        """The exception to raise in ``frame``, in the code of a request that is to stop."""
        self._raised = ref(request) if request is not None else None
        if request is None or request.stops < THIRD_STEP:
            return KeyboardInterrupt()
        if self._swallowed.count(request, frame) == 1:
            self._deadlines.repeat(request)
        return CellStopped()
