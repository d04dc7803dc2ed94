"""Moves frames and never looks inside: in memory, over zmq, over a host's zmq-anyio sockets.

`ZmqAnyioTransport` is in `trikernel.transport.zmq_anyio`, so that only who uses it loads AnyIO.
"""

from __future__ import annotations

from .base import BroadcastChannel, Channel, ClientTransport, Transport, receive
from .connection_file import (
    ConnectionInfo,
    new_connection_file,
    read_connection_file,
    remove_stale_files,
    write_connection_file,
)
from .memory import MemoryClient, MemoryTransport
from .zmq_transport import ZmqClientTransport, ZmqTransport

__all__ = [
    "BroadcastChannel",
    "Channel",
    "ClientTransport",
    "ConnectionInfo",
    "MemoryClient",
    "MemoryTransport",
    "Transport",
    "ZmqClientTransport",
    "ZmqTransport",
    "new_connection_file",
    "read_connection_file",
    "receive",
    "remove_stale_files",
    "write_connection_file",
]
