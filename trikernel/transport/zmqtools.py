"""The few things that every zmq socket of ours needs: options before bind, ports after it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq

__all__ = ["Options", "bind", "last_port", "new_socket"]

Options = Mapping[int, int | bytes]

_umask_lock = threading.Lock()  # two at once would restore each other's


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
        path = Path(endpoint.removeprefix("ipc://"))
        if path.exists() and not path.is_socket():  # libzmq would delete it
            raise zmq.ZMQError(errno.EEXIST, f"{path} is there already, and is no socket")
        _bind_path(socket, path)
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
        _bind_path(socket, path)
        return number


def _bind_path(socket: zmq.Socket[Any], path: Path) -> None:
    """Bind to a path that only its owner may connect to, from the moment in which it is there.

    The mask is the whole process's: what another thread makes meanwhile is its owner's alone, too.
    """
    with _umask_lock:
        mask = os.umask(0o077)
        try:
            socket.bind(f"ipc://{path}")
        finally:
            os.umask(mask)
    if not path.name.startswith("@"):  # a name that is no file
        path.chmod(0o600)
