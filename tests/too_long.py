"""A test that does not end fails, where it stands, and the run goes on.

Its own bounds come first, and say more. This is for a wait that has none, and whose end a fault has
taken away: of a process by ``with Popen(...)``, of a thread, of a line in a pipe. The stacks of all
threads go to stderr. Then the main thread raises, again and again: who cleans up may wait for the
same thing. What does not hear of that either is ended with the run by ``faulthandler_timeout`` of
``pyproject.toml``.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

__all__ = ["ends_in_time"]

SECONDS, THOROUGH = 300, 800  # for what takes a minute on a machine that does much else
AGAIN = 20  # seconds


@contextmanager
def ends_in_time(seconds: float) -> Iterator[None]:
    """Fail what takes longer; in the main thread, by SIGALRM."""
    if sys.platform == "win32":
        yield
    else:

        def fail(number: int, frame: FrameType | None) -> None:
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            pytest.fail(f"it has not ended within {seconds:g} seconds", pytrace=True)

        previous = signal.signal(signal.SIGALRM, fail)
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
