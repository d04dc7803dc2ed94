"""The process's own stderr, also while descriptor 2 is captured for a cell.

The kernel's log and the report of its crash go here. What is written to a captured descriptor has
to be read by the kernel, which may be what has crashed.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import traceback

__all__ = ["real_stderr", "report_crash", "stderr_descriptor"]

_ANYTHING = BaseException  # a name that exists also when the user's code has emptied the builtins


class RealStderr(io.TextIOBase):
    """Writes to ``fd`` while one is set, else to `sys.__stderr__`. There is one per process."""

    fd: int | None = None

    def write(self, text: str) -> int:
        """Write, and never fail: there is no other place to report to."""
        try:
            if self.fd is not None:
                os.write(self.fd, text.encode(errors="backslashreplace"))
            elif sys.__stderr__ is not None:
                sys.__stderr__.write(text)
                sys.__stderr__.flush()
        except (OSError, ValueError):
            pass
        return len(text)

    def writable(self) -> bool:
        """Always."""
        return True


real_stderr = RealStderr()


def stderr_descriptor() -> int:
    """The descriptor of the stderr that the process was started with."""
    return 2 if real_stderr.fd is None else real_stderr.fd


def report_crash(error: BaseException) -> None:
    """Print the error that this process ends by, even if much of it is broken by now. The process
    has to end after this.
    """
    try:
        traceback.print_exception(error, file=real_stderr)
    except _ANYTHING:
        os.write(stderr_descriptor(), b"the kernel ends by an error that cannot be shown\n")
        faulthandler.dump_traceback(stderr_descriptor())
