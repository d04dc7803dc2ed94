"""From flags to a kernel that is served: sockets first, then the other side is told, then the loop.

`launch` runs a kernel in this process as `trikernel.kernel.run` does; what is else is done before,
and beside.
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
BACKLOG = 64  # connections that the system keeps until they are accepted


@attrs.frozen
class Launch:
    """What is to be started, and who is to be told.

    ``told`` is a gateway, or a registration of the startup handshake. ``ip`` is what the kernel
    listens on, for a gateway. ``trusted`` are those who may speak to the communication port, all if
    there are none.
    """

    told: Gateway | Registration
    ip: str = "0.0.0.0"  # a gateway is another machine
    ports: PortRange | None = None
    encryption: str = "disabled"
    trusted: Sequence[Network] = ()


class Launched:
    """What `launch` has bound, for the task that serves beside control."""

    def __init__(self) -> None:
        self.port: CommunicationPort | None = None

    async def serve(self, server: Server) -> None:
        """Hear the communication port, if there is one."""
        if self.port is not None:
            await serve_orders(self.port, server)


def launch(how: Launch, kernel: Kernel) -> None:
    """Serve ``kernel`` in this process, told to a gateway or registered, until it is shut down.

    Raises `UsageError` in one line for what keeps it from being reached: no port that is free,
    nobody who listens; and what `trikernel.run` raises.
    """
    os.environ.pop("JPY_PARENT_PID", None)  # who has started it may be gone before it
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
    """With CURVE keys, if the policy asks for them. Raises `UsageError` where it insists."""
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
    """A socket that listens, on any port or on one of a range. Raises `UsageError`."""

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
    """What a response says: a connection file's fields, and what is a gateway's."""
    known = {name: one for name, one in info.as_dict().items() if name in _FIELDS}
    process = {"pid": os.getpid(), "kernel_id": kernel_id, "comm_port": comm_port}
    if hasattr(os, "getpgid"):
        process["pgid"] = os.getpgid(0)
    return {**known, **info.ports, **process}
