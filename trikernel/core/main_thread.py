"""The signals that stop code in the main thread: SIGINT, and one of our own.

SIGINT is a person's interrupt. The kernel has to signal the main thread, too: for a stop that is
not delivered yet, and at a deadline. That is another signal, where the system has one to spare: a
cell may have set SIGINT's default action, which ends the process. Ours is one whose default action
does nothing, so that a cell may set that as well.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

import trio

from ..system import (
    DroppedInterrupts,
    RepeatedEvent,
    SignalArrivals,
    SignalTimer,
    can_signal,
    run_in,
    signal_main_thread,
    unblock_signal,
    unused_signal,
)
from .stop_signals import TURN_TIMEOUT

__all__ = ["MainThreadSignals"]


class MainThreadSignals:
    """Takes both signals over, from `install` to `restore`, and sends them.

    ``on_signal(frame, by_us)`` is called for each of them in the main thread, which it has
    interrupted in ``frame``. ``by_us`` says that the kernel has sent it. `came` is set for each
    SIGINT, also while the main thread is blocked and no handler can run.
    """

    def __init__(self, on_signal: Callable[[FrameType | None, bool], object]) -> None:
        self.came = RepeatedEvent()
        self._on_signal = on_signal
        self._arrivals: SignalArrivals | None = None
        self._previous: object = None
        self._own: int | None = None
        self._dropped = DroppedInterrupts()
        self._sent_at = self._sigint_sent_at = self._taken_at = -math.inf

    def install(self, token: trio.lowlevel.TrioToken) -> None:
        """Take them over, in the main thread only. ``token`` is that of its loop."""
        self._previous = signal.signal(signal.SIGINT, self._on_sigint)
        self._take_own()
        self._dropped.install()
        self._arrivals = SignalArrivals(self._on_arrival, partial(run_in, token, int))

    def reinstall(self) -> None:
        """Take SIGINT back from the code of an earlier cell, which may have set a handler or a
        mask. A SIGINT that came while it was blocked was meant for that cell.
        """
        unblock_signal(signal.SIGINT)
        if not self._has_sigint():
            self._note_heard()  # what has come was for the cell's handler
            self._taken_at = time.monotonic()
            signal.signal(signal.SIGINT, self._on_sigint)
        self._take_own()
        if self._arrivals is not None:
            self._arrivals.listen()

    def restore(self) -> None:
        """Put back the handlers from before `install`."""
        self._give_back_own()
        self._dropped.restore()
        if self._has_sigint() and self._previous is not None:  # None for a handler of C code
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
        if self._arrivals is not None:
            self._arrivals.close()

    def after_fork(self) -> None:
        """In a forked child: an interrupt is what it is anywhere."""
        if self._has_sigint():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(-1)
        self._give_back_own()
        self._dropped.restore()

    def remind(self) -> None:
        """Have our handler run in the main thread, for a stop of the kernel's; from any thread."""
        self._sent_at = time.monotonic()
        self.run_handlers()

    def run_handlers(self) -> None:
        """Have Python run the handlers of what has come, in the main thread; from any thread.

        If a cell has set a handler of SIGINT, SIGINT is sent instead of our own signal, because
        that handler is meant for interrupts; also if ours has no handler any more, but SIGINT has.
        Else nothing happens.
        """
        handler = signal.getsignal(signal.SIGINT)
        is_of_a_cell = callable(handler) and not self._has_sigint()
        if self._own is not None and self._has_own() and not is_of_a_cell:
            signal_main_thread(self._own)
        elif callable(handler):
            self._sigint_sent_at = time.monotonic()
            signal_main_thread(signal.SIGINT)

    async def unheard(self) -> float:
        """Wait for a SIGINT whose handler, which is ours, has not run in time. Returns for how many
        seconds that could have run.

        A signal may come to another thread, or in the moment before the main thread blocks in a
        lock: then nothing wakes it.
        """
        assert self._arrivals is not None  # made by `install`
        while True:
            seconds = await self._arrivals.unheard(TURN_TIMEOUT)
            if self._has_sigint():  # perhaps since just now, and what came before was not for it
                return min(seconds, time.monotonic() - self._taken_at)

    def start_timer(self, seconds: float, interval: float) -> SignalTimer | None:
        """Have the system signal the main thread after so many seconds, and again at each interval.
        None in other threads, and where the system has no such timers, or no signal to spare.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if not (is_main and can_signal() and self._take_own()):
            return None
        assert self._own is not None
        with suppress(OSError):  # the limit of timers: then as where there are none
            return SignalTimer(self._own, seconds, interval)
        return None

    def _has_sigint(self) -> bool:
        return signal.getsignal(signal.SIGINT) == self._on_sigint

    def _has_own(self) -> bool:
        return self._own is not None and signal.getsignal(self._own) == self._on_own_signal

    def _take_own(self) -> bool:
        """Set the handler of our own signal, which a cell may have replaced; False without one."""
        number = self._own
        if number is None or signal.getsignal(number) not in (self._on_own_signal, signal.SIG_DFL):
            number = self._own = unused_signal()  # a cell has taken the one of before
        if number is None:
            return False
        unblock_signal(number)
        if not self._has_own():
            signal.signal(number, self._on_own_signal)
        return True

    def _give_back_own(self) -> None:
        if self._own is not None and self._has_own():
            signal.signal(self._own, signal.SIG_DFL)
        self._own = None

    def _note_heard(self) -> None:
        if self._arrivals is not None:
            self._arrivals.heard()

    def _on_arrival(self) -> None:
        if time.monotonic() - self._sigint_sent_at >= TURN_TIMEOUT:  # else it is ours
            self.came.set()

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        self._note_heard()
        # one of ours is handled at once; one that comes later is a person's
        by_us = time.monotonic() - self._sent_at < TURN_TIMEOUT
        self._sent_at = -math.inf
        self._on_signal(frame, by_us)

    def _on_own_signal(self, signum: int, frame: FrameType | None) -> None:
        self._note_heard()  # Python runs the handler of SIGINT first, whoever's that is
        self._sent_at = -math.inf
        self._on_signal(frame, True)
