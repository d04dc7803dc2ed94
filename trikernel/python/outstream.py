"""``sys.stdout`` and ``sys.stderr`` of cells, and what makes `print` cheap in them.

See the discussion page "output".
"""

from __future__ import annotations

import codecs
import io
from typing import Any, Protocol, TextIO

from ..core import CLOSED, OpenText, Server, current_request
from .capture import captures_open, current_capture

__all__ = ["FindsKernel", "OutStream", "StreamKernel"]


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


class FindsKernel(Protocol):
    """Who knows whose text it is."""

    def kernel(self) -> StreamKernel | None:
        """The kernel that the calling code runs for."""

    def reopen(self, closed: OpenText) -> None:
        """A piece of text came while it was being closed."""


_current = current_request.get
_NOTHING_OPEN = OpenText(CLOSED, None, "")
_PIECE = 4096  # characters of a text that is written piece by piece, and how many pieces
_PIECES = 4096  # may wait: what is beyond goes the way that watches the size


class OutStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of the cells."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, original: TextIO | None, redirections: FindsKernel) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self._stream = name
        self._original = original
        self._redirections = redirections
        self._opened = _NOTHING_OPEN
        self.buffer = _Bytes(self)

    def write(self, text: str) -> int:
        """Append to the current cell's stream; it is sent within `flush_interval` seconds."""
        opened = self._opened
        if (
            opened.writer is _current()
            and type(text) is str
            and (length := len(text)) < _PIECE
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

    def forget(self) -> None:
        """In a forked child: what was open is the parent's."""
        self._opened = _NOTHING_OPEN

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
