"""Clients that do not read. On iopub all output waits for them, within a budget; replies are kept.

A subscriber that does not read
    libzmq queues a bounded number of messages for each subscriber. When one of these queues is
    full, the state of `Subscribers` changes, and the queue in `iopub` stands still for everybody,
    because a message cannot be sent to some subscribers now and to others later.

    =========  =======  =======  ============
    state      SENT     FULL     BUDGET_SPENT
    =========  =======  =======  ============
    FLOWING    FLOWING  STALLED
    STALLED    FLOWING  STALLED  FLOWING
    =========  =======  =======  ============

    ``SENT``: the message was queued for all subscribers. ``FULL``: the queue of one is full.
    ``BUDGET_SPENT``: it was full for longer than the budget of seconds, or more bytes wait than the
    budget allows, and than did when it became full: a single text or display may be larger than the
    budget, and is no reason not to wait for who reads. That subscriber loses messages until it
    reads again, and finds a notice at the place of the first; the others lose nothing.

A client that does not read its replies
    A socket's own queue holds a thousand messages for each client. Further ones wait in
    `ReplySender`, in order, within a budget for each client. Sending is tried again, less and less
    often while it fails, because libzmq does not tell when a ROUTER can send to a client again.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging import Logger

import attrs
import trio

from ..errors import CellStopped, PeerGone
from ..system import RepeatedEvent, on_fork
from ..transport import BroadcastChannel, Channel
from ..wire import DELIMITER, Codec, json, reply_type
from .request import Reply, Request

__all__ = ["SUBSCRIBER_TRANSITIONS", "ReplySender", "Subscribers"]

FIRST_RETRY, LAST_RETRY = 0.01, 1.0  # seconds until sending is tried again, at first and at last
NOTICE = (
    "\n[output dropped: a frontend did not read it in time; what follows is missing there,"
    " up to where it reads again]\n"
)

_log = logging.getLogger("trikernel")


# Subscribers


class Flow(enum.Enum):
    """How the subscribers are: see the table above."""

    FLOWING = "flowing"
    STALLED = "stalled"


class FlowEvent(enum.Enum):
    """What sending a message came to."""

    SENT = "sent"
    FULL = "full"
    BUDGET_SPENT = "budget spent"


SUBSCRIBER_TRANSITIONS: Mapping[Flow, Mapping[FlowEvent, Flow]] = {
    Flow.FLOWING: {FlowEvent.SENT: Flow.FLOWING, FlowEvent.FULL: Flow.STALLED},
    Flow.STALLED: {
        FlowEvent.SENT: Flow.FLOWING,
        FlowEvent.FULL: Flow.STALLED,
        FlowEvent.BUDGET_SPENT: Flow.FLOWING,
    },
}


class Subscribers:
    """A broadcast channel that waits for a subscriber who does not read, within a budget.

    ``dropped`` counts the messages that somebody has lost.
    """

    def __init__(self, channel: BroadcastChannel, codec: Codec, seconds: float, size: int) -> None:
        self._channel = channel
        self._codec = codec
        self._seconds = seconds
        self._bytes = size
        self._stalled_at, self._allowed, self._has_dropped = 0.0, size, False
        self.state = Flow.FLOWING
        self.dropped = 0

    @property
    def is_stalled(self) -> bool:
        """Whether a message waits for a subscriber."""
        return self.state is Flow.STALLED

    def give_up(self) -> None:
        """Nobody is waited for any more."""
        self.state = Flow.FLOWING

    def advance(self, event: FlowEvent) -> None:
        """Go to the next state; `RuntimeError` for what the table does not allow."""
        following = SUBSCRIBER_TRANSITIONS[self.state].get(event)
        if following is None:
            raise RuntimeError(f"subscribers that are {self.state.value}: {event.value}?")
        self.state = following

    def send(self, frames: list[bytes], waiting: int) -> bool:
        """Send to all subscribers. False if one is stalled and the budget, of which ``waiting``
        bytes are used, is not spent. Raises `trio.ClosedResourceError`.
        """
        try:
            self._channel.send_nowait(frames)
        except trio.WouldBlock:
            if self.state is Flow.FLOWING:
                self._stalled_at = time.monotonic()
                self._allowed = self._bytes if self._has_dropped else max(self._bytes, waiting)
            self.advance(FlowEvent.FULL)
            seconds = time.monotonic() - self._stalled_at
            if seconds <= self._seconds and waiting <= self._allowed:
                return False
            self._drop(frames)
            return True
        self._has_dropped = False
        if self.state is not Flow.FLOWING:
            self.advance(FlowEvent.SENT)
        return True

    def _drop(self, frames: list[bytes]) -> None:
        """Send to everybody but the stalled one, who finds a notice in its place."""
        _log.warning("a frontend does not read its output, and loses some of it")
        self.dropped += 1
        self._has_dropped = True
        with suppress(trio.WouldBlock):
            self._channel.send_beyond(self._notice(frames))
        self._channel.send_dropping(frames)
        self.advance(FlowEvent.BUDGET_SPENT)

    def _notice(self, frames: list[bytes]) -> list[bytes]:
        """Text under the cell that the first lost message is about."""
        try:
            parent = json.loads(frames[frames.index(DELIMITER) + 3])
        except (ValueError, IndexError):  # an author's own frames
            parent = None
        content = {"name": "stderr", "text": NOTICE}
        return self._codec.encode("stream", content, parent=parent, identities=[b"stream.stderr"])


# Replies


@attrs.define(eq=False)
class _Client:
    """One that does not read: the replies that wait for it, their bytes, and the number lost."""

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
        """The frames of a reply. If it cannot be encoded, that is logged, and the frames are those
        of ``error_reply``.
        """
        try:
            return self._encode(request, reply)
        except (KeyboardInterrupt, CellStopped) as error:  # in a method of a value in it
            return self._encode(request, error_reply(request, error))
        except BaseException as error:  # such a method may raise SystemExit; nothing awaits here
            self._log.exception("the reply to %s cannot be sent", request.msg_type)
            return self._encode(request, error_reply(request, error))

    def _encode(self, request: Request, reply: Reply) -> list[bytes]:
        metadata = {**request.metadata, **reply.metadata}
        frames = self._codec.encode(
            reply_type(request.msg_type) or "",
            reply.content,
            parent=request.message.header,
            metadata=metadata,
            buffers=reply.buffers,
            identities=request.message.identities,
        )
        if reply.frames:
            frames += reply.frames
        return frames

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
        """Try again to send what waits; without a timer while nothing does."""
        self._begun, pause = RepeatedEvent(), FIRST_RETRY
        try:
            while True:
                if not self._slow:
                    pause = FIRST_RETRY
                    await self._begun.wait()
                await trio.sleep(pause)
                pause = FIRST_RETRY if self.flush() else min(2 * pause, LAST_RETRY)
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
