"""Where `print`, `input` and `getpass` of a cell go: to the kernel whose request they run for.

The redirections are put in place while at least one Python kernel is served, and they look at
the calling context: text of a cell goes to its kernel, everything else where it went before.
In a process that is a kernel, text without a context belongs to the running or the last cell.
"""

from __future__ import annotations

import builtins
import codecs
import getpass
import io
import sys
from typing import Any, Protocol, TextIO

from ..core import CLOSED, OpenText, Server, current_request
from ..transport import forget_in_child
from .capture import captures_open, current_capture
from .threads import ThreadPatches

__all__ = ["OutStream", "Redirections", "StreamKernel", "redirections"]


class StreamKernel(Protocol):
    """What a redirection asks of a Python kernel."""

    comm_manager: Any
    iopub_socket: Any

    def send_response(self, stream: Any, msg_or_type: Any, content: Any) -> None:
        """Send one message about the current request."""

    @property
    def server(self) -> Server:
        """The server that it is part of."""

    def raw_input(self, prompt: str = "") -> str:
        """Ask, and block until the answer is there."""

    def getpass(self, prompt: str = "", stream: Any = None) -> str:
        """Ask for a password."""

    def write_stream(self, name: str, text: str) -> None:
        """Append text of the calling context to ``stdout`` or ``stderr``."""

    def open_stream(self, name: str) -> OpenText | None:
        """The same, to append piece by piece; None where each piece has to be looked at."""


_current = current_request.get
_NOTHING_OPEN = OpenText(CLOSED, None, "")
_PIECE = 4096  # characters of a text that is written piece by piece, and how many pieces
_PIECES = 4096  # may wait: what is beyond goes the way that watches the size


class OutStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of the cells."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, original: TextIO | None, redirections: Redirections) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self._stream = name
        self._original = original
        self._redirections = redirections
        self._opened = _NOTHING_OPEN
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Append to the current cell's stream; it is sent within `flush_interval` seconds."""
        opened, length = self._opened, len(text)
        if (
            opened.writer is _current()
            and type(text) is str
            and length < _PIECE
            and len(opened.pieces) < _PIECES
        ):
            opened.pieces.append(text)
            if opened.writer is CLOSED:
                self._redirections.reopen(opened)
            return length
        return self._write(text)

    def _write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        capture = current_capture.get()
        if capture is not None and capture.take_text(self._stream, text):
            return len(text)
        kernel = self._redirections.kernel()
        if not text:
            return 0
        if kernel is None:
            return self._original.write(text) if self._original is not None else len(text)
        opened = None
        if len(text) < _PIECE and not captures_open():
            opened = kernel.open_stream(self._stream)
        if opened is not None:
            self._opened = opened
            opened.pieces.append(text)
            if opened.writer is CLOSED:
                kernel.server.outbox.reopen(opened)
        else:
            kernel.write_stream(self._stream, text)
        kernel.server.interrupts.raise_pending()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was written so far."""
        kernel = self._redirections.kernel()
        if kernel is not None:
            kernel.server.outbox.drain()
        elif self._original is not None:
            self._original.flush()

    def close(self) -> None:
        """Nothing: neither a cell nor the garbage collector closes the process's streams."""

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Never: a notebook is no terminal."""
        return False

    def fileno(self) -> int:
        """The descriptor of the stream that this one stands in for."""
        if self._original is None:
            raise io.UnsupportedOperation("fileno")
        return self._original.fileno()


class _Bytes(io.BufferedIOBase):
    """``sys.stdout.buffer``: bytes of UTF-8 text."""

    def __init__(self, stream: OutStream) -> None:
        super().__init__()
        self.raw = self
        self._stream = stream
        self._writer: object = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        """Append to the current cell's stream what is complete of ``data``."""
        view, writer = memoryview(data), current_request.get()
        if writer is not self._writer:  # half a character of another cell is not this one's
            self._writer = writer
            self._decoder.reset()
        self._stream.write(self._decoder.decode(view.tobytes()))
        return view.nbytes

    def flush(self) -> None:
        """Send what was written so far."""
        self._stream.flush()

    def close(self) -> None:
        """Nothing, as for the stream."""

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """As for the stream."""
        return self._stream.fileno()


class Redirections:
    """The process's streams and input functions, redirected while a kernel is served."""

    def __init__(self) -> None:
        self._kernels: list[StreamKernel] = []
        self._saved: dict[str, Any] = {}
        self._streams: list[OutStream] = []
        self._threads = ThreadPatches()
        forget_in_child(self)

    def forget(self) -> None:
        """In a forked child: text goes to the process's own streams."""
        if self._kernels:
            self._kernels.clear()
            self._restore()
            for stream in self._streams:  # a logging handler may hold one
                stream._opened = _NOTHING_OPEN
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

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
