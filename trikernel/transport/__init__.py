"""Moves frames and never looks inside: in memory, over zmq, over a host's zmq-anyio sockets.

`ZmqAnyioTransport` is in `trikernel.transport.zmqanyio`, so that only who uses it loads AnyIO.
"""

from __future__ import annotations

from .base import BroadcastChannel, Channel, ClientTransport, Transport, receive
from .connection import ConnectionInfo, read_connection_file, write_connection_file
from .memory import MemoryClient, MemoryTransport
from .zeromq import ZmqClientTransport, ZmqTransport

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
    "read_connection_file",
    "receive",
    "write_connection_file",
]
