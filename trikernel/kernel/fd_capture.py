"""What child processes and C code write to descriptors 1 and 2, shown under the running cell.

Each descriptor becomes a pipe. The service loop reads it as text comes, and a cell's reply
waits until what is in the pipe has been read. Bytes carry no cell: they belong to the running
one, else to the last one, and their order among `print`'s is not promised. While more is queued
than frontends read nobody reads the pipe, which slows its writers down as any full pipe does.

What remains: a writer in C that holds the interpreter lock keeps everybody from reading. What the
pipe holds is its limit, 1 MiB on Linux, beyond which it waits for itself. On Windows nothing is
captured, whose pipes cannot be waited for.
"""

from __future__ import annotations

import codecs
import ctypes
import faulthandler
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio
from trio.lowlevel import enable_ki_protection

from ..system import on_fork, real_stderr

if sys.platform != "win32":
    import fcntl
    from select import POLLIN, poll  # now: libraries that patch it take it away

__all__ = ["CAPACITY", "FdCapture"]

CAPACITY = 1 << 20  # bytes that Linux lets a pipe hold
_CHUNK = 1 << 16
_C_STREAMS = {"darwin": {1: "__stdoutp", 2: "__stderrp"}}.get(
    sys.platform, {1: "stdout", 2: "stderr"}
)


class _Pipe:
    """One descriptor, replaced by the writing end of a pipe."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.saved = os.dup(fd)
        self.reader, self.writer = os.pipe()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        if sys.platform != "win32":
            os.set_blocking(self.reader, False)
        if sys.platform == "linux":
            with suppress(OSError):  # this user's pipes are at their limit: it holds 64 KiB
                fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, CAPACITY)
        os.dup2(self.writer, fd)  # the other copy stays open: the pipe never ends

    def read(self) -> str:
        """What is in the pipe now, at most as much as it can hold."""
        parts, size = [], 0
        while size < CAPACITY:
            try:
                part = os.read(self.reader, _CHUNK)
            except OSError:  # empty, or closed by the user's code
                break
            if not part:
                break
            parts.append(part)
            size += len(part)
        return self.decoder.decode(b"".join(parts)) if parts else ""

    def restore(self) -> None:
        os.dup2(self.saved, self.fd)
        for fd in (self.saved, self.reader, self.writer):
            _close(fd)


class FdCapture:
    """Captures descriptors 1 and 2 of this process, from `install` to `restore`.

    ``write(name, text)`` is called with ``"stdout"`` or ``"stderr"``, in the thread that reads.
    ``wait_for_room()`` is awaited before more is read.
    """

    def __init__(
        self, write: Callable[[str, str], None], wait_for_room: Callable[[], Awaitable[object]]
    ) -> None:
        self._write = write
        self._wait_for_room = wait_for_room
        self._pipes: list[_Pipe] = []
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._had_faulthandler = False
        self._flush_c: list[Callable[[], object]] = []

    def install(self) -> None:
        """Begin; descriptors that are closed stay closed."""
        for fd, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(fd)
            except OSError:
                continue
            self._pipes.append(_Pipe(fd, name))
            if fd == 2:
                real_stderr.fd = self._pipes[-1].saved
                self._had_faulthandler = faulthandler.is_enabled()
                faulthandler.enable(file=real_stderr.fd)  # a crash leaves nobody to read a pipe
        self._flush_c = _c_flushers()
        on_fork(self)

    def restore(self) -> None:
        """Put both descriptors back; what nobody has read goes to them."""
        if real_stderr.fd is not None:
            real_stderr.fd = None
            faulthandler.disable()
        with self._lock:
            for pipe in self._pipes:
                rest = pipe.read()
                pipe.restore()
                if rest:
                    os.write(pipe.fd, rest.encode(errors="replace"))
            self._pipes.clear()
        if self._had_faulthandler:
            faulthandler.enable(file=2)
        self._flush()  # only now: nobody reads the pipes any more

    def after_fork(self) -> None:
        """In a forked child: it writes into its parent's pipes and never reads them."""
        for pipe in self._pipes:
            _close(pipe.reader)
        self._pipes, self._lock = [], threading.Lock()

    @enable_ki_protection
    def collect(self) -> None:
        """Read what has been written so far; from any thread.

        The buffers of C are emptied in the thread of `install` only: that may have to wait for
        the reader of the pipes.
        """
        if threading.get_ident() == self._thread:
            self._flush()
        if self._has_something():
            for pipe in self._pipes:
                self._read(pipe)

    def _has_something(self) -> bool:
        """Whether there is something to read, once nobody else is about to pass on what it read."""
        if sys.platform != "win32":
            asked = poll()  # one for each caller: they may not be shared
            with self._lock:
                for pipe in self._pipes:
                    asked.register(pipe.reader, POLLIN)
                try:
                    return bool(asked.poll(0))
                except OSError:  # the user's code has lowered its limit of descriptors
                    return True
        raise NotImplementedError

    @enable_ki_protection
    async def run(self) -> None:
        """Read what comes, forever."""
        turn = trio.Lock()
        async with trio.open_nursery() as nursery:
            for pipe in self._pipes:
                nursery.start_soon(self._follow, pipe, turn, name=f"{pipe.name} descriptor")

    async def _follow(self, pipe: _Pipe, turn: trio.Lock) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(pipe.reader)
            except OSError:  # the user's code has closed it
                return
            self._read(pipe)
            async with turn:  # one task waits for room at a time
                await self._wait_for_room()

    def _read(self, pipe: _Pipe) -> None:
        with self._lock:
            text = pipe.read()
            if text:
                self._write(pipe.name, text)

    def _flush(self) -> None:
        for flush in self._flush_c:
            flush()


def _c_flushers() -> list[Callable[[], object]]:
    """What empties the buffers of C's own stdout and stderr into the descriptors."""
    try:
        library = ctypes.CDLL(None)
        streams = [ctypes.c_void_p.in_dll(library, name) for name in _C_STREAMS.values()]
        return [partial(library.fflush, stream) for stream in streams]
    except (OSError, TypeError, ValueError, AttributeError):  # a C library without these names
        return []


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)
