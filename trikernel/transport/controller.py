"""The addresses of an ipyparallel controller, read from its ``ipcontroller-engine.json``.

The file has one interface, and a port for each of the controller's sockets. `engine_transport`
decides which of them an engine connects to.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import zmq

from ..errors import ConnectionFileError

__all__ = ["Controller", "read_controller"]

_PORTS = ("registration", "mux", "task", "control", "iopub", "hb_ping", "hb_pong")
_ANYWHERE = ("*", "0.0.0.0", "::")
_LOOPBACK = "127.0.0.1"


@attrs.frozen
class Controller:
    """A controller's addresses and key. ``interface`` is the beginning of each address, ``ports``
    has the port of each socket by its name.

    ``broadcast`` are the ports of the leaves of the broadcast scheduler; an engine connects to one
    of them. Without a ``key``, as under CURVE, messages are not signed. ``source`` is the name of
    the file in errors.
    """

    interface: str
    ports: Mapping[str, int]
    broadcast: tuple[int, ...]
    key: bytes = attrs.field(default=b"", repr=False)
    signature_scheme: str = "hmac-sha256"
    curve_serverkey: bytes | None = None
    source: str = attrs.field(default="connection file", eq=False)

    def url(self, name: str) -> str:
        """The zmq address of one of its sockets."""
        return f"{self.interface}:{self.ports[name]}"

    def shell_urls(self, engine_id: int) -> tuple[str, ...]:
        """The zmq addresses of the schedulers that send calls to the engine of that number."""
        leaf = self.broadcast[engine_id % len(self.broadcast)]
        return (self.url("mux"), self.url("task"), f"{self.interface}:{leaf}")

    @classmethod
    def of(cls, fields: Any, source: str, location: str | None = None) -> Controller:
        """The fields of such a file as a value. ``location`` is used in place of the file's own
        field of that name.

        Raises `ConnectionFileError` that names the field.
        """
        if not isinstance(fields, dict):
            raise ConnectionFileError(f"{source}: holds no JSON object")
        for name in ("pack", "unpack"):
            if fields.get(name, "json") not in ("json", "orjson"):
                raise ConnectionFileError(
                    f"{source}: field {name!r}: this engine speaks JSON, not {fields[name]!r:.80}"
                )
        if fields.get("ssh"):
            raise ConnectionFileError(
                f"{source}: field 'ssh': this engine opens no tunnel: open one yourself, or have "
                "the controller listen where engines reach it (ipcontroller --ip)"
            )
        curve = fields.get("curve_serverkey") or os.environ.get("IPP_CURVE_SERVERKEY")
        if curve and not zmq.has("curve"):
            raise ConnectionFileError(f"{source}: this libzmq has no CURVE")
        texts = {name: _text(fields, name, source) for name in ("key", "signature_scheme")}
        ports = {name: _port(fields, fields.get(name), name, source) for name in _PORTS}
        leaves = fields.get("broadcast")
        if not isinstance(leaves, list) or not leaves:
            raise ConnectionFileError(
                f"{source}: field 'broadcast' must be a list of ports: "
                "this needs a controller of ipyparallel 7 or later"
            )
        return cls(
            _interface(fields, source, location),
            ports,
            tuple(_port(fields, one, "broadcast", source) for one in leaves),
            texts["key"].encode(),
            texts["signature_scheme"] or "hmac-sha256",
            str(curve).encode() if curve else None,
            source,
        )


def read_controller(path: str | os.PathLike[str], location: str | None = None) -> Controller:
    """The file at ``path`` as a value; see `Controller.of`. Raises `ConnectionFileError`, also if
    there is no such file.
    """
    source = f"connection file {Path(path)}"
    try:
        fields = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConnectionFileError(
            f"{source}: there is no such file: is the controller running? (ipcontroller)"
        ) from None
    except (OSError, ValueError) as error:
        raise ConnectionFileError(f"{source}: cannot be read: {error}") from None
    return Controller.of(fields, source, location)


def _port(fields: Mapping[str, Any], value: Any, name: str, source: str) -> int:
    if name not in fields:
        raise ConnectionFileError(f"{source}: field {name!r} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 65535:
        raise ConnectionFileError(
            f"{source}: field {name!r} must be a port, an integer from 1 to 65535, not "
            f"{value!r:.80}"
        )
    return value


def _text(fields: Mapping[str, Any], name: str, source: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        found = "" if name == "key" else f", not {value!r:.80}"
        raise ConnectionFileError(f"{source}: field {name!r} must be a string{found}")
    return value


def _interface(fields: Mapping[str, Any], source: str, location: str | None) -> str:
    """The beginning of the controller's addresses, for this machine. If it listens on all of its
    addresses, the one of its ``location`` is taken.
    """
    scheme, separator, ip = str(fields.get("interface", "")).partition("://")
    if not separator:
        raise ConnectionFileError(f"{source}: field 'interface' must be as 'tcp://127.0.0.1'")
    if scheme == "tcp" and ip in _ANYWHERE:
        ip = _reachable(location or str(fields.get("location") or ""))
    return f"{scheme}://{ip}"


def _reachable(location: str) -> str:
    """The address of a machine; the loopback's if it is this machine, or not given."""
    if not location or location == socket.gethostname():
        return _LOOPBACK
    try:
        address = socket.gethostbyname(location)
    except OSError:
        return location  # zmq may be able to look up the name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))  # succeeds only for an address of this machine
        except OSError:
            return address
    return _LOOPBACK
