"""The communication port: what a gateway asks of a kernel that is no child of its.

One connection carries one order, a JSON object: ``{"signum": 2}``, ``{"shutdown": 1}``; signal 0 is
only asked whether the process is there, and that it is answered by being there. Turns connections
into calls; what a signal does is not known here.

Anybody may be at the other end. So an order has a length, the time that it takes to arrive is
bounded, and so is the number of connections that wait: the oldest is closed for a new one, because
a gateway says what it wants in the moment in which it connects, and who says nothing for long is
none. What is no order is counted, logged now and then, and nothing else comes of it.
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
TIMEOUT = 5.0  # seconds that one may take to arrive
MOST = 16  # connections that wait for theirs
PAUSE = 0.1  # seconds before the next try to accept, where the process has no descriptor left

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_log = logging.getLogger("trikernel")
_CAPACITY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


@attrs.frozen
class Order:
    """What was asked: a signal, or the end, or both."""

    signum: int | None = None
    shutdown: bool = False


def read_order(data: bytes) -> Order:
    """The bytes of one connection as an order. Raises `WireError` for what is none."""
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
    """A listening socket, and who may speak to it: anybody, or addresses in ``trusted``.

    The socket is the caller's, who closes it: `serve` may be called again where a loop was lost.
    """

    def __init__(self, listening: socket.socket, trusted: Sequence[Network] = ()) -> None:
        self._listening = listening
        self._trusted = trusted
        self._waiting: deque[trio.CancelScope] = deque()
        self._own: socket.socket | None = None
        self.refused = Rejections(_log)
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child, which would keep the port open when its parent has ended."""
        self._listening.close()
        if self._own is not None:
            self._own.close()

    async def serve(self, obey: Callable[[Order, str], object]) -> None:
        """Call ``obey`` with each order and who has sent it, until cancelled."""
        try:
            self._own = own = self._listening.dup()
        except OSError as error:  # the user's code may have closed it
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
        """The same over any listener; returns when that is closed by somebody else."""
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
                except trio.ClosedResourceError:  # by the user's code, as a cell may close anything
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
                if data:  # else only a look whether somebody listens
                    obey(read_order(data), peer)
            if scope.cancelled_caught:
                raise WireError("late", "an order did not arrive in time")
        except WireError as error:
            told = WireError(error.kind, f"{error} (from {peer or 'a stranger'})")
            self.refused.note("the communication port", told)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # who has asked is gone before it was told what
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
    """All that a peer sends, to the end. Raises `WireError` if that is too long for an order."""
    data = b""
    while chunk := await stream.receive_some(LARGEST + 1):
        data += chunk
        if len(data) > LARGEST:
            raise WireError("too long", f"an order of more than {LARGEST} bytes")
    return data


def _peer_of(stream: trio.abc.Stream) -> str:
    """Its address; nothing for one that has none, or is gone."""
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            return str(stream.socket.getpeername()[0])
    return ""
