"""Asking the person at the frontend: what `raw_input`, `getpass` and `async_input` do.

A question goes to the client that sent the running request. Stale replies are dropped first; a
reply is matched by its parent, where it has one. Source: messaging.rst, "Messages on the stdin
channel".
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import trio
from trio.lowlevel import enable_ki_protection

from ..core import Connection, Rejections, Request, Stopper, current_subshell
from ..errors import PeerGone, StdinNotImplementedError, WireError
from ..wire import Message

__all__ = ["Asker"]

_EOF = "\x04"
_log = logging.getLogger("trikernel")
_BAD = 16  # messages that are no message, dropped at a time
_STALE = 1000  # answers to earlier questions, dropped before a new one
_PATIENCE = 0.5  # seconds for a client that asks at once: its sockets connect one by one,
_AGAIN = 0.02  # and libzmq tells nobody when one has


class Asker:
    """Asks for input, for synchronous and for asynchronous code, while the kernel is served.

    ``user_thread`` is the thread of the user loop, which must never wait for another question.
    """

    def __init__(
        self, connection: Connection, stopper: Stopper, rejected: Rejections, user_thread: int
    ) -> None:
        self._connection = connection
        self._stopper = stopper
        self._rejected = rejected
        self._user_thread = user_thread
        self._lock = threading.Lock()
        self._turns: WeakKeyDictionary[trio.lowlevel.TrioToken, trio.Lock] = WeakKeyDictionary()

    async def ask_async(self, request: Request | None, prompt: str, password: bool) -> str:
        """Ask, and wait for the answer while other tasks go on."""
        asking = _check_allowed(request, password)
        channel = self._connection.transport.stdin
        turn = self._turns.setdefault(trio.lowlevel.current_trio_token(), trio.Lock())
        async with turn:
            with self._one_question():
                msg_id, end = None, trio.current_time() + _PATIENCE
                while msg_id is None:
                    try:
                        msg_id = self._send_question(asking, prompt, password)
                    except PeerGone:
                        if trio.current_time() >= end:
                            raise
                        await trio.sleep(_AGAIN)
                while True:
                    answer = self._take_answer(asking, msg_id)
                    if answer is not None:
                        return _read(answer)
                    await channel.wait_readable()

    @enable_ki_protection
    def ask(self, asking: Request | None, prompt: str, password: bool) -> str:
        """Ask, and block until the answer is there."""
        request = _check_allowed(asking, password)
        channel = self._connection.transport.stdin
        with self._one_question(), _waker(request) as wake_fd:
            msg_id, end = None, time.monotonic() + _PATIENCE
            while request.stop_reason is None and not request.finished:
                if msg_id is None:
                    try:
                        msg_id = self._send_question(request, prompt, password, wake_fd)
                    except PeerGone:
                        if time.monotonic() >= end:
                            raise
                        select.select([wake_fd], [], [], _AGAIN)
                        continue
                answer = self._take_answer(request, msg_id)
                if answer is not None:
                    return _read(answer)
                channel.wait_readable_blocking(wake_fd)
        reason = request.stop_reason
        if reason is None:
            raise StdinNotImplementedError("the cell that asks for input has ended")
        error = request.stop_error()
        subshell = current_subshell.get()
        (self._stopper if subshell is None else subshell.stopper).consume(request)
        raise error

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """Questions are asked one by one; a thread waits for its turn, a loop of cells never."""
        may_wait = threading.get_ident() != self._user_thread and not trio.lowlevel.in_trio_task()
        if not self._lock.acquire(blocking=may_wait):
            raise StdinNotImplementedError("another input() is waiting for its answer")
        try:
            yield
        finally:
            self._lock.release()

    def _send_question(
        self, request: Request, prompt: str, password: bool, wake_fd: int | None = None
    ) -> str:
        connection = self._connection
        channel, codec = connection.transport.stdin, connection.codec
        if wake_fd is not None:  # find out before the question stands in the frontend
            channel.check_blocking()
        connection.iopub.drain()
        for _ in range(_STALE):  # answers to earlier questions; not without an end
            if self._take() is None:
                break
        msg_id = str(uuid.uuid4())
        frames = codec.encode(
            "input_request",
            {"prompt": prompt, "password": password},
            parent=request.message.header,
            identities=request.message.identities,
            header=codec.header("input_request", msg_id),
        )
        try:
            channel.send_nowait(frames)
        except PeerGone:
            raise PeerGone("the frontend that runs this cell has no stdin channel open") from None
        return msg_id

    def _take(self) -> Message | None:
        """The next message on stdin, or None; some that cannot be decoded are dropped."""
        for _ in range(_BAD):
            try:
                frames = self._connection.transport.stdin.receive_nowait()
            except trio.WouldBlock:
                return None
            try:
                return self._connection.codec.decode(frames)
            except WireError as error:
                self._rejected.note("stdin", error)
        return None

    def _take_answer(self, request: Request, msg_id: str) -> Message | None:
        """The answer; some frontends name the cell as its parent, or nothing."""
        message = self._take()
        if message is None or message.parent_id in (None, "", msg_id, request.msg_id):
            return message
        _log.warning("dropped an answer to an input that no longer waits")
        return None


def _check_allowed(request: Request | None, password: bool) -> Request:
    """The request that asks; `StdinNotImplementedError` if it may not, in ipykernel's words, by
    which programs know it.
    """
    if request is None or getattr(request.content, "allow_stdin", False) is not True:
        name = "getpass" if password else "raw_input"
        raise StdinNotImplementedError(
            f"{name} was called, but this frontend does not support input requests."
        )
    if request.finished:
        raise StdinNotImplementedError("the cell that asks for input has ended")
    return request


def _read(answer: Message) -> str:
    value = answer.content.get("value")
    if not isinstance(value, str):
        _log.error("bad input_reply, its value is %r", value)
        return ""
    if value == _EOF:
        raise EOFError
    return value


@contextmanager
def _waker(request: Request) -> Iterator[int]:
    """A descriptor that becomes readable when the request is to stop."""
    reading, writing = socket.socketpair()
    with reading, writing:

        def wake() -> None:
            with suppress(OSError):  # stopped at the very moment that the answer came
                writing.send(b"\0")

        take_back = request.on_stop(wake)
        try:
            yield reading.fileno()
        finally:
            take_back()
