"""The process's own stderr, also while descriptor 2 is captured for a cell.

The kernel's log and its last words go here: in a captured descriptor they would wait for a
reader that may be the one who just died.
"""

from __future__ import annotations

import io
import os
import sys

__all__ = ["RealStderr", "real_stderr"]


class RealStderr(io.TextIOBase):
    """Writes to ``fd`` while one is set, else to `sys.__stderr__`. There is one per process."""

    fd: int | None = None

    def write(self, text: str) -> int:
        """Write and do not fail: who speaks here has nobody else left to tell."""
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
