"""What is to be done when a forked process is gone, which it can no longer do itself.

Whoever asks for a process may name a module for that. The process then has a file in memory, its
`descriptor`, into which it writes lines. However it ends, the last line that is whole is given to
``carry_out`` of that module, in a process of its own, unless the line is empty. The template sees
to it, which waits for the ends of its processes anyway: that takes no process that waits.

If the template is killed, nothing is done.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

import attrs

__all__ = ["LastWords", "descriptor"]

LONGEST = 1 << 20  # bytes that are read

descriptor: int | None = None
"""Of the file of this process, if it was forked with one."""


@attrs.frozen
class LastWords:
    """The file of one process, and the name of the module that reads its last line."""

    module: str
    fd: int

    @classmethod
    def opened(cls, module: str) -> LastWords:
        """A new file. Raises `OSError`."""
        if sys.platform != "linux":
            raise NotImplementedError
        return cls(module, os.memfd_create("trikernel-last-words", os.MFD_CLOEXEC))

    def take(self) -> None:
        """This is the process whose file it is."""
        global descriptor
        descriptor = self.fd

    def close(self) -> None:
        """Forget it, in a process that it is not for."""
        os.close(self.fd)

    def line(self) -> bytes:
        """The last line that is whole."""
        if sys.platform == "win32":
            raise NotImplementedError
        begins = max(0, os.fstat(self.fd).st_size - LONGEST)
        return os.pread(self.fd, LONGEST, begins).rpartition(b"\n")[0].rpartition(b"\n")[2]

    def carry_out(self, let_go: Callable[[], None]) -> None:
        """Have it done by a process that is nobody's child, which calls ``let_go`` first."""
        line = self.line()
        if not line or sys.platform == "win32":
            return
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            let_go()
            if os.fork() == 0:
                importlib.import_module(self.module).carry_out(line)
        finally:
            os._exit(0)
