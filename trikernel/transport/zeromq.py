"""Real sockets: ROUTER for shell, control and stdin, XPUB for iopub, the heartbeat beside them.

Binds and connects, with the options that a kernel needs; a single socket is `ZmqChannel`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import zmq

from ..errors import ConnectionFileError
from .connection import PORTS, ConnectionInfo
from .heartbeat import Heartbeat
from .high_water import START, HighWater
from .zmqchannel import LINGER, ZmqChannel
from .zmqtools import Options, bind, new_socket

__all__ = ["ZmqClientTransport", "ZmqTransport"]

REPLY_HWM = 1000  # messages queued for one client, before the kernel keeps them itself
HANDSHAKE = 5000  # milliseconds that a connection may take to say what it is
STDIN_BYTES = 1 << 26  # of an answer
SMALL_BYTES = 1 << 12  # of a topic, and of a heartbeat
RECONNECT = 20  # milliseconds until a client tries again where nobody listens yet


class ZmqTransport:
    """A kernel's sockets, bound where ``info`` says; ports of 0 are bound first and then known.

    Use it as a context manager, or call `close`. ``shell_channels`` above 1 binds further
    shell sockets to free ports, listed as ``shell_1_port`` and so on. A peer that sends a frame
    above ``max_message_bytes`` is disconnected before it is read.
    Raises `ConnectionFileError` that names the field whose address cannot be bound, or that is no
    proper CURVE key.
    """

    def __init__(
        self,
        info: ConnectionInfo,
        *,
        shell_channels: int = 1,
        max_message_bytes: int = 1 << 30,
        source: str | None = None,
    ) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self._info = info
        self._source = source or "connection information"
        self._curve = info.curve_keys(self._source)
        self._context: zmq.Context[Any] = zmq.Context()
        self._heartbeat: Heartbeat | None = None
        self._largest = max_message_bytes
        self._ports: dict[str, int] = {}
        self._paths: list[Path] = []
        try:
            self.shell = tuple(self._shell(number) for number in range(shell_channels))
            self.control = self._router("control")
            self.stdin = self._router("stdin", STDIN_BYTES)
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

    def _router(self, name: str, largest: int | None = None) -> ZmqChannel:
        options: Options = {
            zmq.ROUTER_HANDOVER: 1,
            zmq.ROUTER_MANDATORY: 1,
            zmq.SNDHWM: REPLY_HWM,
        }
        largest = largest if largest is not None else self._largest
        socket = new_socket(self._context, zmq.ROUTER, self._options(options, largest))
        self._bind(name, socket)
        return ZmqChannel(name, socket)

    def _iopub(self) -> ZmqChannel:
        options: Options = {zmq.SNDHWM: START, zmq.XPUB_VERBOSE: 1, zmq.XPUB_NODROP: 1}
        socket = new_socket(self._context, zmq.XPUB, self._options(options, SMALL_BYTES))
        self._bind("iopub", socket)
        return ZmqChannel("iopub", socket, HighWater(partial(socket.set, zmq.SNDHWM)))

    def _options(self, options: Options, largest: int) -> Options:
        curve: Options = {}
        if self._curve is not None:
            public, secret = self._curve
            curve = {zmq.CURVE_SECRETKEY: secret, zmq.CURVE_PUBLICKEY: public, zmq.CURVE_SERVER: 1}
        bounds: Options = {zmq.MAXMSGSIZE: largest, zmq.HANDSHAKE_IVL: HANDSHAKE}
        return {**options, **curve, **bounds, zmq.LINGER: LINGER}

    def _bind(self, name: str, socket: zmq.Socket[Any] | None) -> Heartbeat | None:
        """Bind ``socket``, or a heartbeat where there is none; remember the port."""
        field = f"{name}_port"
        endpoint = self._info.endpoint(getattr(self._info, field, 0))
        heartbeat = None
        try:
            if socket is None:
                heartbeat = Heartbeat(endpoint, self._options({}, SMALL_BYTES))
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
    """A client's sockets, connected to where ``info`` says.

    ``heartbeat`` echoes what it is sent. ``identity`` is any that no other client has unless it
    is given. Closing waits at most a second for what was sent to be taken. Raises
    `ConnectionFileError` for CURVE keys that are none.
    """

    def __init__(self, info: ConnectionInfo, *, identity: bytes | None = None) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self._info = info
        self._secrets = _client_curve(info)
        self._context: zmq.Context[Any] = zmq.Context()
        name = identity if identity is not None else uuid.uuid4().bytes.hex().encode()
        dealer: Options = {zmq.IDENTITY: name, zmq.SNDHWM: 0, zmq.LINGER: LINGER}
        drop: Options = {zmq.LINGER: 0}  # nothing of these needs to arrive at the end
        self.shell = self._connect("shell", zmq.DEALER, dealer)
        self.control = self._connect("control", zmq.DEALER, dealer)
        self.stdin = self._connect("stdin", zmq.DEALER, dealer)
        self.iopub = self._connect("iopub", zmq.SUB, {zmq.SUBSCRIBE: b"", zmq.RCVHWM: 0, **drop})
        self.heartbeat = self._connect("hb", zmq.DEALER, {zmq.SNDHWM: 10, **drop})

    def __enter__(self) -> ZmqClientTransport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket, lingering at most a second."""
        for channel in (self.shell, self.control, self.stdin, self.iopub, self.heartbeat):
            channel.close()
        self._context.term()

    def _connect(self, name: str, kind: int, options: Options) -> ZmqChannel:
        common: Options = {zmq.RECONNECT_IVL: RECONNECT, **self._secrets}
        socket = new_socket(self._context, kind, {**options, **common})
        socket.connect(self._info.endpoint(getattr(self._info, f"{name}_port")))
        return ZmqChannel(name, socket)


def _client_curve(info: ConnectionInfo) -> Options:
    """A key pair of the client's own, and the kernel's public key, where the kernel has one."""
    keys = info.curve_keys()
    if keys is None:
        return {}
    public, secret = zmq.curve_keypair()
    return {
        zmq.CURVE_SERVERKEY: keys[0],
        zmq.CURVE_PUBLICKEY: public,
        zmq.CURVE_SECRETKEY: secret,
    }
