"""Packets, with descriptors, between a program that asks for a process and the template.

A connection is a Unix socket that preserves packets, so a packet comes whole or not at all. Each
connection is for one process::

    the program that asks          the template            the process it forks
    START and descriptors   ->
                            <-     refused: why
                            <-                             ready: its pid, and a pidfd
    GO                      ->
                            <-     ended: its wait status

The process waits for `GO`, so that none runs of which the program does not know. Then the process
closes its end, so from there on the connection breaks only if the template ends. The program closes
the connection when it has learned of the process's end. Until then the process stays a zombie and
its process id is not reused, as with `subprocess`.

Large content, as an environment, goes in a file in memory whose descriptor is sent.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "ANSWER_TIMEOUT",
    "GO",
    "MAX_DESCRIPTORS",
    "START",
    "NotWarm",
    "close_all",
    "in_memory",
    "is_same_user",
    "packet_pair",
    "packet_socket",
    "read_from_memory",
    "receive",
    "send",
    "send_message",
    "short_name",
]

START, GO = b"start", b"go"
ANSWER_TIMEOUT = 20  # seconds; a fork takes milliseconds
MAX_PACKET = 32_768  # bytes; every system accepts packets of that size
MAX_DESCRIPTORS = 6


class NotWarm(Exception):
    """A process cannot be had from a template; ``reason`` is one line.

    ``worth_a_new_one`` says that a new template could fork it, because the one that was asked is
    stale or gone.
    """

    def __init__(self, reason: str, *, worth_a_new_one: bool = False) -> None:
        super().__init__(reason)
        self.worth_a_new_one = worth_a_new_one


def packet_socket() -> socket.socket:
    """A Unix socket of packets."""
    if sys.platform == "win32":
        raise NotImplementedError
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected Unix sockets of packets."""
    if sys.platform == "win32":
        raise NotImplementedError
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@contextmanager
def short_name(path: str) -> Iterator[str]:
    """Another path to the same file, short enough for a socket's address, while the block runs.
    Raises `OSError`.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def send(connection: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one packet. Raises `OSError`."""
    if sys.platform == "win32":
        raise NotImplementedError
    socket.send_fds(connection, [packet], list(descriptors))


def send_message(
    connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Send a small dictionary as JSON. The caller has to cut long text: see `MAX_PACKET`."""
    send(connection, json.dumps(message).encode(), descriptors)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet and its descriptors, which are the caller's; b"" when the other end is gone.

    Raises `OSError`, also when there was no room for all descriptors.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    packet, descriptors, flags, _ = socket.recv_fds(connection, MAX_PACKET, MAX_DESCRIPTORS)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        close_all(descriptors)
        raise OSError("no room for the descriptors of a request")
    return packet, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close them."""
    for fd in descriptors:
        os.close(fd)


def in_memory(value: dict[str, Any]) -> int:
    """A descriptor of a file in memory that holds ``value`` as JSON. Raises `OSError`."""
    if sys.platform != "linux":
        raise NotImplementedError
    fd = os.memfd_create("trikernel-start", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(json.dumps(value).encode())
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_from_memory(fd: int) -> dict[str, Any]:
    """What `in_memory` has put there."""
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        found: dict[str, Any] = json.loads(file.read())
    return found


def is_same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is of the same user, as the system tells."""
    if sys.platform != "linux":
        raise NotImplementedError
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())
