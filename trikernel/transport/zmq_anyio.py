"""A kernel on sockets that a host application owns as `zmq_anyio.Socket`.

The host creates, binds, starts and closes them; this wrapper makes receiving safe to cancel:
on cancel a pending future is cancelled, a finished one gives its message back. Sending goes
straight to the socket in the host's thread, and by way of the host's loop from another one.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import trio
import zmq
import zmq_anyio
from anyio import Future

from ..errors import PeerGone, StdinUnavailable
from ..system import run_in
from .base import Frames
from .zmq_transport import last_port

__all__ = ["ZmqAnyioTransport"]

TURN_TIME = 0.005  # seconds that the host's loop is given to turn


class ZmqAnyioChannel:
    """One of the host's sockets. Create it in the thread that runs the host's Trio loop."""

    def __init__(self, name: str, socket: zmq_anyio.Socket) -> None:
        self.name = name
        self._socket = socket
        self._raw: zmq.Socket[Any] = zmq.Socket.shadow(socket.underlying)
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self._future: Future[list[bytes]] | None = None
        self._outgoing: deque[Callable[[], None]] = deque()
        self._closed = trio.Event()

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send now, or (from another thread) as soon as the host's loop turns."""
        self._send(partial(self._send_here, list(frames)))

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """As `send_nowait`, without waiting for a subscriber whose queue is full."""
        self._send(partial(self._send_with, zmq.XPUB_NODROP, 0, list(frames)))

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """As `send_nowait`, with room for one message more."""
        bound = int(self._raw.get(zmq.SNDHWM))
        self._send(partial(self._send_with, zmq.SNDHWM, bound + 1, list(frames)))

    def wait_writable_blocking(self, seconds: float) -> None:
        """In the host's thread, wait until libzmq signals a change; in another thread, sleep for a
        moment, in which the host's loop can send.
        """
        self._check_open()
        if threading.get_ident() != self._thread:  # there a send never finds a queue full
            time.sleep(min(seconds, TURN_TIME))
            return
        with selectors.DefaultSelector() as selector:
            selector.register(int(self._raw.get(zmq.FD)), selectors.EVENT_READ)
            selector.select(seconds)
        self._socket.get(zmq.EVENTS)  # type: ignore[no-untyped-call]  # zmq-anyio looks again

    def receive_nowait(self) -> Frames:
        """The message that `wait_readable` has received, else the next one."""
        self._check_open()
        future = self._future
        if future is not None:
            if future.status is Future.Status.PENDING:
                raise trio.WouldBlock
            self._future = None
            if future.status is Future.Status.FINISHED:
                return list(future.return_value)
        try:
            return self._raw.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            raise trio.WouldBlock from None

    async def wait_readable(self) -> None:
        """Wait for a message on the host's socket; it is kept for `receive_nowait`."""
        self._check_open()
        future = self._future or cast("Future[list[bytes]]", self._socket.arecv_multipart())
        self._future = future
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_closed, nursery.cancel_scope)
                await future.wait()
                nursery.cancel_scope.cancel()
        finally:
            if future.status is Future.Status.PENDING:
                future.cancel()
            if future.status is not Future.Status.FINISHED:
                self._future = None
        self._check_open()

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Raises `StdinUnavailable`."""
        self.check_blocking()

    def check_blocking(self) -> None:
        """Raises `StdinUnavailable`: to block this thread would stop the host."""
        raise StdinUnavailable(
            "input() in synchronous code would stop the application that hosts this kernel; "
            "await the asynchronous input instead"
        )

    def close(self) -> None:
        """Stop using the socket; closing it is the host's business."""
        self._closed.set()

    async def _cancel_when_closed(self, scope: trio.CancelScope) -> None:
        await self._closed.wait()
        scope.cancel()

    async def service_connections(self) -> None:
        """Does nothing: the host handles the connections of its sockets."""
        await trio.sleep_forever()

    def _send(self, send: Callable[[], None]) -> None:
        self._check_open()
        if threading.get_ident() == self._thread:
            self._flush()
            send()
        else:
            self._outgoing.append(send)
            run_in(self._token, self._flush)

    def _flush(self) -> None:
        """Send what other threads have sent, in their order. A message for a full queue is lost,
        as its sender cannot be told any more.
        """
        while self._outgoing:
            send = self._outgoing.popleft()
            try:
                send()
            except (trio.WouldBlock, PeerGone, trio.ClosedResourceError):
                continue

    def _send_here(self, frames: Frames) -> None:
        self._check_open()
        try:
            self._raw.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            raise trio.WouldBlock from None
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                raise PeerGone(f"no client {frames[0]!r} is connected") from None
            raise
        finally:
            self._socket.get(zmq.EVENTS)  # type: ignore[no-untyped-call]  # zmq-anyio looks again

    def _send_with(self, option: int, value: int, frames: Frames) -> None:
        """Send with another value of an option, then restore it. XPUB_NODROP cannot be read from a
        socket; it is 1.
        """
        usual = 1 if option == zmq.XPUB_NODROP else self._raw.get(option)
        self._raw.set(option, value)
        try:
            self._send_here(frames)
        finally:
            self._raw.set(option, usual)

    def _check_open(self) -> None:
        if self._closed.is_set() or self._socket.closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")


class ZmqAnyioTransport:
    """A kernel's channels over sockets of the host's: started, bound, and closed by the host.

    ``shell``, ``control`` and ``stdin`` are ROUTER sockets (``shell`` may be a sequence),
    ``iopub`` is an XPUB with ``XPUB_VERBOSE`` set. Create it inside the host's Trio loop, and
    serve with ``services="inline"``.
    """

    def __init__(
        self,
        *,
        shell: zmq_anyio.Socket | Sequence[zmq_anyio.Socket],
        control: zmq_anyio.Socket,
        stdin: zmq_anyio.Socket,
        iopub: zmq_anyio.Socket,
        key: bytes = b"",
    ) -> None:
        self.key = key
        self.signature_scheme = "hmac-sha256"
        sockets = [shell] if isinstance(shell, zmq.Socket) else list(shell)
        self.shell = tuple(
            ZmqAnyioChannel("shell" if number == 0 else f"shell_{number}", socket)
            for number, socket in enumerate(sockets)
        )
        self.control = ZmqAnyioChannel("control", control)
        self.stdin = ZmqAnyioChannel("stdin", stdin)
        self.iopub = ZmqAnyioChannel("iopub", iopub)
        self._sockets = {
            "shell": sockets[0],
            "control": control,
            "stdin": stdin,
            "iopub": iopub,
        }

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports that the host has bound; 0 for an address that is not tcp."""
        ports = {f"{name}_port": last_port(socket) for name, socket in self._sockets.items()}
        return {**ports, "hb_port": 0}

    def close(self) -> None:
        """Let go of the sockets; the host closes them."""
        for channel in (*self.shell, self.control, self.stdin, self.iopub):
            channel.close()
