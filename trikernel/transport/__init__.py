"""Moves frames and never looks inside: in memory, over zmq, over a host's zmq-anyio sockets.

`ZmqAnyioTransport` is in `trikernel.transport.zmqanyio`, so that only who uses it loads AnyIO.
"""

from __future__ import annotations

from .base import BroadcastChannel, Channel, ClientTransport, Transport, receive, run_in
from .connection import ConnectionInfo, read_connection_file, write_connection_file
from .fork import Generation, exit_if_forked, forget_in_child
from .memory import MemoryClient, MemoryTransport
from .processes import wait_for_process_end
from .zeromq import ZmqClientTransport, ZmqTransport

__all__ = [
    "BroadcastChannel",
    "Channel",
    "ClientTransport",
    "ConnectionInfo",
    "Generation",
    "MemoryClient",
    "MemoryTransport",
    "Transport",
    "ZmqClientTransport",
    "ZmqTransport",
    "exit_if_forked",
    "forget_in_child",
    "read_connection_file",
    "receive",
    "run_in",
    "wait_for_process_end",
    "write_connection_file",
]
