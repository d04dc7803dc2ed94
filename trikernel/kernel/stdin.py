"""Asking the person at the frontend: `raw_input`, `getpass`, and their awaitable twin.

A question goes to the client that sent the running request. Stale replies are dropped first; a
reply is matched by its parent, where it has one. Source: messaging.rst, "Messages on the stdin
channel".
"""

from __future__ import annotations

import socket
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..core import Request, stop_error
from ..errors import PeerGone, StdinNotAllowed, WireError
from ..wire import Message
from .sending import KernelSending

__all__ = ["KernelStdin"]

_EOF = "\x04"
_BAD = 16  # messages that are no message, dropped at a time
_STALE = 1000  # answers to earlier questions, dropped before a new one


class KernelStdin(KernelSending):
    """Input, for synchronous and for asynchronous code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._stdin_lock = threading.Lock()
        self._stdin_turn = trio.Lock()

    @property
    def _allow_stdin(self) -> bool:
        request = self.current()
        return request is not None and getattr(request.content, "allow_stdin", False) is True

    def raw_input(self, prompt: str = "") -> str:
        """Ask and block until the answer is there, as `input` does.

        Raises `StdinNotAllowed` at once when the frontend does not allow it, `PeerGone` when
        it has no stdin channel open, `StdinUnavailable` for a kernel without sockets,
        `EOFError` for the end of file, `KeyboardInterrupt` when the request is stopped.
        """
        return self._ask(str(prompt), password=False)

    def getpass(self, prompt: str = "", stream: Any = None) -> str:
        """As `raw_input`, without showing what is typed; ``stream`` is not supported."""
        if stream is not None:
            warnings.warn(
                "the `stream` argument of getpass() has no effect in a notebook",
                UserWarning,
                stacklevel=3,
            )
        return self._ask(str(prompt), password=True)

    async def async_input(self, prompt: str = "", *, password: bool = False) -> str:
        """Ask, and wait for the answer while other tasks go on.

        Raises as `raw_input` does. Cancelled, the question is withdrawn: a later answer to it
        is dropped.
        """
        request = self._asking_request()
        channel = self.server.transport.stdin
        async with self._stdin_turn:
            with self._one_question():
                msg_id = self._send_question(request, prompt, password)
                while True:
                    answer = self._take_answer(request, msg_id)
                    if answer is not None:
                        return self._read(answer)
                    await channel.wait_readable()

    @enable_ki_protection
    def _ask(self, prompt: str, password: bool) -> str:
        request = self._asking_request()
        channel = self.server.transport.stdin
        with self._one_question(), _waker(request) as wake_fd:
            msg_id = None
            while request.stop_reason is None and not request.finished:
                if msg_id is None:
                    msg_id = self._send_question(request, prompt, password, wake_fd)
                answer = self._take_answer(request, msg_id)
                if answer is not None:
                    return self._read(answer)
                channel.wait_readable_blocking(wake_fd)
        reason = request.stop_reason
        if reason is None:
            raise StdinNotAllowed("the cell that asks for input has ended")
        self.server.interrupts.settle(request)
        raise stop_error(reason)

    def _asking_request(self) -> Request:
        request = self.current()
        if request is None or not self._allow_stdin:
            raise StdinNotAllowed(
                "this frontend does not allow input: the request that runs says allow_stdin=False"
            )
        if request.finished:
            raise StdinNotAllowed("the cell that asks for input has ended")
        return request

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """Questions are asked one by one; a thread waits for its turn, the user loop never."""
        may_wait = threading.get_ident() != self.server.user_thread
        if not self._stdin_lock.acquire(blocking=may_wait):
            raise StdinNotAllowed("another input() is waiting for its answer")
        try:
            yield
        finally:
            self._stdin_lock.release()

    def _send_question(
        self, request: Request, prompt: str, password: bool, wake_fd: int | None = None
    ) -> str:
        server = self.server
        channel = server.transport.stdin
        if wake_fd is not None:  # find out before the question stands in the frontend
            channel.check_blocking()
        server.outbox.drain()
        for _ in range(_STALE):  # answers to earlier questions; not without an end
            if self._take() is None:
                break
        msg_id = str(uuid.uuid4())
        frames = server.codec.encode(
            "input_request",
            {"prompt": prompt, "password": password},
            parent=request.message.header,
            identities=request.message.identities,
            header=server.codec.header("input_request", msg_id),
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
                frames = self.server.transport.stdin.receive_nowait()
            except trio.WouldBlock:
                return None
            try:
                return self.server.codec.decode(frames)
            except WireError as error:
                self.server.rejected.note("stdin", error)
        return None

    def _take_answer(self, request: Request, msg_id: str) -> Message | None:
        """The answer; some frontends name the cell as its parent, or nothing."""
        message = self._take()
        if message is None or message.parent_id in (None, "", msg_id, request.msg_id):
            return message
        self.log.warning("dropped an answer to an input that no longer waits")
        return None

    def _read(self, answer: Message) -> str:
        value = answer.content.get("value")
        if not isinstance(value, str):
            self.log.error("bad input_reply, its value is %r", value)
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

        forget = request.on_stop(wake)
        try:
            yield reading.fileno()
        finally:
            forget()
