"""The startup handshake: a kernel binds free ports, and tells its launcher which ones.

What is wanted
    To start many kernels at once, no two of them on one port. It does not work that the launcher
    looks for free ports and passes them on: another process may take them before the kernel binds
    them.

What is done
    The launcher binds one socket, the registration socket, and starts the kernel with a
    *registration file*, which has the address of that socket and the key. The kernel binds its five
    sockets to any free ports, connects a DEALER to the registration socket, sends the numbers of
    its ports there, signed with the key, and waits for a signed acknowledgement. The message is no
    Jupyter message: ``<IDS|MSG>``, the signature of the content, the content. Both ends are here:
    `register` for the kernel, `Registrar` for the launcher.

What remains
    The JEP does not mention ipc, other machines and CURVE. Over ipc ``registration_ip`` is the
    beginning of all paths, also of the kernel's, as ``ip`` is in a connection file. Over tcp the
    kernel listens on that address of its machine from which it reaches the launcher. CURVE keys in
    a registration file are the kernel's, as in a connection file, and encrypt its five channels.
    The registration itself is signed, but not encrypted: it has only port numbers, and a launcher
    may use one registration socket for kernels with different keys.

Source: JEP 66; messaging.rst, "Kernel startup handshake"; "Making kernels for Jupyter".
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import zmq

from ..errors import ConnectionFileError, SettingError, WireError
from ..wire import DELIMITER, Codec
from .base import receive
from .connection_file import (
    NO_IPV6,
    PORTS,
    ConnectionInfo,
    connection_info,
    is_registration,
    read_fields,
    write_for_owner,
)
from .ipc_paths import BoundPath
from .zmq_channel import LINGER, ZmqChannel
from .zmq_transport import HANDSHAKE, Options, bind_socket, new_socket

__all__ = [
    "Registrar",
    "Registration",
    "offers_handshake",
    "read_startup_file",
    "register",
    "registration_of",
]

HANDSHAKE_VERSION = (5, 6)  # of the protocol, as messaging.rst has it; the JEP's text says 5.5

CONNECT_TIMEOUT = 5  # seconds; short, as the launcher's socket exists before the kernel is started
LARGEST = 1 << 16  # bytes of a registration, and of an acknowledgement
RECONNECT = 20  # milliseconds between two attempts to connect


@attrs.frozen
class Registration:
    """A registration file as a value: the address of the registration socket, the kernel's id and
    the key.

    ``source`` is the name of the file in errors. ``extra`` keeps all other fields, CURVE keys among
    them.
    """

    kernel_id: str
    transport: str
    registration_ip: str
    registration_port: int
    key: str = attrs.field(repr=False)
    signature_scheme: str = "hmac-sha256"
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    source: str = "registration file"

    @property
    def endpoint(self) -> str:
        """The zmq address of the registration socket."""
        return self._place(self.registration_ip).endpoint(self.registration_port)

    def connection(self) -> ConnectionInfo:
        """Where the kernel is to listen: on ports of 0, at that address of this machine from which
        it reaches the launcher.

        Raises `ConnectionFileError` if the launcher's address cannot be reached.
        """
        if self.transport == "ipc":
            path = Path(f"{self.registration_ip}-{self.registration_port}")
            if not path.name.startswith("@") and not path.is_socket():
                # Else the kernel might bind this same path, as the first free one, as its own.
                raise ConnectionFileError(f"{self.source}: nobody listens at {self.endpoint}")
            return self._place(self.registration_ip)
        try:
            return self._place(_address_towards(self.registration_ip, self.registration_port))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConnectionFileError(
                f"{self.source}: field 'registration_ip': no way leads to "
                f"{self.registration_ip!r}: {reason}"
            ) from None

    def as_dict(self) -> dict[str, Any]:
        """The file's content."""
        hidden = ("extra", "source")
        fields = attrs.asdict(self, filter=lambda field, _: field.name not in hidden)
        return {**self.extra, **fields}

    def _place(self, ip: str) -> ConnectionInfo:
        return ConnectionInfo(
            transport=self.transport,
            ip=ip,
            key=self.key,
            signature_scheme=self.signature_scheme,
            extra=self.extra,
        )


def _address_towards(host: str, port: int) -> str:
    """The address of this machine from which it reaches ``host``. A UDP socket is connected for
    that, which sends nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])


def offers_handshake(kernel_protocol_version: str) -> bool:
    """Whether a kernelspec with this ``kernel_protocol_version`` claims to know the handshake."""
    parts = kernel_protocol_version.split(".")[:2]
    return all(map(str.isdecimal, parts)) and tuple(map(int, parts)) >= HANDSHAKE_VERSION


def read_startup_file(
    path: str | os.PathLike[str], what: str = "connection file"
) -> ConnectionInfo | Registration:
    """The file that a kernel is started with, as a value. Its fields tell whether it is a
    connection file or a registration file; ``what`` is what the caller was told, for errors.

    Raises `ConnectionFileError`, in one line that names the file and the field.
    """
    path = Path(path)
    fields = read_fields(path, what)
    if is_registration(fields):
        return _registration(f"registration file {path}", fields)
    return connection_info(path, fields)


def registration_of(text: str, source: str) -> Registration:
    """The content of a registration file as a value. ``source`` says where ``text`` is from, for
    the `ConnectionFileError` that this raises.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConnectionFileError(f"{source}: is no JSON (truncated?): {error}") from None
    if not isinstance(fields, dict):
        raise ConnectionFileError(f"{source}: holds no JSON object")
    return _registration(source, fields)


def _registration(source: str, fields: dict[str, Any]) -> Registration:
    def wrong(name: str, what: str) -> ConnectionFileError:
        if name not in fields:
            return ConnectionFileError(f"{source}: field {name!r} is missing")
        found = "" if name == "key" else f", not {fields[name]!r:.80}"
        return ConnectionFileError(f"{source}: field {name!r} must be {what}{found}")

    both = [name for name in PORTS if name in fields]
    if both:
        raise ConnectionFileError(
            f"{source}: field {both[0]!r} is a connection file's: the kernel chooses its ports"
        )
    values: dict[str, Any] = {"transport": "tcp", "signature_scheme": "hmac-sha256", **fields}
    for name in ("kernel_id", "registration_ip", "key", "transport", "signature_scheme"):
        value = values.get(name)
        if not isinstance(value, str) or not value.isprintable():
            raise wrong(name, "a string of printable characters")
        if not value and name in ("kernel_id", "registration_ip"):
            raise wrong(name, "a string that is not empty")
    port = values.get("registration_port")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= 65535:
        raise wrong("registration_port", "a port, an integer from 1 to 65535")
    if values["transport"] not in ("tcp", "ipc"):
        raise wrong("transport", "one of 'tcp' and 'ipc'")
    if values["transport"] == "tcp" and ":" in values["registration_ip"]:
        raise wrong("registration_ip", NO_IPV6)
    known = {field.name for field in attrs.fields(Registration)} - {"extra", "source"}
    extra = {name: value for name, value in fields.items() if name not in known}
    found = Registration(**{name: values[name] for name in known}, extra=extra, source=source)
    try:
        _codec(found.key, found.signature_scheme)
    except SettingError as error:
        raise ConnectionFileError(f"{source}: field {error}") from None
    found._place("").curve_keys(source)
    return found


def _codec(key: str, signature_scheme: str) -> Codec:
    return Codec(key.encode(), signature_scheme, username="")


def register(registration: Registration, ports: Mapping[str, int], timeout: float) -> None:
    """Tell the launcher which ports are bound, and wait for its acknowledgement.

    Blocks this thread for ``timeout`` seconds at most; signal handlers run meanwhile. Raises
    `ConnectionFileError` if nobody listens at the address, if no acknowledgement comes, or if the
    first one that comes is not signed with the file's key.
    """
    codec = _codec(registration.key, registration.signature_scheme)
    content = {name: str(ports[name]) for name in PORTS}
    body = json.dumps({"kernel_id": registration.kernel_id, **content}).encode()
    endpoint, source = registration.endpoint, registration.source
    options: Options = {zmq.LINGER: 0, zmq.RECONNECT_IVL: RECONNECT, zmq.MAXMSGSIZE: LARGEST}
    with zmq.Context() as context, new_socket(context, zmq.DEALER, options) as dealer:
        until = time.monotonic() + timeout
        if not _connects(dealer, endpoint, source, min(CONNECT_TIMEOUT, timeout)):
            raise ConnectionFileError(f"{source}: nobody listens at {endpoint}")
        dealer.send_multipart([DELIMITER, codec.sign([body]), body])
        if not dealer.poll(max(0, int((until - time.monotonic()) * 1000))):
            raise ConnectionFileError(
                f"{source}: {endpoint} has not acknowledged within {timeout:g} seconds"
                " (is the key the same there?)"
            )
        try:
            _signed(codec, dealer.recv_multipart())
        except WireError as error:
            raise ConnectionFileError(
                f"{source}: the acknowledgement from {endpoint} is none: {error}"
            ) from None


def _connects(dealer: zmq.Socket[Any], endpoint: str, source: str, seconds: float) -> bool:
    """Whether a ZeroMQ socket answers at ``endpoint`` within ``seconds``.

    A monitor is used for that, because with ZMQ_IMMEDIATE the acknowledgement would be lost if the
    launcher closes its socket right after it.
    """
    with dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
        try:
            dealer.connect(endpoint)
            return bool(monitor.poll(int(seconds * 1000)))
        except zmq.ZMQError as error:
            raise ConnectionFileError(
                f"{source}: cannot connect to {endpoint}: {error.strerror}"
            ) from None
        finally:
            dealer.disable_monitor()


def _signed(codec: Codec, frames: list[bytes]) -> bytes:
    """The content of a registration or an acknowledgement, whose signature is checked. Raises
    `WireError`.
    """
    if DELIMITER not in frames:
        raise WireError("delimiter", "no <IDS|MSG> delimiter among the frames")
    body = frames[frames.index(DELIMITER) + 1 :]
    if len(body) != 2:
        raise WireError("frames", f"{len(body)} frames after the delimiter, not 2")
    signature, content = body
    if not hmac.compare_digest(codec.sign([content]), signature):
        raise WireError("signature", "wrong signature: the sender does not have this key")
    return content


class Registrar:
    """A launcher's registration socket, for one kernel that is about to be started.

    ``place`` has the transport and the address of that socket, and the key; its CURVE keys go into
    the registration file, for the kernel. Use it as a context manager, or call `close`. Raises
    `ConnectionFileError` if the address cannot be bound.
    """

    def __init__(self, place: ConnectionInfo, kernel_id: str | None = None) -> None:
        self._place = place
        self._codec = _codec(place.key, place.signature_scheme)
        self._context: zmq.Context[Any] = zmq.Context()
        self.refused: Counter[str] = Counter()
        """How many messages were no registration, by the kind of error."""
        endpoint = place.endpoint(0)
        try:
            options: Options = {zmq.ROUTER_MANDATORY: 1, zmq.LINGER: LINGER}
            bounds: Options = {zmq.MAXMSGSIZE: LARGEST, zmq.HANDSHAKE_IVL: HANDSHAKE}
            router = new_socket(self._context, zmq.ROUTER, {**options, **bounds})
            port = bind_socket(router, endpoint)
        except (zmq.ZMQError, OSError) as error:
            self._context.destroy(linger=0)
            raise ConnectionFileError(
                f"registration socket: cannot bind {endpoint}: {error.strerror or error}"
            ) from None
        is_ipc = place.transport == "ipc"
        self._path = BoundPath.of(Path(f"{place.ip}-{port}")) if is_ipc else None
        self._channel = ZmqChannel("registration", router)
        self.registration = Registration(
            kernel_id or str(uuid.uuid4()),
            place.transport,
            place.ip,
            port,
            place.key,
            place.signature_scheme,
            place.extra,
        )

    def __enter__(self) -> Registrar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(self, path: Path) -> None:
        """Write the registration file, for its owner only. Raises `ConnectionFileError`."""
        write_for_owner(path, self.registration.as_dict(), "registration file")

    async def wait_registered(self) -> ConnectionInfo:
        """Wait for the registration and acknowledge it. Returns where the kernel listens.

        A message that is not signed with the key, or is for another kernel, is dropped and counted.
        Raises `WireError` for a registration that is signed, but wrong, and `PeerGone` if its
        sender has disconnected before the acknowledgement. Cancelled, it can be called again.
        """
        while True:
            frames = [bytes(frame) for frame in await receive(self._channel)]
            try:
                content = _signed(self._codec, frames)
            except WireError as error:
                self.refused[error.kind] += 1
                continue
            fields = _fields_of(content)
            if fields.get("kernel_id") != self.registration.kernel_id:
                self.refused["kernel_id"] += 1
                continue
            ports: dict[str, Any] = {name: _port(fields, name) for name in PORTS}
            if len(set(ports.values())) < len(PORTS):
                raise WireError("registration", f"two channels have one port: {ports}")
            self.acknowledge(frames[: frames.index(DELIMITER)])
            return attrs.evolve(self._place, **ports)

    def acknowledge(self, identities: list[bytes]) -> None:
        """Send the signed acknowledgement. Raises `PeerGone`."""
        ack = json.dumps({"kernel_id": self.registration.kernel_id, "status": "ok"}).encode()
        self._channel.send_nowait([*identities, DELIMITER, self._codec.sign([ack]), ack])

    def close(self) -> None:
        """Close the socket. An acknowledgement that is not sent yet has a second for that.

        May be called twice.
        """
        if self._path is not None:
            self._path.remove()
            self._path = None
        self._channel.close()
        self._context.term()


def _fields_of(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise WireError("json", "a registration that is no JSON") from None
    if not isinstance(fields, dict):
        raise WireError("json", "a registration that is no JSON object")
    return fields


def _port(fields: Mapping[str, Any], name: str) -> int:
    """A port of a registration, where it is a string; an integer is accepted, too. Raises
    `WireError`.
    """
    value = fields.get(name)
    text = value if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise WireError("registration", f"its {name!r} is {value!r:.40}, no port")
    if not 0 < int(text) <= 65535:
        raise WireError("registration", f"its {name!r} is {text}, no port")
    return int(text)
