"""Where `print`, `input` and `getpass` of a cell go: to the kernel whose request they run for.

The redirections are put in place while at least one Python kernel is served, and they look at
the calling context: text of a cell goes to its kernel, everything else where it went before.
In a process that is a kernel, text without a context belongs to the running or the last cell.
"""

from __future__ import annotations

import builtins
import getpass
import sys
from typing import Any

from ..core import OpenText, current_request
from ..system import on_fork
from .outstream import OutStream, StreamKernel
from .threads import ThreadPatches

__all__ = ["Redirections", "redirections"]


class Redirections:
    """The process's streams and input functions, redirected while a kernel is served."""

    def __init__(self) -> None:
        self._kernels: list[StreamKernel] = []
        self._saved: dict[str, Any] = {}
        self._streams: list[OutStream] = []
        self._threads = ThreadPatches()
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: text goes to the process's own streams."""
        if self._kernels:
            self._kernels.clear()
            self._restore()
            for stream in self._streams:  # a logging handler may hold one
                stream.forget()
            sys.stdout = getattr(sys, "__stdout__", None)
            sys.stderr = getattr(sys, "__stderr__", None)

    def kernel(self) -> StreamKernel | None:
        """The kernel that the calling code runs for."""
        request = current_request.get()
        if request is not None and request.application in self._kernels:
            return request.application  # type: ignore[no-any-return]
        last = self._kernels[-1] if self._kernels else None
        return last if last is not None and last.server.owns_process else None

    def reopen(self, closed: OpenText) -> None:
        """A piece of text came while it was being closed."""
        kernel = self.kernel()
        if kernel is not None:
            kernel.server.outbox.reopen(closed)

    def add(self, kernel: StreamKernel) -> None:
        """Redirect for this kernel too."""
        if not self._kernels:
            self._install()
        self._kernels.append(kernel)

    def remove(self, kernel: StreamKernel) -> bool:
        """No longer for this one; the last one puts everything back. Whether it was the last."""
        if kernel in self._kernels:
            kernel.server.outbox.close_text()
            self._kernels.remove(kernel)
            if not self._kernels:
                self._restore()
        return not self._kernels

    def _install(self) -> None:
        self._saved = {
            "stdout": sys.stdout,
            "stderr": sys.stderr,
            "input": builtins.input,
            "getpass": getpass.getpass,
        }
        self._threads.install()
        sys.stdout = out = OutStream("stdout", sys.stdout, self)
        sys.stderr = err = OutStream("stderr", sys.stderr, self)
        self._streams = [out, err]
        builtins.input, getpass.getpass = self._input, self._getpass

    def _restore(self) -> None:
        self._threads.restore()
        sys.stdout, sys.stderr = self._saved["stdout"], self._saved["stderr"]
        builtins.input, getpass.getpass = self._saved["input"], self._saved["getpass"]

    def _input(self, prompt: object = "", /) -> str:
        """Ask the person at the frontend."""
        kernel = self.kernel()
        if kernel is None:
            return str(self._saved["input"](prompt))
        return kernel.raw_input(str(prompt))

    def _getpass(self, prompt: str = "Password: ", stream: Any = None) -> str:
        """Ask the person at the frontend, without showing what is typed."""
        kernel = self.kernel()
        if kernel is None:
            return str(self._saved["getpass"](prompt, stream))
        return kernel.getpass(prompt, stream)


redirections = Redirections()
