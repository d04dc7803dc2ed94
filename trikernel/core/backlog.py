"""Replies to clients that do not read: kept in order, within a budget for each client.

A socket's own queue holds a thousand messages for a client. What goes beyond waits here, and is
tried again while there is any, less and less often while nothing moves.
"""

from __future__ import annotations

import threading
from collections import deque
from logging import Logger

import attrs
import trio

from ..errors import PeerGone
from ..system import on_fork, run_in
from ..transport import Channel

__all__ = ["Backlog"]

SOON, LATE = 0.01, 1.0  # seconds until it is tried again, at first and at last


@attrs.define(eq=False)
class _Client:
    channel: Channel
    waiting: deque[list[bytes]] = attrs.field(factory=deque)
    size: int = 0
    lost: int = 0


class Backlog:
    """Sends to single clients. `send` works from any thread."""

    def __init__(self, budget: int, log: Logger) -> None:
        self._budget = budget
        self._log = log
        self._clients: dict[tuple[str, bytes], _Client] = {}
        self._lock = threading.RLock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._begun = trio.Event()
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: the clients are the parent's."""
        self._lock, self._clients, self._token = threading.RLock(), {}, None

    def send(self, channel: Channel, frames: list[bytes]) -> None:
        """Send, or keep for later; beyond the budget it is dropped, and the log says so.

        Raises `PeerGone` for a client that is not connected, `trio.ClosedResourceError`.
        """
        with self._lock:
            client = self._clients.get((channel.name, frames[0]))
            if client is None:
                try:
                    channel.send_nowait(frames)
                    return
                except trio.WouldBlock:
                    client = self._clients[channel.name, frames[0]] = _Client(channel)
            self._keep(client, frames)
        if self._token is not None:
            run_in(self._token, lambda: self._begun.set())

    def _keep(self, client: _Client, frames: list[bytes]) -> None:
        size = sum(map(len, frames))
        if client.size + size > self._budget:
            if not client.lost:
                self._log.warning(
                    "a client does not read its replies: %d bytes wait for it, the rest is lost",
                    client.size,
                )
            client.lost += 1
            return
        client.waiting.append(frames)
        client.size += size

    async def run(self) -> None:
        """Try again while something waits; without a timer while nothing does."""
        self._token = trio.lowlevel.current_trio_token()
        pause = SOON
        while True:
            if not self._clients:
                self._begun, pause = trio.Event(), SOON
                if not self._clients:  # one may have come between
                    await self._begun.wait()
            await trio.sleep(pause)
            pause = SOON if self.flush() else min(2 * pause, LATE)

    def flush(self) -> bool:
        """Send what can be sent; whether anything was."""
        moved = False
        with self._lock:
            for key, client in tuple(self._clients.items()):
                try:
                    while client.waiting:
                        client.channel.send_nowait(client.waiting[0])
                        client.size -= sum(map(len, client.waiting.popleft()))
                        moved = True
                except trio.WouldBlock:
                    continue
                except (PeerGone, trio.ClosedResourceError):
                    self._log.info("a client left without its replies")
                if client.lost:
                    self._log.warning("a client has lost %d replies", client.lost)
                del self._clients[key]
        return moved
