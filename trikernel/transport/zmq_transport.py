"""Real sockets: ROUTER for shell, control and stdin, XPUB for iopub, the heartbeat beside them.

Binds and connects, with the options that a kernel needs; a single socket is `ZmqChannel`. The
heartbeat is a C loop that sends back what it receives, in a thread and on a context of its own. It
needs no interpreter lock, so it answers while a cell holds it. Source: messaging.rst, "Heartbeat
for kernels".
"""

from __future__ import annotations

import contextlib
import errno
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import zmq

from ..errors import ConnectionFileError
from ..system import mark_untraced
from .connection_file import PORTS, ConnectionInfo
from .ipc_paths import BoundPath, bind_path, remove_stale
from .port_range import PortRange, bind_first
from .zmq_channel import LINGER, ZmqBroadcastChannel, ZmqChannel, ZmqClientChannel

__all__ = [
    "Heartbeat",
    "ZmqClientTransport",
    "ZmqTransport",
    "bind_socket",
    "last_port",
    "new_socket",
]

IOPUB_HWM = 128  # messages kept for one subscriber: 8 MiB of text, before it counts as full
REPLY_HWM = 1000  # messages queued for one client, before the kernel keeps them itself
HANDSHAKE = 5000  # milliseconds that the ZMTP handshake of a connection may take
STDIN_BYTES = 1 << 26  # the largest answer to a question
# The largest heartbeat, and subscription: a topic and 10 bytes. libzmq frees a topic by recursion,
# to a depth of its length: one of 131,072 bytes has ended a process by SIGSEGV.
SMALL_BYTES = 1 << 12
SMALL_BUFFER = 1 << 16  # bytes that the system keeps for a client with a bounded queue
RECONNECT = 20  # milliseconds until a client connects again, where nobody listens yet

Options = Mapping[int, int | bytes]


class ZmqTransport:
    """A kernel's sockets, bound where ``info`` says; ports of 0 are bound first and then known.

    Use it as a context manager, or call `close`. ``shell_channels`` above 1 binds further
    shell sockets to free ports, listed as ``shell_1_port`` and so on. A peer that sends a frame
    above ``max_message_bytes`` is disconnected before it is read. ``ports`` are those that a port
    of 0 may become.
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
        ports: PortRange | None = None,
    ) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self._info = info
        self._range = ports
        self._source = source or "connection information"
        self._curve = info.curve_keys(self._source)
        self._context: zmq.Context[Any] = zmq.Context()
        self._heartbeat: Heartbeat | None = None
        self._largest = max_message_bytes
        self._ports: dict[str, int] = {}
        self._paths: list[BoundPath] = []
        try:
            self.shell = tuple(self._shell(number) for number in range(shell_channels))
            self.control = self._router("control")
            self.stdin = self._router("stdin", STDIN_BYTES)
            self.iopub = self._iopub()
            self._heartbeat = self._bind("hb", None)
        except BaseException:
            self._remove_paths()
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
        self._remove_paths()
        for channel in (*self.shell, self.control, self.stdin, self.iopub):
            channel.close()
        self._context.term()
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None

    def _remove_paths(self) -> None:
        """Remove the paths of ipc sockets, unless another kernel has taken them by now."""
        while self._paths:
            self._paths.pop().remove()

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

    def _iopub(self) -> ZmqBroadcastChannel:
        options: Options = {zmq.SNDHWM: IOPUB_HWM, zmq.XPUB_VERBOSE: 1, zmq.XPUB_NODROP: 1}
        socket = new_socket(self._context, zmq.XPUB, self._options(options, SMALL_BYTES))
        self._bind("iopub", socket)
        return ZmqBroadcastChannel("iopub", socket)

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
        asked = getattr(self._info, field, 0)

        def bind(port: int) -> Heartbeat | int:
            endpoint = self._info.endpoint(port)
            if socket is None:
                return Heartbeat(endpoint, self._options({}, SMALL_BYTES))
            return bind_socket(socket, endpoint)

        try:
            bound = bind_first(bind, asked, self._range, f"{self._source}: field {field!r}")
        except (zmq.ZMQError, OSError) as error:
            if error.errno in (zmq.EADDRNOTAVAIL, errno.ENODEV):
                raise ConnectionFileError(
                    f"{self._source}: field 'ip': this machine has no address {self._info.ip!r}"
                ) from None
            reason = error.strerror or str(error)
            endpoint = self._info.endpoint(asked)
            raise ConnectionFileError(
                f"{self._source}: field {field!r}: cannot bind {endpoint}: {reason}"
            ) from None
        heartbeat = bound if isinstance(bound, Heartbeat) else None
        port = bound.port if isinstance(bound, Heartbeat) else bound
        self._ports[field] = port
        if self._info.transport == "ipc":
            self._paths.append(BoundPath.of(Path(f"{self._info.ip}-{port}")))
        return heartbeat


class ZmqClientTransport:
    """A client's sockets, connected to where ``info`` says.

    On ``heartbeat`` the kernel sends back what it is sent. ``identity`` is a new one unless it is
    given. ``topic`` is the beginning of the iopub topics that it subscribes to, ``iopub_hwm`` how
    many iopub messages are queued until they are read; 0 is any number. Closing waits at most a
    second until what was sent is transferred. Raises `ConnectionFileError` for invalid CURVE keys.
    """

    def __init__(
        self,
        info: ConnectionInfo,
        *,
        identity: bytes | None = None,
        topic: bytes = b"",
        iopub_hwm: int = 0,
    ) -> None:
        self.key = info.key.encode()
        self.signature_scheme = info.signature_scheme
        self.info = info
        self._secrets = _client_curve(info)
        self._context: zmq.Context[Any] = zmq.Context()
        name = identity if identity is not None else uuid.uuid4().bytes.hex().encode()
        dealer: Options = {zmq.IDENTITY: name, zmq.SNDHWM: 0, zmq.LINGER: LINGER}
        drop: Options = {zmq.LINGER: 0}  # what these have not sent by `close` need not arrive
        self.shell = self._connect("shell", zmq.DEALER, dealer)
        self.control = self._connect("control", zmq.DEALER, dealer)
        self.stdin = self._connect("stdin", zmq.DEALER, dealer)
        heard: Options = {zmq.SUBSCRIBE: topic, zmq.RCVHWM: iopub_hwm, **drop}
        if iopub_hwm:  # then the system should not buffer megabytes, either
            heard = {**heard, zmq.RCVBUF: SMALL_BUFFER}
        self.iopub = self._connect("iopub", zmq.SUB, heard)
        beat = self._new(zmq.DEALER, {zmq.SNDHWM: 10, **drop})
        beat.connect(info.endpoint(info.hb_port))
        self.heartbeat = ZmqChannel("hb", beat)

    def __enter__(self) -> ZmqClientTransport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket, lingering at most a second."""
        for channel in (self.shell, self.control, self.stdin, self.iopub, self.heartbeat):
            channel.close()
        self._context.term()

    def resubscribe(self) -> None:
        """Connect iopub anew: see `ZmqClientChannel`."""
        self.iopub.reconnect()

    def _connect(self, name: str, kind: int, options: Options) -> ZmqClientChannel:
        endpoint = self.info.endpoint(getattr(self.info, f"{name}_port"))
        return ZmqClientChannel(name, self._new(kind, options), endpoint)

    def _new(self, kind: int, options: Options) -> zmq.Socket[Any]:
        common: Options = {zmq.RECONNECT_IVL: RECONNECT, **self._secrets}
        return new_socket(self._context, kind, {**options, **common})


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


class Heartbeat:
    """Binds ``endpoint`` (raises `zmq.ZMQError` if it is taken), and echoes until `close`."""

    def __init__(self, endpoint: str, options: Options) -> None:
        self._context = zmq.Context()
        try:
            self._socket = new_socket(self._context, zmq.ROUTER, options)
            self.port = bind_socket(self._socket, endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        thread = threading.Thread(target=self._echo, name="trikernel heartbeat", daemon=True)
        self._thread = mark_untraced(thread)
        self._thread.start()

    def _echo(self) -> None:
        try:
            with contextlib.suppress(zmq.ContextTerminated):
                zmq.proxy(self._socket, self._socket)
        finally:  # else `close` would wait for this socket
            self._socket.close(linger=0)

    def close(self) -> None:
        """End the loop and join its thread."""
        self._context.term()
        self._thread.join()


def new_socket(context: zmq.Context[Any], kind: int, options: Options) -> zmq.Socket[Any]:
    """A socket with options, which have to be set before it binds or connects."""
    socket: zmq.Socket[Any] = context.socket(kind)
    for option, value in options.items():
        socket.set(option, value)
    return socket


def bind_socket(socket: zmq.Socket[Any], endpoint: str) -> int:
    """Bind to ``tcp://ip:port`` or ``ipc://path-port``, where port 0 means any. Returns the real
    port.

    Raises `zmq.ZMQError` when the address is taken or invalid; `OSError` for an ipc path at which
    somebody listens, or whose folder does not exist or cannot be written.
    """
    if endpoint.startswith("tcp:"):
        socket.bind(endpoint.removesuffix(":0") + ":*" if endpoint.endswith(":0") else endpoint)
        return last_port(socket)
    base, _, port = endpoint.removeprefix("ipc://").rpartition("-")
    if port != "0":
        path = Path(f"{base}-{port}")
        if path.exists() and not path.is_socket():
            raise zmq.ZMQError(errno.EEXIST, f"{path} is there already, and is no socket")
        remove_stale(path)
        bind_path(socket, path)
        return int(port)
    return _bind_free_path(socket, base)


def last_port(socket: zmq.Socket[Any]) -> int:
    """The tcp port that a socket is bound to; 0 for an address that is not tcp."""
    endpoint = zmq.Socket.get(socket, zmq.LAST_ENDPOINT)
    text = bytes(endpoint).rstrip(b"\0").rpartition(b":")[2] if endpoint else b""
    return int(text) if text.isdigit() else 0


def _bind_free_path(socket: zmq.Socket[Any], base: str) -> int:
    number = 1
    while True:
        try:
            bind_path(socket, Path(f"{base}-{number}"))
        except (OSError, zmq.ZMQError) as error:
            if error.errno != errno.EADDRINUSE:
                raise
            number += 1
        else:
            return number
