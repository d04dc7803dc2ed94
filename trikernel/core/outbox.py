"""What goes out on iopub: producers only append, one drainer sends.

`print`, `display` and a comm's finalizer run anywhere, also inside the garbage collector while
this very thread holds a lock. So every producer appends to a deque; draining pops and sends
as one block under the lock, and a re-entrant caller returns. Adjacent text of one cell and
stream is merged into one message.

A subscriber that does not read is waited for, within a budget: see `patience`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..system import on_fork
from ..transport import BroadcastChannel
from ..wire import Codec, Header
from .patience import PatientChannel
from .text import CLOSED, OpenText

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
        self.limits = limits or OutboxLimits()
        budget = self.limits.budget_seconds, self.limits.budget_bytes
        self._channel = PatientChannel(channel, codec, *budget)
        self._codec = codec
        self._entries: deque[_Text | OpenText | list[bytes]] = deque()
        self._open: OpenText | None = None
        self._text_lock = threading.RLock()
        self._head: list[bytes] | None = None
        self._lock = threading.RLock()
        self._draining = False
        self._again = False
        self._cut = False
        self._size = 0
        self._armed = False
        self._arm: Callable[[], None] | None = None
        self.collect: Callable[[], object] | None = None
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: nothing more goes out."""
        self._lock, self._text_lock, self._draining = threading.RLock(), threading.RLock(), False
        self._entries, self._head = deque(maxlen=0), None
        self.close_text()
        self._channel.forget()
        self._arm = None

    @enable_ki_protection
    def write(self, parent: Header | None, name: str, text: str) -> None:
        """Append to the stream ``name`` of the request with that header; `flush` sends it."""
        self.close_text()
        self._entries.append(_Text(parent, name, text))
        self._size += len(text) + ENTRY_COST
        self._send_soon()

    @enable_ki_protection
    def open_text(self, writer: object, parent: Header | None, name: str) -> OpenText:
        """As `write`, for somebody who has much to write, piece by piece."""
        opened = OpenText(writer, parent, name)
        self._replace_open(opened)
        self._entries.append(opened)
        self._send_soon()
        return opened

    @enable_ki_protection
    def reopen(self, closed: OpenText) -> None:
        """A piece was appended while it was being closed: send that too."""
        if closed.pieces:
            self._entries.append(closed)
            self._send_soon()

    def close_text(self) -> None:
        """Have the next piece of text go through `write` or `open_text`; from any thread."""
        if self._open is not None:
            self._replace_open(None)

    def _replace_open(self, opened: OpenText | None) -> None:
        with self._text_lock:  # no call in between: the garbage collector may print
            previous, self._open = self._open, opened
        if previous is not None:
            self._size += previous.close() + ENTRY_COST

    def _send_soon(self) -> None:
        if self._size > self.limits.budget_bytes // 4:
            self.drain()
        elif not self._armed and self._arm is not None:
            self._armed = True
            self._arm()

    @enable_ki_protection
    def post(self, frames: list[bytes], *, hold: bool = False) -> None:
        """Append an encoded message (its first frame is the topic) and send what is queued.

        With ``hold`` it goes out with what comes next: whoever says so sees to it that something
        does, or calls `drain`, before anybody waits.
        """
        self.close_text()
        self._entries.append(frames)
        self._size += sum(map(len, frames)) + ENTRY_COST
        if not hold:
            self.drain()

    @enable_ki_protection
    def drain(self, *, wait: bool = False) -> None:
        """Send what is queued now, as far as subscribers can take it. Never waits for them.

        Somebody else who is at it sends this too, and is not waited for: the caller may be a
        finalizer, in a thread that holds any lock. ``wait`` is for who must know that it is done.
        """
        self._again = True
        while self._again and self._lock.acquire(blocking=wait):
            try:
                if self._draining:  # by this very thread
                    return
                self._again = False
                self._send_all()
            finally:
                self._lock.release()
        if (self._entries or self._head is not None) and not self._armed and self._arm is not None:
            self._armed = True
            self._arm()

    def _send_all(self) -> None:
        self._draining = True
        try:
            # no more than there is: while other threads print, there would be no end
            left = len(self._entries) + (self._head is not None)
            while left > 0 and self._send_one():
                left -= not self._cut
        finally:
            self._draining = False

    async def flush(self, *, collect: bool = True) -> None:
        """Wait until everything appended so far is sent, or the stalled one's budget is spent.

        What `collect` (a function, if one is set) appends now counts as well, unless the caller
        knows that there is nothing. Cancelled, it leaves the queue as it is.
        """
        if collect and self.collect is not None:
            self.collect()
        self.drain(wait=True)
        while self._channel.is_stalled:
            await trio.sleep(self.limits.interval / 2)
            self.drain(wait=True)

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
        entry, self._cut = self._entries.popleft(), False
        if isinstance(entry, OpenText):
            return self._pieces_of(entry)
        if not isinstance(entry, _Text):
            if self._entries:
                self._size = max(0, self._size - sum(map(len, entry)) - ENTRY_COST)
            else:  # and what was counted wrong, without a lock, ends here
                self._size = 0
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

    def _pieces_of(self, entry: OpenText) -> list[bytes] | None:
        if entry.writer is not CLOSED:
            self.close_text()
            entry.close()
        parts: list[str] = []
        size = 0
        try:
            while size < self.limits.max_merge:
                parts.append(entry.pieces.popleft())
                size += len(parts[-1])
        except IndexError:
            self._size = max(0, self._size - ENTRY_COST)
        self._cut = bool(entry.pieces)
        if self._cut:
            self._entries.appendleft(entry)
        self._size = max(0, self._size - size)
        return self._stream(entry.parent, entry.name, "".join(parts)) if parts else self._next()

    def _stream(self, parent: Header | None, name: str, text: str) -> list[bytes]:
        content: dict[str, Any] = {"name": name, "text": text}
        return self._codec.encode(
            "stream",
            content,
            parent=parent,
            identities=[b"stream." + name.encode(errors="replace")],
        )

    def _send(self, frames: list[bytes]) -> bool:
        """False if it has to wait for a subscriber."""
        try:
            return self._channel.send(frames, self._size)
        except trio.ClosedResourceError:
            self._entries.clear()
            self._channel.forget()
            return True

    @property
    def dropped(self) -> int:
        """How many messages a subscriber has lost."""
        return self._channel.dropped
