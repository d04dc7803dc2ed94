"""Launches a kernel for a gateway: binds its sockets, tells the gateway, then serves the kernel.

`launch` runs a kernel in this process as `trikernel.kernel.run` does. Before that it sends the
response, and while the kernel is served it listens on the communication port.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
import trio

from ..core import Server
from ..errors import ConnectionFileError, UsageError
from ..kernel import Kernel, open_connection, run_over
from ..transport import ConnectionInfo, PortRange, Registration, ZmqTransport, bind_first
from .communication import CommunicationPort, Network
from .orders import serve_orders
from .response import Gateway, seal, send_response

__all__ = ["Launch", "Launched", "bind_communication", "launch"]

_log = logging.getLogger("trikernel")
_FIELDS = ("transport", "ip", "key", "signature_scheme", "curve_publickey", "curve_secretkey")
BACKLOG = 64  # connections that the system queues until they are accepted


@attrs.frozen
class Launch:
    """How a kernel is launched, and to whom it tells its ports.

    ``told`` is a gateway, or a registration of the startup handshake. The other fields are for a
    gateway, but ``ports``, which is for both: the range to bind in. ``ip`` is the address to listen
    on. ``trusted`` are the networks that may send orders to the communication port; if it is empty,
    all may.
    """

    told: Gateway | Registration
    ip: str = "0.0.0.0"  # a gateway is another machine
    ports: PortRange | None = None
    encryption: str = "disabled"
    trusted: Sequence[Network] = ()


class Launched:
    """The communication port that `launch` has bound, for the task that serves it."""

    def __init__(self) -> None:
        self.port: CommunicationPort | None = None

    async def serve(self, server: Server) -> None:
        """Serve the communication port, if there is one, in the service loop until cancelled."""
        if self.port is not None:
            await serve_orders(self.port, server)


def launch(how: Launch, kernel: Kernel) -> None:
    """Tell a gateway where ``kernel`` listens, or register it, and serve it in this process until
    it is shut down.

    Raises `UsageError`, with one line of text, if no port is free or the gateway cannot be reached;
    and what `trikernel.run` raises.
    """
    os.environ.pop("JPY_PARENT_PID", None)  # the process that started this may end before it
    launched = Launched()
    if isinstance(how.told, Registration):
        open_it: Callable[..., ZmqTransport] = partial(_open_registered, how, kernel)
        run_over(kernel, open_it)
    else:
        run_over(kernel, partial(_open_told, how, how.told, kernel, launched), [launched.serve])


def _open_registered(
    how: Launch, kernel: Kernel, stack: ExitStack, before_exit: list[Callable[[], object]]
) -> ZmqTransport:
    assert isinstance(how.told, Registration)
    return open_connection(kernel, how.told, None, stack, before_exit, ports=how.ports)


def _open_told(
    how: Launch,
    gateway: Gateway,
    kernel: Kernel,
    launched: Launched,
    stack: ExitStack,
    before_exit: list[Callable[[], object]],
) -> ZmqTransport:
    info = _encrypted(ConnectionInfo(ip=how.ip), how.encryption)
    transport = open_connection(kernel, None, info, stack, before_exit, ports=how.ports)
    listening = stack.enter_context(bind_communication(how.ip, how.ports))
    launched.port = CommunicationPort(listening, how.trusted)
    fields = response_fields(transport.info, gateway.kernel_id, listening.getsockname()[1])
    response = seal(fields, gateway.public_key)
    trio.run(send_response, gateway, response, kernel.registration_timeout)
    return transport


def _encrypted(info: ConnectionInfo, policy: str) -> ConnectionInfo:
    """The connection with CURVE keys, if the policy asks for them. Raises `UsageError` if they are
    required and cannot be made.
    """
    if policy == "disabled":
        return info
    try:
        return info.encrypted()
    except ConnectionFileError as error:
        if policy == "required":
            raise UsageError(f"--transport-encryption required: {error}") from None
        _log.warning("--transport-encryption auto: %s, so nothing is encrypted", error)
        return info


def bind_communication(ip: str, ports: PortRange | None) -> socket.socket:
    """A listening socket, on any free port or on one in a range. Raises `UsageError` if none can
    be bound.
    """

    def bind(port: int) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            one.bind((ip, port))
            one.listen(BACKLOG)
        except BaseException:
            one.close()
            raise
        return one

    try:
        return bind_first(bind, 0, ports, "communication port")
    except OSError as error:
        raise UsageError(
            f"communication port: cannot bind {ip}: {error.strerror or error}"
        ) from None


def response_fields(info: ConnectionInfo, kernel_id: str, comm_port: int) -> dict[str, Any]:
    """The content of a response: a connection file's fields, and those that a gateway needs."""
    known = {name: one for name, one in info.as_dict().items() if name in _FIELDS}
    process = {"pid": os.getpid(), "kernel_id": kernel_id, "comm_port": comm_port}
    if hasattr(os, "getpgid"):
        process["pgid"] = os.getpgid(0)
    return {**known, **info.ports, **process}
