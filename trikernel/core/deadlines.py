"""A request's deadline, watched by the service loop, and by a timer with a signal of our own.

For code that lets other threads run the service loop is enough. C code that keeps the interpreter
lock keeps the service loop from running, too: then a timer of the operating system signals the main
thread. It comes a little later than the loop, so that it is not needed where the loop was in time.
A request without a deadline has no timer. The service loop sends the same signal.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import attrs
import trio

from ..system import (
    SignalTimer,
    can_signal,
    run_in,
    signal_main_thread,
    unblock_signal,
    unused_signal,
)
from .request import Request, StopReason

__all__ = ["Deadline", "OwnSignal"]

LATE = 0.05  # seconds that the service loop has, before the timer signals for the first time
AGAIN = 0.05  # seconds between two signals of a timer


@attrs.define(eq=False)
class Deadline:
    """``request`` is to stop ``seconds`` from now. ``is_told`` is true once it was stopped."""

    request: Request
    seconds: float
    reason: StopReason = StopReason.TIMEOUT
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
        """Stop its timer. A signal that was sent just before is ignored."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.stop()


class OwnSignal:
    """The signal that the timers of deadlines and the service loop send to the main thread, where
    the system has one to spare. ``handler`` is called then, in the main thread.

    It is one whose default action does nothing: a cell may put that in the place of the handler.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handler = handler
        self._armed: list[Deadline] = []
        self._number: int | None = None

    def take(self) -> bool:
        """Set the handler, which a cell may have replaced; in the main thread. False without a
        signal.
        """
        number = self._number
        if number is None or signal.getsignal(number) not in (self._handler, signal.SIG_DFL):
            number = self._number = unused_signal()  # a cell has taken the one of before
        if number is None:
            return False
        unblock_signal(number)
        if not self._is_there():
            signal.signal(number, self._handler)
        return True

    def _is_there(self) -> bool:
        return self._number is not None and signal.getsignal(self._number) == self._handler

    def send(self, on_sigint: Callable[[int, FrameType | None], object]) -> None:
        """Wake the main thread, and have the handler run there; from any thread.

        If a cell has set a handler of SIGINT, SIGINT is sent instead, because that handler is meant
        for interrupts; also if our own signal has no handler any more, but SIGINT has the kernel's,
        ``on_sigint``. Else nothing happens.
        """
        handler = signal.getsignal(signal.SIGINT)
        if self._number is not None and self._is_there() and not _is_of_a_cell(handler, on_sigint):
            signal_main_thread(self._number)
        elif callable(handler):
            signal_main_thread(signal.SIGINT)

    def arm(self, deadline: Deadline) -> None:
        """Have the handler called a little after the deadline, and again until it is withdrawn. In
        other threads than the main one, do nothing.
        """
        if threading.current_thread() is not threading.main_thread() or not can_signal():
            return
        if not self.take() or self._number is None:
            return
        with suppress(OSError):  # the limit of timers: then as where there are none
            deadline.timer = SignalTimer(self._number, deadline.seconds + LATE, AGAIN)
            self._armed.append(deadline)

    def withdraw(self, deadline: Deadline, token: trio.lowlevel.TrioToken) -> None:
        """End its timer, and the task that waits for it in the loop of ``token``."""
        deadline.stop_timer()
        if deadline in self._armed:
            self._armed.remove(deadline)
        run_in(token, deadline.withdrawn.set)

    def past(self) -> list[Deadline]:
        """The deadlines that have passed; none for a signal that comes too late."""
        return [one for one in self._armed if one.is_past]

    def close(self) -> None:
        """Give the signal back: nobody handles it."""
        for deadline in self._armed:
            deadline.stop_timer()
        self._armed.clear()
        if self._number is not None and self._is_there():
            signal.signal(self._number, signal.SIG_DFL)
        self._number = None


def _is_of_a_cell(handler: object, on_sigint: object) -> bool:
    return callable(handler) and handler != on_sigint
