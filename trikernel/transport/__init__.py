"""Moves frames without looking into them: in memory, over zmq, over a host's zmq-anyio sockets.

`ZmqAnyioTransport` is not imported here, as it needs AnyIO: import it from
`trikernel.transport.zmq_anyio`.
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
from .controller import Controller, read_controller
from .engine_transport import EngineTransport
from .memory import MemoryClient, MemoryTransport
from .port_range import PortRange, bind_first
from .registration import (
    Registrar,
    Registration,
    offers_handshake,
    read_startup_file,
    register,
    registration_of,
)
from .zmq_channel import ZmqChannel
from .zmq_transport import ZmqClientTransport, ZmqTransport

__all__ = [
    "BroadcastChannel",
    "Channel",
    "ClientTransport",
    "ConnectionInfo",
    "Controller",
    "EngineTransport",
    "MemoryClient",
    "MemoryTransport",
    "PortRange",
    "Registrar",
    "Registration",
    "Transport",
    "ZmqChannel",
    "ZmqClientTransport",
    "ZmqTransport",
    "bind_first",
    "new_connection_file",
    "offers_handshake",
    "read_connection_file",
    "read_controller",
    "read_startup_file",
    "receive",
    "register",
    "registration_of",
    "remove_stale_files",
    "write_connection_file",
]
