"""A signal from the system when the process that has started this one ends.

Waiting for a process (`process_end`) takes a thread that gets the interpreter lock. C code that
keeps the lock keeps that thread waiting, but if it looks for signals, as ``re`` does, a signal
reaches it. Linux sends one by ``PR_SET_PDEATHSIG``, for which Python has no function.

The system sends it when the *thread* that has started this process ends, and, if another thread of
that process has become the parent, when that one ends, too. So it says only that somebody should
look whether the parent has changed. It is sent for the real parent alone: a process that has asked
another one to start this one, a fork server for example, cannot be watched by it.

A forked child does not inherit the wish; a program that replaces this one by `os.exec` does. So the
signal has to be one whose default action does nothing.
"""

from __future__ import annotations

import sys

__all__ = ["signal_at_parents_end"]

PR_SET_PDEATHSIG = 1  # of Linux, on every processor


def signal_at_parents_end(number: int) -> bool:
    """Have the system send this signal to the process when its parent, or only the thread that has
    started it, ends; 0 takes that back. Returns whether the system does so.

    The wish is the calling thread's, and ends with it.
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number)) == 0)
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, or no shared library
        return False
