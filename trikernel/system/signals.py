"""Signals and the main thread: one of our own that wakes it, and SIGINTs that it has not heard.

Python runs a signal handler between two instructions of the main thread. Where that blocks in C
code, or the signal came to another thread, the handler runs late or never: so signals are sent to
that very thread, and what has come is told apart from what was heard.

The default action of most signals ends the process, and code may put that in the place of a handler
at any time: `signal.signal(signal.SIGINT, signal.SIG_DFL)` is a habit of programs with windows. So
ours is one of the few that do nothing by default.
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

HARMLESS = ("SIGURG", "SIGWINCH")  # what hardly anybody handles, and what does nothing by default


def unused_signal() -> int | None:
    """A signal that nobody handles and that does nothing then, or None: Windows has none."""
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
    """Let a signal through again, from now on: what came before was for who has blocked it.

    In the main thread; its handler has to be set after this.
    """
    if sys.platform != "win32":
        if number in signal.sigpending():
            signal.signal(number, signal.SIG_IGN)  # which discards it, also for the whole process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})


class SignalArrivals:
    """That a SIGINT came, told apart from its handler having run.

    Python runs a handler between two instructions of the main thread, which may be blocked; the C
    code beneath writes the signal's number to the wakeup descriptor at once. So that descriptor is
    taken over, from the creation of this object, in the main thread, to `close`. ``came`` is called
    for each SIGINT where they are waited for. Every other signal with a Python handler writes
    there, too: ``other`` is called then, to wake the main thread as who had the descriptor did. A
    signal that comes in the moment before that thread waits does not end the wait.
    """

    HEARD = 0xFF  # no signal has that number

    def __init__(
        self,
        came: Callable[[], object] = lambda: None,
        other: Callable[[], object] = lambda: None,
    ) -> None:
        self._came, self._other = came, other
        self._since: float | None = None  # when what has not been heard has come
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._previous = -1
        self._previous = self.listen()

    def listen(self) -> int:
        """Take it (again: an event loop of a cell may have had it); who had it before."""
        return signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    def heard(self) -> None:
        """A handler runs: what came before this is seen to."""
        with suppress(BlockingIOError):
            self._writing.send(bytes([self.HEARD]))

    async def unheard(self, seconds: float) -> float:
        """Wait until a SIGINT has come whose handler has not run for so many seconds; how many
        it has been since the first one of those.
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
        """Give it back."""
        if signal.set_wakeup_fd(-1) == self._writing.fileno():
            with suppress(ValueError, OSError):  # who had it may be closed by now
                signal.set_wakeup_fd(self._previous, warn_on_full_buffer=False)
        self._reading.close()
        self._writing.close()
