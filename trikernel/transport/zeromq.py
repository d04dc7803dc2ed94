"""Real sockets: ROUTER for shell, control and stdin, XPUB for iopub, the heartbeat beside them.

A zmq socket's file descriptor signals edges, and any call on the socket may eat one. So every
call is made under the channel's lock, after each send and receive ``EVENTS`` is read again,
and a receiver parks only after having just seen no message: see the discussion page
"why not await zmq-anyio".
"""

from __future__ import annotations

import errno
import selectors
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
import zmq

from ..errors import ConnectionFileError, PeerGone
from .base import Frames, Parking
from .connection import PORTS, ConnectionInfo
from .heartbeat import Heartbeat
from .zmqtools import Options, bind, new_socket

__all__ = ["ZmqChannel", "ZmqClientTransport", "ZmqTransport"]

LINGER = 1000  # milliseconds that close waits for peers to take what was sent
IOPUB_HWM = 1000  # messages queued for one subscriber, before it counts as stalled
COPY_LIMIT = 1 << 16  # bytes; larger frames are handed to libzmq without a copy

_POLLIN = int(zmq.POLLIN)  # the enum's operators cost more than the question


class ZmqChannel:
    """One socket. Sending from any thread, receiving in the thread of its one receiver."""

    def __init__(self, name: str, socket: zmq.Socket[Any]) -> None:
        self.name = name
        self._socket = socket
        self._lock = threading.RLock()
        self._parking = Parking()
        self._fd = int(socket.get(zmq.FD))
        self._closed = False
        self._sending = False
        self._outgoing: deque[Sequence[bytes]] = deque()

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send, and wake the receiver if the send ate its edge."""
        with self._lock:
            self._check_open()
            self._outgoing.append(frames)
            if self._sending:  # a finalizer, run by the collector in the middle of a send
                return
            self._sending = True
            try:
                while self._outgoing:
                    self._send(self._outgoing.popleft())
            finally:
                self._sending = False
                self._wake_if_readable()

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """One send with XPUB_NODROP off: a stalled subscriber loses it, the others do not."""
        with self._lock:
            self._check_open()
            self._socket.set(zmq.XPUB_NODROP, 0)
            try:
                self.send_nowait(frames)
            finally:
                self._socket.set(zmq.XPUB_NODROP, 1)

    def receive_nowait(self) -> Frames:
        """Take the next message."""
        with self._lock:
            self._check_open()
            try:
                return self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                raise trio.WouldBlock from None

    async def wait_readable(self) -> None:
        """Park on the file descriptor, after having just seen that no message is there."""
        with self._lock:
            self._check_open()
            scope = None if self._readable() else self._parking.__enter__()
        if scope is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            with scope:
                await trio.lowlevel.wait_readable(self._fd)
        finally:
            self._parking.__exit__()
        self._check_open()

    def check_blocking(self) -> None:
        """Blocking is possible on a socket."""

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Block until the socket's descriptor or ``wake_fd`` is readable."""
        with self._lock:
            self._check_open()
            if self._readable():
                return
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            selector.register(wake_fd, selectors.EVENT_READ)
            selector.select()

    def close(self) -> None:
        """Close the socket; a parked receiver gets `trio.ClosedResourceError`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._parking.wake()
            self._socket.close(linger=LINGER)

    def _send(self, frames: Sequence[bytes]) -> None:
        copy = max(map(len, frames)) < COPY_LIMIT
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=copy)
        except zmq.Again:
            raise trio.WouldBlock from None
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone(f"no client {frames[0]!r} is connected") from None
            raise

    def _readable(self) -> bool:
        return bool(int(self._socket.get(zmq.EVENTS)) & _POLLIN)

    def _wake_if_readable(self) -> None:
        if self._parking.occupied and self._readable():
            self._parking.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")


class ZmqTransport:
    """A kernel's sockets, bound where ``info`` says; ports of 0 are bound first and then known.

    Use it as a context manager, or call `close`. ``shell_channels`` above 1 binds further
    shell sockets to free ports, listed as ``shell_1_port`` and so on.
    Raises `ConnectionFileError` that names the field whose address cannot be bound.
    """

    def __init__(
        self, info: ConnectionInfo, *, shell_channels: int = 1, source: str | None = None
    ) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self._info = info
        self._source = source or "connection information"
        self._context: zmq.Context[Any] = zmq.Context()
        self._heartbeat: Heartbeat | None = None
        self._ports: dict[str, int] = {}
        self._paths: list[Path] = []
        try:
            self.shell = tuple(self._shell(number) for number in range(shell_channels))
            self.control = self._router("control")
            self.stdin = self._router("stdin", mandatory=True)
            self.iopub = self._iopub()
            self._heartbeat = self._bind("hb", None)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports that are really bound."""
        return dict(self._ports)

    @property
    def info(self) -> ConnectionInfo:
        """The connection information with the real ports."""
        return attrs.evolve(self._info, **self._real_ports())

    def _real_ports(self) -> dict[str, Any]:
        return {name: self._ports[name] for name in PORTS}

    def __enter__(self) -> ZmqTransport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket, lingering at most a second, and join the heartbeat's thread."""
        for channel in (*self.shell, self.control, self.stdin, self.iopub):
            channel.close()
        self._context.term()
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _shell(self, number: int) -> ZmqChannel:
        return self._router("shell" if number == 0 else f"shell_{number}")

    def _router(self, name: str, *, mandatory: bool = False) -> ZmqChannel:
        options: Options = {
            zmq.ROUTER_HANDOVER: 1,
            zmq.SNDHWM: 0,
            zmq.ROUTER_MANDATORY: int(mandatory),
        }
        socket = new_socket(self._context, zmq.ROUTER, self._options(options))
        self._bind(name, socket)
        return ZmqChannel(name, socket)

    def _iopub(self) -> ZmqChannel:
        options = self._options({zmq.SNDHWM: IOPUB_HWM, zmq.XPUB_VERBOSE: 1, zmq.XPUB_NODROP: 1})
        socket = new_socket(self._context, zmq.XPUB, options)
        self._bind("iopub", socket)
        return ZmqChannel("iopub", socket)

    def _options(self, options: Options) -> Options:
        secret, public = (self._info.extra.get(f"curve_{kind}key") for kind in ("secret", "public"))
        curve: Options = {}
        if isinstance(secret, str) and isinstance(public, str):
            curve = {
                zmq.CURVE_SECRETKEY: secret.encode(),
                zmq.CURVE_PUBLICKEY: public.encode(),
                zmq.CURVE_SERVER: 1,
            }
        return {**options, **curve, zmq.LINGER: LINGER}

    def _bind(self, name: str, socket: zmq.Socket[Any] | None) -> Heartbeat | None:
        """Bind ``socket``, or a heartbeat where there is none; remember the port."""
        field = f"{name}_port"
        endpoint = self._info.endpoint(getattr(self._info, field, 0))
        heartbeat = None
        try:
            if socket is None:
                heartbeat = Heartbeat(endpoint, self._options({}))
                port = heartbeat.port
            else:
                port = bind(socket, endpoint)
        except zmq.ZMQError as error:
            reason = error.strerror or str(error)
            raise ConnectionFileError(
                f"{self._source}: field {field!r}: cannot bind {endpoint}: {reason}"
            ) from None
        self._ports[field] = port
        if self._info.transport == "ipc":
            self._paths.append(Path(f"{self._info.ip}-{port}"))
        return heartbeat


class ZmqClientTransport:
    """A client's sockets, connected to where ``info`` says."""

    def __init__(self, info: ConnectionInfo, *, identity: bytes) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self._info = info
        self._context: zmq.Context[Any] = zmq.Context()
        dealer: Options = {zmq.IDENTITY: identity, zmq.LINGER: LINGER, zmq.SNDHWM: 0}
        self.shell = self._connect("shell", zmq.DEALER, dealer)
        self.control = self._connect("control", zmq.DEALER, dealer)
        self.stdin = self._connect("stdin", zmq.DEALER, dealer)
        self.iopub = self._connect("iopub", zmq.SUB, {zmq.SUBSCRIBE: b"", zmq.RCVHWM: 0})

    def __enter__(self) -> ZmqClientTransport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket, lingering at most a second."""
        for channel in (self.shell, self.control, self.stdin, self.iopub):
            channel.close()
        self._context.term()

    def _connect(self, name: str, kind: int, options: Options) -> ZmqChannel:
        socket = new_socket(self._context, kind, options)
        socket.connect(self._info.endpoint(getattr(self._info, f"{name}_port")))
        return ZmqChannel(name, socket)
