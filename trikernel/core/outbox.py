"""What goes out on iopub: producers only append, one drainer sends.

`print`, `display` and a comm's finalizer run anywhere, also inside the garbage collector while
this very thread holds a lock. So every producer appends to a deque; draining pops and sends
as one block under the lock, and a re-entrant caller returns. Adjacent text of one cell and
stream is merged into one message.

A subscriber that does not read is waited for, within a budget of bytes and seconds; then it
loses messages, the others do not, and the log says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..transport import BroadcastChannel, forget_in_child
from ..wire import Codec, Header

__all__ = ["Outbox", "OutboxLimits"]

ENTRY_COST = 64  # bytes that a queued entry takes beside its text

_log = logging.getLogger("trikernel")


@attrs.frozen
class OutboxLimits:
    """``max_merge`` characters of text go in one message; text goes out ``interval`` seconds
    after it was written. ``budget_bytes`` and ``budget_seconds`` are how long a stalled
    subscriber is waited for.
    """

    max_merge: int = 1 << 16
    interval: float = 0.02
    budget_bytes: int = 16 << 20
    budget_seconds: float = 0.5


class _Text(NamedTuple):
    parent: Header | None
    name: str
    text: str


class Outbox:
    """The queue in front of an iopub channel. Every method works from any thread."""

    def __init__(
        self, channel: BroadcastChannel, codec: Codec, limits: OutboxLimits | None = None
    ) -> None:
        self._channel = channel
        self._codec = codec
        self.limits = limits or OutboxLimits()
        self._entries: deque[_Text | list[bytes]] = deque()
        self._head: list[bytes] | None = None
        self._lock = threading.RLock()
        self._draining = False
        self._size = 0
        self._stalled_at: float | None = None
        self._dropping = False
        self._armed = False
        self._arm: Callable[[], None] | None = None
        self.collect: Callable[[], object] | None = None
        self.dropped = 0
        forget_in_child(self)

    def forget(self) -> None:
        """In a forked child: nothing more goes out."""
        self._lock, self._draining = threading.RLock(), False
        self._entries, self._head = deque(maxlen=0), None
        self._stalled_at, self._arm = None, None

    @enable_ki_protection
    def write(self, parent: Header | None, name: str, text: str) -> None:
        """Append to the stream ``name`` of the request with that header; `flush` sends it."""
        self._entries.append(_Text(parent, name, text))
        self._size += len(text) + ENTRY_COST
        if self._size > self.limits.budget_bytes // 4:
            self.drain()
        elif not self._armed and self._arm is not None:
            self._armed = True
            self._arm()

    @enable_ki_protection
    def post(self, frames: list[bytes]) -> None:
        """Append an encoded message (its first frame is the topic) and send what is queued."""
        self._entries.append(frames)
        self._size += sum(map(len, frames)) + ENTRY_COST
        self.drain()

    @enable_ki_protection
    def drain(self) -> None:
        """Send what is queued now, as far as subscribers can take it. Never waits for them."""
        with self._lock:
            if self._draining:
                return
            self._draining = True
            try:
                # no more than there is: while other threads print, there would be no end
                for _ in range(len(self._entries) + (self._head is not None)):
                    if not self._send_one():
                        break
            finally:
                self._draining = False
        if (self._entries or self._head is not None) and not self._armed and self._arm is not None:
            self._armed = True
            self._arm()

    async def flush(self) -> None:
        """Wait until everything appended so far is sent, or the stalled one's budget is spent.

        What `collect` (a function, if one is set) appends now counts as well. Cancelled, it
        leaves the queue as it is.
        """
        if self.collect is not None:
            self.collect()
        self.drain()
        while self._stalled_at is not None:
            await trio.sleep(self.limits.interval / 2)
            self.drain()

    async def run_flusher(self, token: trio.lowlevel.TrioToken) -> None:
        """Send text soon after it was written; waits without a timer while there is none."""
        event = trio.Event()

        def arm() -> None:
            try:
                token.run_sync_soon(lambda: event.set())
            except trio.RunFinishedError:
                self._arm = None

        self._arm = arm
        try:
            while True:
                if not self._entries and self._head is None:
                    await event.wait()
                await trio.sleep(self.limits.interval)
                event = trio.Event()
                self._armed = False
                self.drain()
        finally:
            self._arm = None

    def _send_one(self) -> bool:
        """Send the next message; False if there is none, or if it has to wait."""
        try:
            if self._head is None:
                self._head = self._next()
            if self._head is None or not self._send(self._head):
                return False
        except Exception:  # frames that zmq does not take: they must not stay in the way
            _log.exception("a message on iopub could not be sent")
        self._head = None
        return True

    def _next(self) -> list[bytes] | None:
        if not self._entries:
            self._size = 0
            return None
        entry = self._entries.popleft()
        if not isinstance(entry, _Text):
            self._size = max(0, self._size - sum(map(len, entry)) - ENTRY_COST)
            return entry
        parts, size = [entry.text], len(entry.text)
        while self._entries and size < self.limits.max_merge:
            following = self._entries[0]
            if (
                not isinstance(following, _Text)
                or following.parent is not entry.parent
                or following.name != entry.name
            ):
                break
            self._entries.popleft()
            parts.append(following.text)
            size += len(following.text)
        self._size = max(0, self._size - size - ENTRY_COST * len(parts))
        return self._stream(entry.parent, entry.name, "".join(parts))

    def _stream(self, parent: Header | None, name: str, text: str) -> list[bytes]:
        content: dict[str, Any] = {"name": name, "text": text}
        return self._codec.encode(
            "stream",
            content,
            parent=parent,
            identities=[b"stream." + name.encode(errors="replace")],
        )

    def _send(self, frames: list[bytes]) -> bool:
        """False if a subscriber is stalled and its budget not yet spent."""
        try:
            self._channel.send_nowait(frames)
        except trio.WouldBlock:
            now = time.monotonic()
            if self._stalled_at is None:
                self._stalled_at = now
            if (
                now - self._stalled_at <= self.limits.budget_seconds
                and self._size <= self.limits.budget_bytes
            ):
                return False
            _log.warning("a frontend does not read its output, and loses some of it")
            self.dropped += 1
            self._channel.send_dropping(frames)
        except trio.ClosedResourceError:
            self._entries.clear()
        self._stalled_at = None
        return True
