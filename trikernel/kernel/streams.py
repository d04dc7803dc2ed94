"""``sys.stdout`` and ``sys.stderr`` of cells, ``%%capture``, and the output of threads.

What is wanted. Text is sent by the kernel, and with the request as its parent, for which the
calling code runs according to its context. A `print` costs about a tenth of a microsecond, since
people print in loops.

What does not work. To determine at each write which request the text belongs to, whether that is
silent, and whether output is captured: it takes ten times as long as to store the text.

What is done. `OutStream` remembers the last write: its request, the text in the iopub queue that
was appended to, and the `IOPub` that owns the queue. While the calling context has the same
request, and that text is still `IOPub.open_text`, a short text is only appended to its pieces. In
all other cases (another request, long text, another message in between, a pending stop, a queue
that was just drained) the slow path determines everything again, and may wait for room.

What remains. A thread that was started by C code has no context. In a process of the kernel's own
its text belongs to the running or the last cell, elsewhere it goes to the original stream.
"""

from __future__ import annotations

import codecs
import contextvars
import io
import itertools
import operator
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TextIO
from weakref import WeakKeyDictionary

import attrs

from ..core import SHORT, IOPub, Request, StreamText, current_request, current_subshell
from ..system import on_fork
from .sender import Sender, forget_open_texts, open_texts

__all__ = [
    "Capture",
    "OutStream",
    "capturing",
    "carrying_excepthook",
    "carrying_start",
    "carrying_submit",
    "context_of",
    "current_capture",
]

_current = current_request.get
_NOTHING: tuple[object, Any, Any] = (object(), None, None)


class OutStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of the cells.

    ``find`` returns the sender of the kernel that the calling code runs for. If it returns None the
    text goes to ``original``, the stream that this one replaces.
    """

    __module__ = "ipykernel.iostream"  # click recognises by this that colours can be shown
    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(
        self, name: str, original: TextIO | None, find: Callable[[], Sender | None]
    ) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self._stream = name
        self._original = original
        self._find = find
        self._opened: tuple[object, StreamText, IOPub] = _NOTHING
        self.buffer = _Bytes(self)
        open_texts.add(self)
        on_fork(self)

    def write(self, text: str) -> int:
        """Append text to the current cell's stream; it is sent within `flush_interval` seconds.

        While the iopub queue is full, because frontends read too slowly, the call waits; an
        interrupt ends the wait.
        """
        request, opened, iopub = self._opened
        if (
            request is _current()
            and iopub.open_text is opened
            and type(text) is str
            and 0 < len(text) < SHORT
            and len(opened.pieces) < iopub.most_pieces
        ):
            opened.pieces.append(text)
            if iopub.open_text is not opened:
                iopub.requeue(opened)
            return len(text)
        return self._write(text)

    def _write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        capture = current_capture.get()
        if capture is not None and capture.take_text(self._stream, text):
            return len(text)
        if not text:
            return 0
        sender = self._find()
        if sender is None:
            return self._original.write(text) if self._original is not None else len(text)
        if not sender.is_silent():
            iopub, request = sender.connection.iopub, _current()
            opened = iopub.write(sender.text_key(self._stream), text)
            if request is not None and not sender.has_set_parent:
                self._opened = request, opened, iopub
                if _captures or sender.has_set_parent:  # another thread has done so meanwhile
                    self._opened = _NOTHING
        sender.give_way()
        return len(text)

    def forget(self) -> None:
        """Have the next write take the slow path: a capture begins, or a parent is set."""
        self._opened = _NOTHING

    def after_fork(self) -> None:
        """In a forked child: do not append to the queue of its parent's kernel."""
        self.forget()

    def writelines(self, lines: Any) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was written so far."""
        sender = self._find()
        if sender is not None:
            sender.connection.iopub.drain()
        elif self._original is not None:
            self._original.flush()

    @property
    def parent_header(self) -> dict[str, Any]:
        """The header of the message that the calling code runs for; ``{}`` for none."""
        sender = self._find()
        parent = {} if sender is None else sender.get_parent()
        header: dict[str, Any] = parent.get("header", {})
        return header

    @parent_header.setter
    def parent_header(self, header: Mapping[str, Any]) -> None:
        self.set_parent(header)

    def set_parent(self, parent: Mapping[str, Any]) -> None:
        """See `Kernel.set_parent`: sets the parent of what this task and its children send."""
        self.set_thread_parent(parent)

    def set_thread_parent(self, parent: Mapping[str, Any]) -> Any:
        """The same. Returns what `reset_thread_parent` takes."""
        sender = self._find()
        return None if sender is None else sender.set_parent([], parent)

    def reset_thread_parent(self, token: Any) -> None:
        """Undo that call of `set_thread_parent`, which was made in this thread or task."""
        sender = self._find()
        if sender is not None and token is not None:
            sender.reset_parent(token)

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
        """Append ``data`` to the cell's stream; an incomplete character waits for its rest."""
        view, writer = memoryview(data), current_request.get()
        if writer is not self._writer:  # drop an incomplete character of another cell
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


# Capturing


@attrs.define(eq=False)
class Capture:
    """Takes text and displays of the context it was made in, and of the tasks started there.

    IPython's own capture replaces the streams of the process, which would also take the output of
    all other tasks.
    """

    streams: dict[str, io.StringIO]
    outputs: list[dict[str, Any]] | None
    is_open: bool = True

    def take_text(self, name: str, text: str) -> bool:
        """Take a text, if it is wanted. Returns whether it was taken."""
        if not self.is_open or name not in self.streams:
            return False
        self.streams[name].write(text)
        return True

    def take_display(self, content: dict[str, Any]) -> bool:
        """Take a display, if it is wanted. Returns whether it was taken."""
        if not self.is_open or self.outputs is None:
            return False
        self.outputs.append(content)
        return True


_captures: set[Capture] = set()  # open ones; while there are any, each write takes the slow path

current_capture: ContextVar[Capture | None] = ContextVar("current_capture", default=None)


@contextmanager
def capturing(*, stdout: bool, stderr: bool, display: bool) -> Iterator[Capture]:
    """Take the output of the block, and of the tasks that it starts, until its end."""
    wanted = {"stdout": stdout, "stderr": stderr}
    streams = {name: io.StringIO() for name, takes in wanted.items() if takes}
    capture = Capture(streams, [] if display else None)
    token = current_capture.set(capture)
    _captures.add(capture)
    forget_open_texts()
    try:
        yield capture
    finally:
        capture.is_open = False
        _captures.discard(capture)
        current_capture.reset(token)


# A thread takes over the current subshell, request and ``%%capture`` of the code that starts it.
# All other context variables of a thread are as Python sets them.


_contexts: WeakKeyDictionary[threading.Thread, contextvars.Context] = WeakKeyDictionary()
"""The context of each thread that a cell has started. `threading.excepthook`, which is called after
the thread has left its context, needs it too.
"""


def context_of(thread: threading.Thread) -> contextvars.Context | None:
    """The context that a cell has started a thread in; None if none has."""
    return _contexts.get(thread)


def carrying_start(original: Callable[[threading.Thread], None]) -> Callable[..., None]:
    """What stands in for `threading.Thread.start`."""

    def start(self: threading.Thread) -> None:
        if current_request.get() is not None:
            _carry(self)
        original(self)

    return start


def carrying_excepthook(original: Callable[[Any], object]) -> Callable[[Any], None]:
    """What stands in for `threading.excepthook`: an error of a thread is shown under its cell."""

    def excepthook(args: Any, /) -> None:
        context = _contexts.get(args.thread) if args.thread is not None else None
        if context is None:
            original(args)
        else:
            context.run(original, args)

    return excepthook


def carrying_submit(original: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    """What stands in for `ThreadPoolExecutor.submit`."""

    def submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        carry = partial(
            _set_all, current_request.get(), current_capture.get(), current_subshell.get()
        )
        return original(self, _in_turn(carry, partial(fn, *args, **kwargs)))

    return submit


def _carry(thread: threading.Thread) -> None:
    """Have a thread run in a context with these variables set, without a frame of ours in its
    tracebacks.
    """
    context = getattr(thread, "_context", None)  # Python 3.14: the context given by the program
    if context is None:
        inherits = getattr(sys.flags, "thread_inherit_context", False)
        context = contextvars.copy_context() if inherits else contextvars.Context()
        thread.run = partial(context.run, thread.run)  # type: ignore[method-assign]
    _contexts[thread] = context
    with suppress(RuntimeError):  # the context is entered already, perhaps by the calling code
        context.run(current_subshell.set, current_subshell.get())
        context.run(current_request.set, current_request.get())
        context.run(current_capture.set, current_capture.get())


def _in_turn(first: Callable[[], object], then: Callable[[], Any]) -> Callable[[], Any]:
    """A function that calls both, and returns or raises what the second one does.

    It is made of C functions of the standard library, because a Python function of ours would
    appear in the user's tracebacks.
    """
    calls: map[Any] = map(operator.call, (first, then))
    return partial(next, itertools.islice(calls, 1, None))


def _set_all(request: Request | None, capture: Capture | None, subshell: Any) -> None:
    """Set the variables in a thread of a pool; they stay set until the next call sets them."""
    current_subshell.set(subshell)
    current_request.set(request)
    current_capture.set(capture)
