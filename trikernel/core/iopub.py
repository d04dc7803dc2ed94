"""What goes out on iopub: topics, order, merged text, back-pressure, subscribers that do not read.

Producers only append
    `print`, `display` and a comm's finalizer run anywhere, also inside the garbage collector while
    this very thread holds a lock. So every producer appends to one deque, `IOPub.entries`, and
    `IOPub.drain` pops and sends under the lock. If this thread or another one is already sending,
    `drain` returns at once: what was appended is sent with the rest. Adjacent text of one cell and
    stream is merged into one message.

The fast path of `print`
    Signing and sending cost a hundred times as much as an append. So text waits in the queue for
    what is printed next, as a `StreamText`, to whose pieces a short text is appended without a call
    or a lock (`kernel.streams`), if it finds that entry to be OPEN:

    ======  ============  ========================  =============================================
    state   in the queue  `IOPub` knows it as       who may append
    ======  ============  ========================  =============================================
    OPEN    at its end    ``open_text``, ``_last``  whose text it is, without a lock; else `write`
    HELD    at its end    ``_last``                 `write`
    CLOSED  somewhere     nothing                   nobody; see LATE
    TAKEN   no            nothing                   nobody; see LATE
    ======  ============  ========================  =============================================

    ======  ==========  ====  ======  =====  ======  ======
    state   WRITE       STOP  NEXT    TAKE   PART    LATE
    ======  ==========  ====  ======  =====  ======  ======
    OPEN    OPEN        HELD  CLOSED  TAKEN  CLOSED
    HELD    HELD, OPEN  HELD  CLOSED  TAKEN  CLOSED  CLOSED
    CLOSED                            TAKEN  CLOSED  CLOSED
    TAKEN                                            CLOSED
    ======  ==========  ====  ======  =====  ======  ======

    ``WRITE``: a text for the same stream comes by `write`, which opens the entry unless a stop is
    pending (``STOP``), or the flusher has ended. ``NEXT``: anything else comes, or it has as many
    pieces as may go uncounted. ``TAKE``: all of its text is sent; ``PART``: as much as a message
    may have, the rest goes back to the head of the queue. ``LATE``: somebody saw that it was OPEN,
    and the text was appended just after it had changed. Who appends looks again, and has it queued
    once more (`requeue`): what is queued twice goes out with the first, and the second is empty.

Back-pressure
    A loop of ``print('x' * 3000)`` makes a gigabyte a second, which no frontend reads. So the code
    that has written waits, in `wait_for_room`, while more than a sixteenth of the budget is queued:
    outside of every lock, interruptibly, and never in protected code or a finalizer, where a wait
    could not be interrupted or would keep a lock from others. A reply waits for what is queued
    before it, so this is also how fast an interrupt is answered. A drain sends a bounded batch and
    lets other tasks run. Output that may not wait (a display from protected code, all output of a
    kernel whose services share the user's loop) is bounded by the budget itself.
    A subscriber that does not read is waited for within the budget: see `peers`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..system import RepeatedEvent, on_fork
from ..transport import BroadcastChannel
from ..wire import Codec, Header, json
from .peers import Subscribers
from .request import Request
from .waiting import may_wait_here, wait_until_free

__all__ = ["SHORT", "IOPub", "OutputLimits", "StreamText", "TextKey"]

SHORT = 1024  # characters; longer texts are counted one by one, shorter ones together
PIECES = 2048  # short texts that are appended before they are counted
COST = 64  # bytes that a queued message takes beside its frames
TEXT_COST = 512  # bytes that a `StreamText` takes beside its pieces
PIECE_COST = 24  # bytes that a piece of text takes, on average, beside its characters
BATCH = 64  # messages that one drain sends before it gives others their turn,
BATCH_BYTES = 1 << 18  # unless they are as large as this
CHUNK = 256  # pieces that are taken at once
FIRST_PAUSE = 0.001  # seconds until a stalled subscriber is tried again, at first
ROOM_INTERVAL = 0.05  # seconds between two checks whether a producer that waits is interrupted

_log = logging.getLogger("trikernel")
_STATES = {state: json.dumps({"execution_state": state}) for state in ("starting", "busy", "idle")}


@attrs.frozen
class OutputLimits:
    """At most ``max_merge`` characters of text go in one message, ``interval`` seconds after they
    were written. A stalled subscriber is waited for as long as less than ``budget_bytes`` are
    queued, and for ``budget_seconds``. Code that writes waits beyond a sixteenth of the bytes.
    """

    max_merge: int = 1 << 16
    interval: float = 0.02
    budget_bytes: int = 16 << 20
    budget_seconds: float = 0.5


@attrs.frozen(eq=False)
class TextKey:
    """Whose text it is: the header of the request, and ``stdout`` or ``stderr``."""

    parent: Header | None
    name: str


@attrs.define(eq=False)
class StreamText:
    """Text in the queue. ``counted`` is how many of its bytes are in the queue's size already."""

    key: TextKey
    pieces: deque[str] = attrs.field(factory=deque)
    counted: int = 0

    def take(self, room: int) -> tuple[list[str], int]:
        """Take out at most ``room`` characters; their pieces, and the bytes that these were counted
        as. For the thread that drains, while no other one appends.
        """
        pieces, parts, size = self.pieces, list[str](), 0
        while pieces and size < room:
            taken = [pieces.popleft() for _ in range(min(CHUNK, len(pieces)))]
            size += sum(map(len, taken))
            parts += taken
        while parts and size - len(parts[-1]) >= room:
            size -= len(parts[-1])
            pieces.appendleft(parts.pop())
        if size > room:
            cut = len(parts[-1]) - (size - room)
            pieces.appendleft(parts[-1][cut:])
            parts[-1], size = parts[-1][:cut], room
        released = self.counted if not pieces else min(self.counted, size + PIECE_COST * len(parts))
        self.counted -= released
        return parts, released


class IOPub:
    """The queue in front of an iopub channel. Every method but the async ones works from any
    thread. ``open_text``, and ``most_pieces`` as the number of pieces that it may have, are for the
    fast path of `print`: see above.
    """

    def __init__(
        self,
        channel: BroadcastChannel,
        codec: Codec,
        origin: str,
        limits: OutputLimits | None = None,
        *,
        may_block: bool = True,
    ) -> None:
        self.limits = limits or OutputLimits()
        self.entries: deque[StreamText | list[bytes]] = deque()
        self.open_text: StreamText | None = None
        self._last: StreamText | None = None  # the last entry, if that is text that is not sent yet
        self._channel = channel
        budget = self.limits.budget_seconds, self.limits.budget_bytes
        self._subscribers = Subscribers(channel, codec, *budget)
        self._codec, self._prefix = codec, f"{origin}."
        self._status_topic = [self.topic("status")]
        self._may_block = may_block
        self._bound = self.limits.budget_bytes // 16
        self.most_pieces = max(1, min(PIECES, self._bound // PIECE_COST))
        self._size = 0
        self._size_lock = threading.RLock()
        self._lock = threading.RLock()
        self._again = False  # whether somebody wants to send what was appended meanwhile
        self._draining_in = 0  # the thread that sends, 0 for none
        # How often the lock of the size is held, and by which thread.
        self._counting, self._counting_in = 0, 0
        self._head: list[bytes] | None = None  # taken out of the queue, and not sent yet
        self._popped = self._sent = 0  # entries taken out of the queue, and those that are sent
        self._armed = False  # whether the flusher is about to come
        self._stopping: set[object] = set()  # whose stops are pending: see `note_stop_pending`
        self._flusher: RepeatedEvent | None = None
        self._room: RepeatedEvent | None = None
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: nothing more goes out."""
        self._lock, self._size_lock = threading.RLock(), threading.RLock()
        self._draining_in, self._counting, self._may_block = 0, 0, False
        self.open_text = self._last = None
        self.entries, self._head, self._sent = deque(maxlen=0), None, self._popped
        self._subscribers.give_up()
        self._flusher = self._room = None

    # What is sent

    def topic(self, msg_type: str) -> bytes:
        """The first frame of a message of that type: ``<origin>.<type>``."""
        return (self._prefix + msg_type).encode()

    def publish(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        parent: Header | Mapping[str, Any] | None,
        topic: bytes | None = None,
    ) -> None:
        """Broadcast one message."""
        topics = [self.topic(msg_type) if topic is None else topic]
        self.post(self._codec.encode(msg_type, content, parent=parent, identities=topics))

    def encode_status(self, state: str, parent: Header | Mapping[str, Any] | None) -> list[bytes]:
        """The frames that say ``starting``, ``busy`` or ``idle`` about a request."""
        content = _STATES.get(state) or {"execution_state": state}
        return self._codec.encode("status", content, parent=parent, identities=self._status_topic)

    @enable_ki_protection
    def post(self, frames: list[bytes], *, hold: bool = False) -> None:
        """Append an encoded message (its first frame is the topic) and send what is queued.

        With ``hold`` it goes out together with the next one, which wakes libzmq's own thread once
        instead of twice. The caller has to post another one, or call `drain`, before it waits.
        """
        with self._size_lock:
            self._counting, self._counting_in = self._counting + 1, threading.get_ident()
            try:
                if self._last is not None:
                    self._close_last()
                self._size += sum(map(len, frames)) + COST
                self.entries.append(frames)
            finally:
                self._counting -= 1
        if not hold:
            self.drain()

    @enable_ki_protection
    def write(self, key: TextKey, text: str) -> StreamText:
        """Append to a stream; it is sent within ``interval`` seconds, merged with what else is
        written to it meanwhile. Returns the entry of the queue that it was appended to.
        """
        with self._size_lock:
            self._counting, self._counting_in = self._counting + 1, threading.get_ident()
            try:
                entry = self._append(key, text)
            finally:
                self._counting -= 1
        if not self._armed:
            self.wake()
        if self._size > self._bound // 2:
            self.drain()
        return entry

    def _append(self, key: TextKey, text: str) -> StreamText:
        entry = self._last
        if entry is None or not _are_same(entry.key, key):
            self._close_last()
            entry = self._last = StreamText(key, counted=TEXT_COST)
            self._size += TEXT_COST
            self.entries.append(entry)
        if len(text) < SHORT:
            entry.pieces.append(text)
        else:
            most = self.limits.max_merge
            entry.pieces += [text[at : at + most] for at in range(0, len(text), most)]
            entry.counted += len(text)
            self._size += len(text)
        self.open_text = None if self._stopping else entry
        if len(entry.pieces) >= self.most_pieces:
            self._close_last()
        elif self._last is not entry:  # a finalizer has queued something, or sent it, meanwhile
            self.requeue(entry)
        return entry

    @enable_ki_protection
    def requeue(self, entry: StreamText) -> None:
        """A piece was appended to an entry that may have been sent just before: queue it anew."""
        with self._size_lock:
            if self.open_text is entry:
                self.open_text = None
            if entry.pieces:
                self._close_last()
                self.entries.append(entry)
        self.wake()

    def _close_last(self) -> None:
        """If the last entry is text, have nothing more appended to it, and count its size."""
        entry, self._last, self.open_text = self._last, None, None
        if entry is not None:
            pieces = entry.pieces.copy()
            size = TEXT_COST + sum(map(len, pieces)) + PIECE_COST * len(pieces)
            self._size += size - entry.counted
            entry.counted = size

    def tell(self, request: Request, text: str) -> None:
        """Put a line on stderr under a request's cell."""
        self.write(TextKey(request.message.header, "stderr"), text)
        self.drain()

    # The flusher

    def wake(self) -> None:
        """Have the flusher come soon."""
        if not self._armed and self._flusher is not None:
            self._armed = True
            self._flusher.set()

    def note_stop_pending(self, is_pending: bool, stopper: object = None) -> None:
        """Say whether a stopper (None: the main shell's) has a stop that is not delivered yet.

        While one has, there is no `open_text`. So every text comes by `write`, after which the code
        that prints raises the stop, if it is the one to be stopped.
        """
        (self._stopping.add if is_pending else self._stopping.discard)(stopper)
        self.open_text = None

    async def run_flusher(self) -> None:
        """Send text soon after it was written; waits without a timer while there is none."""
        self._flusher, self._room = RepeatedEvent(), RepeatedEvent()
        self._armed = False
        try:
            while True:
                if not self.entries and self._head is None:
                    await self._flusher.wait()
                await trio.sleep(self.limits.interval)
                self._armed = False
                self.drain()
                pause = FIRST_PAUSE
                # Another thread that sends wakes this task for what it leaves: do not disturb it.
                while (self.entries or self._head is not None) and not self._draining_in:
                    await trio.sleep(pause if self._subscribers.is_stalled else 0)
                    pause = min(2 * pause, self.limits.interval / 2)
                    self.drain()
        finally:
            self._flusher = self._room = None
            self._armed, self.open_text = False, None

    async def flush(self) -> None:
        """Wait until everything appended so far is sent, or a stalled subscriber's budget is spent.

        What others append meanwhile is not waited for. Cancelled, it leaves the queue as it is.
        """
        pause = FIRST_PAUSE
        with self._lock:  # else what another thread is just taking out would not be counted
            target = self._popped + len(self.entries)
        if self._sent < target:
            self.drain(wait=True)
        while self._sent < target:
            await trio.sleep(pause if self._subscribers.is_stalled else 0)
            pause = min(2 * pause, self.limits.interval / 2)
            self.drain(wait=True)

    # Back-pressure

    @property
    def is_full(self) -> bool:
        """Whether so much is queued that code that writes more should wait."""
        return self._size > self._bound

    def wait_for_room(self, raise_pending: Callable[[], object]) -> None:
        """Block the calling thread while `is_full`. ``raise_pending`` is called every
        `ROOM_INTERVAL` and may raise, which ends the wait.

        For the unprotected end of functions that the user's code calls: a `KeyboardInterrupt` may
        be raised in it. Returns at once in protected code, in a finalizer, in code that the garbage
        collector calls in the middle of a drain or of a write, and in a forked child.
        """
        ident = threading.get_ident()
        while self.is_full and self._may_block and may_wait_here():
            if self._draining_in == ident or (self._counting and self._counting_in == ident):
                return  # only this very thread could make room
            self.drain()
            if not self.is_full:
                return
            if self._subscribers.is_stalled:
                self._channel.wait_writable_blocking(ROOM_INTERVAL)
            else:
                wait_until_free(self._lock, ROOM_INTERVAL)  # somebody else sends
            raise_pending()

    async def wait_until_not_full(self) -> None:
        """Wait while `is_full`, in the loop of the flusher."""
        while self.is_full and self._room is not None:
            await self._room.wait()

    # Draining

    @enable_ki_protection
    def drain(self, *, wait: bool = False) -> None:
        """Send what is queued now, as far as subscribers can take it, a batch at most; the flusher
        sends the rest.

        Never waits for subscribers. If another thread is sending, it sends this too, and without
        ``wait`` the call returns at once: the caller may be a finalizer, in a thread that holds any
        lock. With ``wait`` it waits until that thread has sent its batch: for who is about to call
        the user's code, which may keep the interpreter lock from that thread.
        """
        if not self.entries and self._head is None and not (wait and self._draining_in):
            return
        if self._counting and not wait:  # perhaps a finalizer, in the very thread that counts and
            self.wake()  # so holds a lock for which the thread that sends may wait
            return
        self._again = True
        for _ in range(2):  # what was appended meanwhile gets one more batch, not an endless one
            if not self._again or not self._lock.acquire(blocking=wait):
                break
            try:
                if self._draining_in:  # it is this very thread
                    return
                self._again, self._draining_in = False, threading.get_ident()
                try:
                    self._send_batch()
                finally:
                    self._draining_in = 0
            finally:
                self._lock.release()
        if self.entries or self._head is not None:
            self.wake()

    def _send_batch(self) -> None:
        """Send at most a batch of what is queued by now, as far as subscribers take it."""
        was_full, size = self._size > self._bound, 0
        target = self._popped + len(self.entries)
        for _ in range(BATCH):
            if self._sent >= target or size > BATCH_BYTES:
                break
            try:
                if self._head is None:
                    self._head = self._next()
                if self._head is not None and not self._subscribers.send(self._head, self._size):
                    break
            except trio.ClosedResourceError:
                self._popped += len(self.entries)
                self.entries.clear()
                with self._size_lock:
                    self._size = 0
            except Exception:  # frames that zmq does not take: they must not stay in the way
                _log.exception("a message on iopub could not be sent")
            size += sum(map(len, self._head or ()))
            self._head = None
            self._sent = self._popped
        if was_full and self._room is not None and not self.is_full:
            self._room.set()

    def _next(self) -> list[bytes] | None:
        """The frames of the next message; None if there is none."""
        while self.entries:
            entry = self.entries.popleft()
            self._popped += 1
            if isinstance(entry, list):
                with self._size_lock:
                    self._size -= sum(map(len, entry)) + COST
                return entry
            text = self._take(entry)
            if text:  # else all of it went with an earlier one
                name, parent = entry.key.name, entry.key.parent
                content = {"name": name, "text": text}
                topic = b"stream." + name.encode(errors="replace")
                return self._codec.encode("stream", content, parent=parent, identities=[topic])
        return None

    def _take(self, entry: StreamText) -> str:
        """The text of one message: of this entry, and of what follows for the same stream."""
        parts: list[str] = []
        size, most = 0, self.limits.max_merge
        while True:
            with self._size_lock:  # what is counted meanwhile would stay counted
                if self._last is entry:
                    self._last = None
                if self.open_text is entry:
                    self.open_text = None
                taken, released = entry.take(most - size)
                self._size -= released
            parts += taken
            size += sum(map(len, taken))
            if entry.pieces:  # the rest is for further messages
                self._popped -= 1
                self.entries.appendleft(entry)
                break
            following = self.entries[0] if self.entries else None
            if not isinstance(following, StreamText) or not _are_same(following.key, entry.key):
                break
            self._popped += 1
            entry = following
            self.entries.popleft()
        return "".join(parts)


def _are_same(one: TextKey, other: TextKey) -> bool:
    """Whether they are of the same cell and stream."""
    return one is other or (one.parent is other.parent and one.name == other.name)
