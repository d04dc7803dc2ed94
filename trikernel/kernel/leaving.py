"""The end of a process that is a kernel: a last word, and an end, whatever holds it up.

A thread that the user's code has left behind, or an exit handler, would keep a process alive that
nobody serves any more. What it may take is bounded here.
"""

from __future__ import annotations

import faulthandler
import os
import traceback
from collections.abc import Callable
from contextlib import suppress

from ..core import real_stderr
from ..errors import UsageError

__all__ = ["run_to_the_end"]

PATIENCE = 3.0  # seconds that threads and exit handlers have, once the kernel has ended


def run_to_the_end(run: Callable[[], None]) -> None:
    """Call ``run``, the last thing that this process is for.

    What it raises goes to the real stderr, and the exit code is 1; `UsageError`, which comes before
    anything has run, is raised. From its end on the process has 3 seconds to exit, then it is ended
    with the stacks of its threads on stderr, and exit code 1.
    """
    try:
        run()
    except (UsageError, SystemExit):
        raise
    except BaseException as error:
        _say(error)
        _end_soon()
        raise SystemExit(1) from None
    _end_soon()


def _say(error: BaseException) -> None:
    """The error, on the stderr that the process was started with, whatever is broken by now."""
    try:
        traceback.print_exception(error, file=real_stderr)
    except BaseException as second:  # the user's code has taken builtins away: a word is left
        os.write(_stderr(), b"the kernel has ended by an error that cannot be shown\n")
        faulthandler.dump_traceback(_stderr())
        if not isinstance(second, Exception):
            raise


def _end_soon() -> None:
    with suppress(RuntimeError, ValueError, OSError):  # no thread can be started: then without
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=_stderr())


def _stderr() -> int:
    return real_stderr.fd if real_stderr.fd is not None else 2
