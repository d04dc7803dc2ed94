"""What goes to one client: replies, and what authors send on shell, control and stdin.

A socket's own queue holds a thousand messages for a client. What goes beyond that waits here, in
order, within a budget for each client, and is tried again while there is any, less and less often
while nothing moves: libzmq tells nobody when a ROUTER can send to one client again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from logging import Logger

import attrs
import trio

from ..errors import PeerGone
from ..system import RepeatedEvent, on_fork
from ..transport import Channel
from ..wire import Codec, reply_type
from .request import Reply, Request

__all__ = ["ReplySender"]

SOON, LATE = 0.01, 1.0  # seconds until it is tried again, at first and at last


@attrs.define(eq=False)
class _Client:
    """One that does not read: what waits for it, how many bytes that is, how many are lost."""

    channel: Channel
    waiting: deque[Sequence[bytes]] = attrs.field(factory=deque)
    size: int = 0
    lost: int = 0


class ReplySender:
    """Sends to single clients; ``budget`` is in bytes. `send` works from any thread."""

    def __init__(self, codec: Codec, budget: int, log: Logger) -> None:
        self._codec = codec
        self._budget = budget
        self._log = log
        self._slow: dict[tuple[str, bytes], _Client] = {}
        self._lock = threading.RLock()
        self._begun: RepeatedEvent | None = None
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: the clients are the parent's."""
        self._lock, self._slow, self._begun = threading.RLock(), {}, None

    def encode(
        self,
        request: Request,
        reply: Reply,
        error_reply: Callable[[Request, BaseException], Reply],
    ) -> list[bytes]:
        """The frames of a reply. If an author's metadata or buffers cannot be sent, that is logged,
        and the frames are those of ``error_reply``.
        """
        try:
            return self._encode(request, reply)
        except Exception as error:
            self._log.exception("the reply to %s cannot be sent", request.msg_type)
            return self._encode(request, error_reply(request, error))

    def _encode(self, request: Request, reply: Reply) -> list[bytes]:
        metadata = {**request.metadata, **reply.metadata}
        return self._codec.encode(
            reply_type(request.msg_type) or "",
            reply.content,
            parent=request.message.header,
            metadata=metadata,
            buffers=reply.buffers,
            identities=request.message.identities,
        )

    def send(self, channel: Channel, frames: Sequence[bytes]) -> None:
        """Send to one client; for one that does not read keep it, within the budget.

        A client that is gone, and what goes beyond the budget, is logged only.
        """
        try:
            with self._lock:
                client = self._slow.get((channel.name, frames[0])) if self._slow else None
                if client is None:
                    try:
                        channel.send_nowait(frames)
                        return
                    except trio.WouldBlock:
                        client = self._slow[channel.name, frames[0]] = _Client(channel)
                self._keep(client, frames)
        except (PeerGone, trio.ClosedResourceError) as error:
            self._log.info("a message on %s went nowhere: %s", channel.name, error)
            return
        if self._begun is not None:
            self._begun.set()

    def _keep(self, client: _Client, frames: Sequence[bytes]) -> None:
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
        self._begun, pause = RepeatedEvent(), SOON
        try:
            while True:
                if not self._slow:
                    pause = SOON
                    await self._begun.wait()
                await trio.sleep(pause)
                pause = SOON if self.flush() else min(2 * pause, LATE)
        finally:
            self._begun = None

    def flush(self) -> bool:
        """Send what can be sent; whether anything was."""
        moved = False
        with self._lock:
            for key, client in tuple(self._slow.items()):
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
                del self._slow[key]
        return moved
