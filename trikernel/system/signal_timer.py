"""Timers that signal the main thread, which C code that keeps the interpreter lock may hear.

What is wanted
    A deadline that reaches C code which does not let go of the lock, and looks for signals now and
    then (``re`` and long integers do): such code hears nothing else. What the user's code does with
    signals and timers stays its own, and so does what it starts.

What does not work
    A thread, a Trio loop among them, needs the lock in order to send a signal. `signal.alarm` and
    `signal.setitimer` need none, but a process has one of each, with SIGALRM, SIGVTALRM and
    SIGPROF: those are for the cell, as anywhere. `faulthandler` has a thread without the lock,
    which can only print and exit.

What is done
    POSIX timers, of which a process may have many. Python has no function for them, so the C
    library's are called through `ctypes`. Linux can send their signal to one thread
    (``SIGEV_THREAD_ID``), which ends a blocking call of that thread, too. The signal is
    `unused_signal`, and Python's handler is told its number: it is never taken for a person's
    SIGINT. A forked child does not inherit such timers, and a program that replaces this one has
    none.

What remains
    macOS has no such timers, Windows no such signals; the layout of the structures is that of
    64-bit Linux. Elsewhere `can_signal` is false, and such C code hears of a deadline when it lets
    go of the lock. Code that never looks for signals cannot be reached by them.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

__all__ = ["SignalTimer", "can_signal"]

CLOCK_MONOTONIC, SIGEV_THREAD_ID = 1, 4  # of Linux, on every processor
NANO = 10**9

_library: Any = None


def _load() -> Any:
    """The C library with its timers, or False where there are none."""
    global _library
    if _library is None:
        _library = False
        if sys.platform == "linux" and sys.maxsize > 2**32:
            try:
                import ctypes

                for name in (None, "librt.so.1"):  # where a C library of before 2021 has them
                    library = ctypes.CDLL(name, use_errno=True)
                    if hasattr(library, "timer_create"):
                        _library = library
                        break
            except (ImportError, OSError):  # a Python without ctypes, or without shared libraries
                pass
    return _library


def can_signal() -> bool:
    """Whether this system has timers that signal a thread."""
    return bool(_load())


class SignalTimer:
    """Sends ``number`` to the main thread after so many seconds, and again at each interval.

    From its creation, in the main thread, to `stop`. Raises `OSError` if the system has no more
    timers. Where no handler is there, the signal does what it does by default.
    """

    def __init__(self, number: int, seconds: float, interval: float) -> None:
        import ctypes

        library = _load()
        if not library:
            raise OSError("this system has no timers that signal a thread")
        ident = threading.main_thread().native_id
        # struct sigevent: the value, the signal, how to notify, the thread; 64 bytes in all
        event = (ctypes.c_int * 16)(0, 0, number, SIGEV_THREAD_ID, ident or 0)
        self._library = library
        self._process = os.getpid()
        self._ident: Any = ctypes.c_void_p()
        create = library.timer_create
        if create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._ident)):
            raise OSError(ctypes.get_errno(), "timer_create")
        first, again = int(max(seconds, 0) * NANO) or 1, int(interval * NANO)
        # struct itimerspec: the interval, then the first time, in seconds and nanoseconds
        times = (ctypes.c_long * 4)(*divmod(again, NANO), *divmod(first, NANO))
        if library.timer_settime(self._ident, 0, ctypes.byref(times), None):
            error = ctypes.get_errno()
            self.stop()
            raise OSError(error, "timer_settime")

    def stop(self) -> None:
        """Signal no more; what has been signalled may still be handled. In a forked child, and a
        second time, nothing.
        """
        ident, self._ident = self._ident, None
        if ident is not None and os.getpid() == self._process:
            self._library.timer_delete(ident)
