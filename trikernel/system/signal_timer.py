"""Timers that send a signal to the main thread, also while C code keeps the interpreter lock.

What is wanted
    A deadline that reaches C code which does not release the lock, but checks for signals now and
    then (``re`` and long integers do): nothing but a signal reaches such code. Signals and timers
    that the user's code uses, and processes that it starts, must not be affected.

What does not work
    A thread needs the lock in order to send a signal, and so does a Trio loop in a thread.
    `signal.alarm` and `signal.setitimer` need no thread, but a process has only one of each, with
    SIGALRM, SIGVTALRM and SIGPROF: those are left to the cell. `faulthandler` has a thread that
    does not need the lock, but it can only print and exit.

What is done
    POSIX timers, of which a process may have many. Python has no function for them, so the C
    library's are called through `ctypes`. Linux can send their signal to one thread
    (``SIGEV_THREAD_ID``), which ends a blocking call of that thread, too. The signal is
    `unused_signal`; as Python's handler is told its number, it is never taken for a person's
    SIGINT. A forked child does not inherit such timers, and `os.exec` removes them.

What remains
    macOS has no such timers, Windows no such signals; the layout of the structures is that of
    64-bit Linux. Elsewhere `can_signal` is false, and such C code is reached by a deadline when it
    releases the lock. Code that never checks for signals cannot be reached by them.
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

                for name in (None, "librt.so.1"):  # there glibc before 2.34 has them
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

    It runs from its creation, in the main thread, to `stop`. Raises `OSError` if the system has no
    more timers. Where no handler is set, the signal has its default action.
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
        """Send no more signals; one that was sent before may still be handled. Does nothing in a
        forked child, or when it is called again.
        """
        ident, self._ident = self._ident, None
        if ident is not None and os.getpid() == self._process:
            self._library.timer_delete(ident)
