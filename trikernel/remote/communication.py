"""The communication port, on which a gateway sends orders to a kernel that is not its child.

One connection carries one order, a JSON object: ``{"signum": 2}`` or ``{"shutdown": 1}``. Signal 0
only asks whether the process lives: that the connection is accepted is the answer. This module
turns connections into calls; it does not know what a signal does.

Anybody may connect. So the length of an order, the time that it takes to arrive and the number of
waiting connections are bounded. If there are too many, the oldest is closed: a gateway sends its
order as soon as it has connected, so a connection that has sent nothing for long is no gateway's.
Anything that is no order is counted, and logged now and then; otherwise it is ignored.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from ..core import Rejections
from ..errors import WireError
from ..system import on_fork

__all__ = ["CommunicationPort", "Network", "Order", "read_order"]

LARGEST = 1024  # bytes of an order
TIMEOUT = 5.0  # seconds that an order may take to arrive
MOST = 16  # connections whose order has not arrived
PAUSE = 0.1  # seconds before the next try to accept, if the process has no descriptor left

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_log = logging.getLogger("trikernel")
_CAPACITY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


@attrs.frozen
class Order:
    """What a gateway wants: a signal, a shutdown, or both."""

    signum: int | None = None
    shutdown: bool = False


def read_order(data: bytes) -> Order:
    """The order in the bytes of one connection. Raises `WireError` for bytes that are no order."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise WireError("json", "what came is no JSON") from None
    if not isinstance(fields, dict):
        raise WireError("json", "what came is no JSON object")
    signum, shutdown = fields.get("signum"), fields.get("shutdown")
    if signum is None and shutdown is None:
        raise WireError("order", "neither 'signum' nor 'shutdown' is asked")
    if signum is not None and (not isinstance(signum, int) or isinstance(signum, bool)):
        raise WireError("order", f"'signum' is {signum!r:.40}, no number")
    if shutdown is not None and shutdown not in (0, 1):
        raise WireError("order", f"'shutdown' is {shutdown!r:.40}, neither 0 nor 1")
    return Order(signum, bool(shutdown))


class CommunicationPort:
    """Takes orders on a listening socket: from anybody, or only from addresses in ``trusted``.

    The caller closes the socket: `serve` may be called again after a loop has crashed.
    """

    def __init__(self, listening: socket.socket, trusted: Sequence[Network] = ()) -> None:
        self._listening = listening
        self._trusted = trusted
        self._waiting: deque[trio.CancelScope] = deque()
        self._own: socket.socket | None = None
        self.refused = Rejections(_log)
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child, close the port: it would stay open after the kernel's end."""
        self._listening.close()
        if self._own is not None:
            self._own.close()

    async def serve(self, obey: Callable[[Order, str], object]) -> None:
        """Call ``obey`` with each order and its sender's address, until cancelled. Returns, after
        an error is logged, if the socket is closed.
        """
        try:
            self._own = own = self._listening.dup()
        except OSError as error:  # the user's code may have closed the socket
            _log.error("the communication port was closed: %s", error)
            return
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(own))
        try:
            await self.accept(listener, obey)
        finally:
            self._own = None
            listener.socket.close()

    async def accept(
        self, listener: trio.abc.Listener[Any], obey: Callable[[Order, str], object]
    ) -> None:
        """The same over any listener. Returns, after an error is logged, when that is closed."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _CAPACITY:
                        _log.error("the communication port has ended: %s", error)
                        return
                    self.refused.note("the communication port", WireError("accept", str(error)))
                    await trio.sleep(PAUSE)
                except trio.ClosedResourceError:  # a cell may close any socket of the process
                    _log.error("the communication port was closed")
                    return
                else:
                    nursery.start_soon(self._hear, stream, obey)

    async def _hear(self, stream: trio.abc.Stream, obey: Callable[[Order, str], object]) -> None:
        peer = _peer_of(stream)
        scope = trio.CancelScope(deadline=trio.current_time() + TIMEOUT)
        if len(self._waiting) >= MOST:
            self._waiting.popleft().cancel()
        self._waiting.append(scope)
        try:
            with scope:
                self._check(peer)
                data = await _read(stream)
                if data:  # otherwise the peer only wanted to know whether somebody listens
                    obey(read_order(data), peer)
            if scope.cancelled_caught:
                raise WireError("late", "an order did not arrive in time")
        except WireError as error:
            told = WireError(error.kind, f"{error} (from {peer or 'a stranger'})")
            self.refused.note("the communication port", told)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has disconnected before its order was complete
        finally:
            with suppress(ValueError):
                self._waiting.remove(scope)
            await trio.aclose_forcefully(stream)

    def _check(self, peer: str) -> None:
        """Raise `WireError` for a peer that is not trusted."""
        if not self._trusted:
            return
        address = ipaddress.ip_address(peer) if peer else None
        if address is None or not any(address in network for network in self._trusted):
            raise WireError("stranger", "an order from where none is taken")


async def _read(stream: trio.abc.Stream) -> bytes:
    """All that a peer sends, to its end. Raises `WireError` if that is longer than `LARGEST`."""
    data = b""
    while chunk := await stream.receive_some(LARGEST + 1):
        data += chunk
        if len(data) > LARGEST:
            raise WireError("too long", f"an order of more than {LARGEST} bytes")
    return data


def _peer_of(stream: trio.abc.Stream) -> str:
    """The peer's address; empty if it has none, or has disconnected."""
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            return str(stream.socket.getpeername()[0])
    return ""
