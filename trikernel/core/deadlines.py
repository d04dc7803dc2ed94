"""A request's deadline: watched by the service loop, and by a timer that signals.

The service loop is enough for all code that lets other threads run. C code that keeps the
interpreter lock keeps the service loop from running, too: a timer of the system signals the main
thread then, a little later, so that it has nothing to do where the loop was in time. A request
without a deadline has none of this.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import attrs
import trio

from ..system import SignalTimer, can_signal, run_in, unused_signal
from .request import Request

__all__ = ["Deadline", "DeadlineSignal"]

LATE = 0.05  # seconds that the service loop has, before the timer signals for the first time
AGAIN = 0.05  # seconds between two signals of a timer


@attrs.define(eq=False)
class Deadline:
    """``request`` is to stop ``seconds`` from now. ``is_told`` once it was told to."""

    request: Request
    seconds: float
    is_told: bool = False
    timer: SignalTimer | None = None
    withdrawn: trio.Event = attrs.field(factory=trio.Event)
    _due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds

    async def passes(self) -> bool:
        """Wait until it has passed; False if it is withdrawn before. In the loop of the event."""
        with trio.move_on_after(self.seconds):
            await self.withdrawn.wait()
            return False
        return True

    @property
    def is_past(self) -> bool:
        """Whether it has passed by the clock of the system, which timers go by."""
        return time.monotonic() >= self._due

    def stop_timer(self) -> None:
        """No signal comes any more, or it finds nothing to do."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.stop()


class DeadlineSignal:
    """The signal of the timers, from the first deadline on, where the system has such timers.

    In the main thread only.
    """

    def __init__(self) -> None:
        self._armed: list[Deadline] = []
        self._number: int | None = None

    def arm(self, deadline: Deadline, handler: Callable[[int, FrameType | None], object]) -> None:
        """Have ``handler`` called in the main thread a little after the deadline, and on and on
        until it is withdrawn.
        """
        if threading.current_thread() is not threading.main_thread() or not can_signal():
            return
        number = self._number
        if number is None or signal.getsignal(number) not in (handler, signal.SIG_DFL):
            number = self._number = unused_signal()  # a cell has taken the one of before
        if number is None or sys.platform == "win32":
            return
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        with suppress(OSError):  # the limit of timers: then as where there are none
            deadline.timer = SignalTimer(number, deadline.seconds + LATE, AGAIN)
            self._armed.append(deadline)

    def withdraw(self, deadline: Deadline, token: trio.lowlevel.TrioToken) -> None:
        """It is over, for its timer and for who waits for it in the loop of ``token``."""
        deadline.stop_timer()
        if deadline in self._armed:
            self._armed.remove(deadline)
        run_in(token, deadline.withdrawn.set)

    def past(self) -> list[Deadline]:
        """Those that have passed. None for a signal that comes late: it must hit nobody else."""
        return [one for one in self._armed if one.is_past]

    def close(self) -> None:
        """Give the signal back: nobody handles it, and none that was sent is left."""
        for deadline in self._armed:
            deadline.stop_timer()
        self._armed.clear()
        if self._number is not None:
            signal.signal(self._number, signal.SIG_IGN)  # one that is blocked would end the process
            signal.signal(self._number, signal.SIG_DFL)
            self._number = None
