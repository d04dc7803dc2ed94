"""The end of a process that is a kernel: a last word, and an end, whatever holds it up.

A thread that the user's code has left behind, or an exit handler, would keep a process alive that
nobody serves any more. What it may take is bounded here.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable
from contextlib import suppress

from ..core import last_word, stderr_descriptor
from ..errors import UsageError

__all__ = ["run_to_the_end"]

# By these names also when the user's code has emptied the builtins.
_ANYTHING, _MEANT = BaseException, (UsageError, SystemExit)
_CANNOT = (RuntimeError, ValueError, OSError)


def run_to_the_end(run: Callable[[], None], grace: float) -> None:
    """Call ``run``, the last thing that this process is for.

    What it raises goes to the real stderr, and the exit code is 1; `UsageError`, which comes before
    anything has run, is raised. From its end on the process has ``grace`` seconds to exit, then it
    is ended with the stacks of its threads on stderr, and exit code 1. 0 seconds: without an end.
    """
    try:
        run()
    except _MEANT:
        raise
    except _ANYTHING as error:
        last_word(error)
        _end_after(grace)
        sys.exit(1)
    _end_after(grace)


def _end_after(grace: float) -> None:
    if grace:
        with suppress(*_CANNOT):  # no thread can be started: then without
            faulthandler.dump_traceback_later(grace, exit=True, file=stderr_descriptor())
