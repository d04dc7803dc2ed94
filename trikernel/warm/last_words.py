"""What is done after the end of a forked process, because that process can no longer do it.

A program that asks for a process may name a module for this. The process then has a file in memory,
open as `descriptor`, into which it writes lines. However it ends, its last complete line is given
to the function ``carry_out`` of that module, in a new process, unless the line is empty. The
template does this, as it waits for the ends of its processes anyway: so no other process has to
watch them.

If the template is killed, nothing is done.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

import attrs

__all__ = ["LastWords", "descriptor"]

LONGEST = 1 << 20  # bytes that are read, from the end of the file

descriptor: int | None = None
"""The descriptor of this process's file; None if it was not forked with one."""


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
        """Called in the forked process that the file is for."""
        global descriptor
        descriptor = self.fd

    def close(self) -> None:
        """Close the file in this process."""
        os.close(self.fd)

    def line(self) -> bytes:
        """The last complete line, without its newline; of a longer one its last `LONGEST` bytes."""
        if sys.platform == "win32":
            raise NotImplementedError
        begins = max(0, os.fstat(self.fd).st_size - LONGEST)
        return os.pread(self.fd, LONGEST, begins).rpartition(b"\n")[0].rpartition(b"\n")[2]

    def carry_out(self, let_go: Callable[[], None]) -> None:
        """Call the module's ``carry_out`` in a process that is forked twice, so that the template
        need not wait for it. It calls ``let_go`` first. Raises `OSError` if it cannot be forked.
        """
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
