"""Signals and the main thread: a signal of our own that wakes it, and SIGINTs not yet handled.

Python runs a signal handler between two instructions of the main thread. If that thread is blocked
in C code, or the system gave the signal to another thread, the handler runs late or never. So
signals are sent to the main thread itself, and the arrival of a SIGINT is noticed separately from
the run of its handler (`SignalArrivals`).

The default action of most signals ends the process, and the user's code may replace a handler by it
at any time: programs with windows often call ``signal.signal(signal.SIGINT, signal.SIG_DFL)``. So
our own signal is one of the few that do nothing by default.
"""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import trio

__all__ = ["SignalArrivals", "signal_main_thread", "unblock_signal", "unused_signal"]

HARMLESS = ("SIGURG", "SIGWINCH")  # rarely handled by programs, and without effect by default


def unused_signal() -> int | None:
    """One of the `HARMLESS` signals that has no handler, or None if all have one, and on Windows,
    which has no such signals.
    """
    for name in HARMLESS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            return int(number)
    return None


def signal_main_thread(number: int) -> None:
    """Have the handler of a signal run in the main thread, and wake that from a blocking call."""
    ident = threading.main_thread().ident
    if sys.platform != "win32" and ident is not None:
        signal.pthread_kill(ident, number)  # wakes a time.sleep, unlike raise_signal
    else:
        signal.raise_signal(number)


def unblock_signal(number: int) -> None:
    """Unblock a signal. One that came while it was blocked is discarded, as it was meant for the
    code that has blocked it.

    Call it in the main thread, and set the handler after it.
    """
    if sys.platform != "win32":
        if number in signal.sigpending():
            # discards what is pending, for this thread and for the whole process
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


class SignalArrivals:
    """Notices that a SIGINT has come, also while its handler cannot run.

    Python runs a handler between two instructions of the main thread, which may be blocked. Before
    that, Python's C code writes the number of the signal to the wakeup descriptor, at once. So this
    object takes over that descriptor, from its creation, in the main thread, to `close`.

    ``came`` is called for each SIGINT, in the loop that waits in `unheard`. Every other signal with
    a Python handler is written to the descriptor, too. Then ``other`` is called, which has to wake
    the main thread's loop, as the previous owner of the descriptor did. A signal that comes just
    before the main thread begins to wait does not end that wait by itself.
    """

    HEARD = 0xFF  # the byte for "a handler has run"; no signal has that number

    def __init__(
        self,
        came: Callable[[], object] = lambda: None,
        other: Callable[[], object] = lambda: None,
    ) -> None:
        self._came, self._other = came, other
        self._since: float | None = None  # when the first SIGINT came that is not handled yet
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._previous = -1
        self._previous = self.listen()

    def listen(self) -> int:
        """Take over the wakeup descriptor; returns the previous one. Called again later, as an
        event loop of a cell may have taken it.
        """
        return signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    def heard(self) -> None:
        """To be called by the handler of SIGINT: those that came before are handled by it."""
        with suppress(BlockingIOError):
            self._writing.send(bytes([self.HEARD]))

    async def unheard(self, seconds: float) -> float:
        """Wait until a SIGINT has come whose handler has not run for so many seconds. Returns how
        many seconds ago the first such SIGINT came.
        """
        while True:
            with trio.move_on_after(math.inf if self._since is None else seconds) as scope:
                for number in await self._receive():
                    if number == self.HEARD:
                        self._since = None
                    elif number == signal.SIGINT:
                        self._since = self._since or time.monotonic()
                        self._came()
                    else:
                        self._other()
            if scope.cancelled_caught and self._since is not None:
                return time.monotonic() - self._since

    async def _receive(self) -> bytes:
        while True:
            with suppress(BlockingIOError):
                arrived = self._reading.recv(1024)
                if not arrived:
                    raise OSError("the user's code has closed the pipe that signals arrive by")
                return arrived
            await trio.lowlevel.wait_readable(self._reading)

    def close(self) -> None:
        """Give the wakeup descriptor back to its previous owner."""
        if signal.set_wakeup_fd(-1) == self._writing.fileno():
            with suppress(ValueError, OSError):  # that descriptor may be closed by now
                signal.set_wakeup_fd(self._previous, warn_on_full_buffer=False)
        self._reading.close()
        self._writing.close()
