"""A request's deadline, watched by the service loop, and by a timer with a signal of our own.

The service loop is enough for all code that lets other threads run. C code that keeps the
interpreter lock keeps the service loop from running, too: a timer of the system signals the main
thread then, a little later, so that it has nothing to do where the loop was in time. A request
without a deadline has no timer. The service loop signals by the same number.
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
    """``request`` is to stop ``seconds`` from now. ``is_told`` once it was told to."""

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
        """No signal comes any more, or it finds nothing to do."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.stop()


class OwnSignal:
    """The signal by which the main thread is told, where the system has one: by the timers of
    deadlines, and by the service loop. ``handler`` is what is called then, in the main thread.

    A signal of ours is never one that would end the process if a cell has put the default action
    in the place of its handler.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handler = handler
        self._armed: list[Deadline] = []
        self._number: int | None = None

    def take(self) -> bool:
        """Have the handler there, which a cell may have taken away; in the main thread."""
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

        A handler of SIGINT that a cell has set is called instead: it is for interrupts. So is
        ``on_sigint``, the one of the kernel, where the signal of our own is taken away. With
        neither nothing happens.
        """
        handler = signal.getsignal(signal.SIGINT)
        if self._number is not None and self._is_there() and not _is_of_a_cell(handler, on_sigint):
            signal_main_thread(self._number)
        elif callable(handler):
            signal_main_thread(signal.SIGINT)

    def arm(self, deadline: Deadline) -> None:
        """Have the handler called a little after the deadline, and on and on until it is withdrawn.

        From other threads than the main one, nothing.
        """
        if threading.current_thread() is not threading.main_thread() or not can_signal():
            return
        if not self.take() or self._number is None:
            return
        with suppress(OSError):  # the limit of timers: then as where there are none
            deadline.timer = SignalTimer(self._number, deadline.seconds + LATE, AGAIN)
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
        """Give the signal back: nobody handles it."""
        for deadline in self._armed:
            deadline.stop_timer()
        self._armed.clear()
        if self._number is not None and self._is_there():
            signal.signal(self._number, signal.SIG_DFL)
        self._number = None


def _is_of_a_cell(handler: object, on_sigint: object) -> bool:
    return callable(handler) and handler != on_sigint
