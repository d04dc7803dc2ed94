"""That a signal came, told apart from its handler having run.

Python runs a handler between two instructions of the main thread, which may be blocked. The C
code beneath writes a byte to a descriptor at once; that is what this waits for.
"""

from __future__ import annotations

import math
import signal
import socket
import threading
from contextlib import suppress

import trio

__all__ = ["SignalArrivals", "signal_main_thread"]

_HEARD = b"\xff"  # no signal has that number


class SignalArrivals:
    """From its creation, in the main thread, to `close`: takes over the wakeup descriptor."""

    def __init__(self) -> None:
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
            self._writing.send(_HEARD)

    async def unheard(self, patience: float) -> None:
        """Wait until a signal has come whose handler has not run for ``patience`` seconds."""
        last = _HEARD
        while True:
            with trio.move_on_after(math.inf if last == _HEARD else patience) as scope:
                last = (await self._receive())[-1:]
            if scope.cancelled_caught:
                return

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


def signal_main_thread() -> None:
    """Have the handler of SIGINT run in the main thread, and wake that from a blocking call."""
    ident = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and ident is not None:
        signal.pthread_kill(ident, signal.SIGINT)  # wakes a time.sleep, unlike raise_signal
    else:
        signal.raise_signal(signal.SIGINT)
