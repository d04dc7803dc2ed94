"""The few things that every zmq socket of ours needs: options before bind, ports after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq

__all__ = ["Options", "bind", "last_port", "new_socket"]

Options = Mapping[int, int | bytes]


def new_socket(context: zmq.Context[Any], kind: int, options: Options) -> zmq.Socket[Any]:
    """A socket with options that must stand before it binds or connects."""
    socket: zmq.Socket[Any] = context.socket(kind)
    for option, value in options.items():
        socket.set(option, value)
    return socket


def bind(socket: zmq.Socket[Any], endpoint: str) -> int:
    """Bind to ``tcp://ip:port`` or ``ipc://path-port``, port 0 meaning any; the real port.

    Raises `zmq.ZMQError` when the address is taken or no address.
    """
    if endpoint.startswith("tcp:"):
        socket.bind(endpoint.removesuffix(":0") + ":*" if endpoint.endswith(":0") else endpoint)
        return last_port(socket)
    base, _, port = endpoint.rpartition("-")
    if port != "0":
        socket.bind(endpoint)
        return int(port)
    return _bind_free_path(socket, base)


def last_port(socket: zmq.Socket[Any]) -> int:
    """The tcp port that a socket is bound to; 0 for what is no tcp address."""
    endpoint = zmq.Socket.get(socket, zmq.LAST_ENDPOINT)
    text = bytes(endpoint).rstrip(b"\0").rpartition(b":")[2] if endpoint else b""
    return int(text) if text.isdigit() else 0


def _bind_free_path(socket: zmq.Socket[Any], base: str) -> int:
    folder_and_name = Path(base.removeprefix("ipc://"))
    number = 1
    while True:
        path = folder_and_name.with_name(f"{folder_and_name.name}-{number}")
        try:
            path.touch(mode=0o600, exist_ok=False)  # reserve it; libzmq binds over the file
        except FileExistsError:
            number += 1
            continue
        socket.bind(f"{base}-{number}")
        return number
