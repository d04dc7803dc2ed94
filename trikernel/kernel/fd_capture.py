"""Shows what child processes and C code write to descriptors 1 and 2 under the running cell.

Each descriptor is replaced by a pipe. The service loop reads the pipe when there is data in it, and
the reply of a cell is sent only after the pipe has been read. Bytes in a pipe do not say which cell
has written them: they are shown under the running cell, or else the last one. Their order relative
to the text of `print` is not guaranteed. While the iopub queue is full, because frontends read too
slowly, the pipe is not read; it fills up, and then its writers block, as with any pipe.

What remains: C code that holds the interpreter lock while it writes keeps this process from reading
the pipe. If it writes more than the pipe holds, 1 MiB on Linux, it deadlocks. On Windows nothing is
captured, because pipes cannot be waited for there.
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
    from select import POLLIN, poll  # now, because libraries that patch `select` may remove `poll`

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
            with suppress(OSError):  # over the user's limit for pipes: it stays at 64 KiB
                fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, CAPACITY)
        os.dup2(self.writer, fd)  # `writer` stays open too, so that there is never an end of file

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
        with suppress(OSError):  # the user's code has closed it
            os.dup2(self.saved, self.fd)

    def close(self) -> None:
        for fd in (self.saved, self.reader, self.writer):
            _close(fd)


class FdCapture:
    """Captures descriptors 1 and 2 of this process, from `install` to `restore`.

    ``write(name, text)`` is called with ``"stdout"`` or ``"stderr"``, in the thread that reads the
    pipe. ``wait_for_room()`` is awaited before `run` reads more.
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
        """Begin to capture. A descriptor that is closed stays closed."""
        for fd, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(fd)
            except OSError:
                continue
            self._pipes.append(_Pipe(fd, name))
            if fd == 2:
                real_stderr.fd = self._pipes[-1].saved
                self._had_faulthandler = faulthandler.is_enabled()
                faulthandler.enable(file=real_stderr.fd)  # after a crash nobody reads the pipe
        self._flush_c = _c_flushers()
        on_fork(self)

    def restore(self) -> None:
        """Restore both descriptors, and write to them what was left in the pipes."""
        if real_stderr.fd is not None:
            real_stderr.fd = None
            faulthandler.disable()
        with self._lock:
            for pipe in self._pipes:
                pipe.restore()  # first of all: a thread may be writing
                rest = pipe.read()
                pipe.close()
                if rest:
                    with suppress(OSError):  # nobody reads there any more, or the disk is full
                        os.write(pipe.fd, rest.encode(errors="replace"))
            self._pipes.clear()
        if self._had_faulthandler:
            faulthandler.enable(file=2)
        self._flush()  # only now, when C's buffers are written to the original descriptors

    def after_fork(self) -> None:
        """In a forked child: it writes into its parent's pipes, and must not read them."""
        for pipe in self._pipes:
            _close(pipe.reader)
        self._pipes, self._lock = [], threading.Lock()

    @enable_ki_protection
    def collect(self) -> None:
        """Read what has been written so far. May be called in any thread.

        C's own buffers are flushed only in the thread of `install`, because the flush may block
        until another thread reads the pipes.
        """
        if threading.get_ident() == self._thread:
            self._flush()
        if self._has_something():
            for pipe in self._pipes:
                self._read(pipe)

    def _has_something(self) -> bool:
        """Whether there is something to read. Waits until no other thread is passing on text."""
        if sys.platform != "win32":
            asked = poll()  # one for each call: a poll object must not be used by two threads
            with self._lock:
                for pipe in self._pipes:
                    asked.register(pipe.reader, POLLIN)
                try:
                    return bool(asked.poll(0))
                except OSError:  # the user's code has lowered the limit of open files
                    return True
        raise NotImplementedError

    @enable_ki_protection
    async def run(self) -> None:
        """Read the pipes whenever there is data in them, forever."""
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
    """Functions that flush C's own stdout and stderr into the descriptors."""
    try:
        library = ctypes.CDLL(None)
        streams = [ctypes.c_void_p.in_dll(library, name) for name in _C_STREAMS.values()]
        return [partial(library.fflush, stream) for stream in streams]
    except (OSError, TypeError, ValueError, AttributeError):  # a C library without these names
        return []


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)
