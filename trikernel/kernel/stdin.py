"""Asking the person at the frontend: what `raw_input`, `getpass` and `async_input` do.

A question goes to the client that sent the running request. Stale replies are dropped first; a
reply is matched by its parent, where it has one. Source: messaging.rst, "Messages on the stdin
channel".
"""

from __future__ import annotations

import logging
import selectors
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
_MOST_REJECTED = 16  # messages that cannot be decoded, dropped at a time
_MOST_STALE = 1000  # answers to earlier questions, dropped before a new one
_CONNECT_TIMEOUT = 0.5  # seconds: a client's stdin socket may connect later than its shell socket,
_RETRY_INTERVAL = 0.02  # seconds: and libzmq does not tell when it has


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
                msg_id, end = None, trio.current_time() + _CONNECT_TIMEOUT
                while msg_id is None:
                    try:
                        msg_id = self._send_question(asking, prompt, password)
                    except PeerGone:
                        if trio.current_time() >= end:
                            raise
                        await trio.sleep(_RETRY_INTERVAL)
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
            msg_id, end = None, time.monotonic() + _CONNECT_TIMEOUT
            while request.stop_reason is None and not request.finished:
                if msg_id is None:
                    try:
                        msg_id = self._send_question(request, prompt, password, wake_fd)
                    except PeerGone:
                        if time.monotonic() >= end:
                            raise
                        _wait_readable(wake_fd, _RETRY_INTERVAL)
                        continue
                answer = self._take_answer(request, msg_id)
                if answer is not None:
                    return _read(answer)
                channel.wait_readable_blocking(wake_fd)
        reason = request.stop_reason
        if reason is None:
            raise StdinNotImplementedError("the cell that asks for input has ended")
        error = request.stop_error(has_ended=False)
        subshell = current_subshell.get()
        (self._stopper if subshell is None else subshell.stopper).consume(request)
        raise error

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """Ask one question at a time. A thread waits for its turn; a Trio task and the user loop's
        thread raise `StdinNotImplementedError` instead.
        """
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
        if wake_fd is not None:  # raise before the question is shown in the frontend
            channel.check_blocking()
        connection.iopub.drain()
        for _ in range(_MOST_STALE):  # drop answers to earlier questions
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
        """The next message on stdin, or None. Up to `_MOST_REJECTED` that cannot be decoded are
        dropped before it.
        """
        for _ in range(_MOST_REJECTED):
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
        """The answer, if it has come. Some frontends give it the cell as its parent, or nothing."""
        message = self._take()
        if message is None or message.parent_id in (None, "", msg_id, request.msg_id):
            return message
        _log.warning("dropped an answer to an input that no longer waits")
        return None


def _check_allowed(request: Request | None, password: bool) -> Request:
    """The request that asks. Raises `StdinNotImplementedError` if it may not, with the text that
    ipykernel gives it, because programs compare that.
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


def _wait_readable(fd: int, seconds: float) -> None:
    """Block until a descriptor is readable; one of any number, unlike with `select.select`."""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        selector.select(seconds)


@contextmanager
def _waker(request: Request) -> Iterator[int]:
    """A descriptor that becomes readable when the request is to stop."""
    reading, writing = socket.socketpair()
    with reading, writing:

        def wake() -> None:
            with suppress(OSError):  # the answer has just come, and the pair is closed
                writing.send(b"\0")

        take_back = request.on_stop(wake)
        try:
            yield reading.fileno()
        finally:
            take_back()
