"""The queues in which requests wait for their lane, and the window in which a failure aborts them.

`open_priority_channel` makes a memory channel that hands out the most urgent item first, equals in
order of arrival. It is used as Trio's own memory channels are: it has a send end and a receive end,
and either may be closed. A receiver that is woken takes the most urgent item of that moment, so
that one that came in the same tick overtakes, and a receiver that was just cancelled holds none.

Each kind of request waits in the queue of its lane. A queue knows nothing of replies: requests that
can no longer run are returned to the caller, which answers them.

=========  ============  =================================================================
queue      loop          what waits there
=========  ============  =================================================================
shell      user loop     all that touches user state, and scheduled calls; one at a time,
                         the most urgent first
comm       user loop     ``comm_*``: in order within one comm, comms beside each other; in
                         `comm_queue`
control    service loop  what must work while a cell computes, in order of arrival
=========  ============  =================================================================
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs
import trio

from ..wire import Header
from .request import Request, StopReason

__all__ = [
    "AbortWindow",
    "ControlQueue",
    "Job",
    "PriorityReceiveChannel",
    "PrioritySendChannel",
    "ShellQueue",
    "Turn",
    "open_priority_channel",
]

T = TypeVar("T")


class _State(Generic[T]):
    """What the two ends of a priority channel share."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, T]] = []
        self.counter = itertools.count()
        self.receivers = trio.lowlevel.ParkingLot()
        self.send_closed = False
        self.receive_closed = False


class PrioritySendChannel(Generic[T]):
    """The end that puts items in."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def send_nowait(self, item: T, *, priority: int) -> None:
        """Queue ``item``; a smaller ``priority`` is more urgent.

        Raises `trio.ClosedResourceError` after `close`, `trio.BrokenResourceError` when the
        receive end is closed.
        """
        state = self._state
        if state.send_closed:
            raise trio.ClosedResourceError
        if state.receive_closed:
            raise trio.BrokenResourceError
        heapq.heappush(state.heap, (priority, next(state.counter), item))
        state.receivers.unpark_all()  # if only one were woken, it might just be cancelled

    async def send(self, item: T, *, priority: int) -> None:
        """As `send_nowait`, and a checkpoint; cancelled there, the item was not queued."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.send_nowait(item, priority=priority)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def close(self) -> None:
        """Send no more. Receivers get the items that are left, and then `trio.EndOfChannel`."""
        self._state.send_closed = True
        self._state.receivers.unpark_all()

    def __enter__(self) -> PrioritySendChannel[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PriorityReceiveChannel(Generic[T]):
    """The end that takes items out. Several tasks may receive at once."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def __len__(self) -> int:
        """How many items are queued."""
        return len(self._state.heap)

    @property
    def first(self) -> T | None:
        """The most urgent item, which stays; None when there is none."""
        return self._state.heap[0][2] if self._state.heap else None

    def receive_nowait(self) -> tuple[int, T]:
        """The most urgent item, as ``(priority, item)``.

        Raises `trio.WouldBlock` when there is none, `trio.EndOfChannel` when there will be
        none, `trio.ClosedResourceError` after `close`.
        """
        state = self._state
        if state.receive_closed:
            raise trio.ClosedResourceError
        if state.heap:
            priority, _, item = heapq.heappop(state.heap)
            return priority, item
        if state.send_closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def wait_nonempty(self) -> None:
        """Wait until there is something to take, without taking it. Always a checkpoint.

        Raises as `receive` does.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        state = self._state
        if state.heap:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not state.heap:
            if state.receive_closed:
                raise trio.ClosedResourceError
            if state.send_closed:
                raise trio.EndOfChannel
            await state.receivers.park()

    async def receive(self) -> tuple[int, T]:
        """The most urgent item, waiting for one. Cancelled, it takes none.

        Raises as `receive_nowait` does, `trio.WouldBlock` apart.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                item = self.receive_nowait()
            except trio.WouldBlock:
                await self._state.receivers.park()
                waited = True
            else:
                break
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return item

    def forget_receivers(self) -> None:
        """Those that wait are tasks of a loop that is lost: none of them runs again."""
        self._state.receivers = trio.lowlevel.ParkingLot()

    def close(self) -> None:
        """Drop what is queued; waiting receivers get `trio.ClosedResourceError`."""
        self._state.receive_closed = True
        self._state.heap.clear()
        self._state.receivers.unpark_all()

    def __aiter__(self) -> PriorityReceiveChannel[T]:
        return self

    async def __anext__(self) -> tuple[int, T]:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> PriorityReceiveChannel[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class open_priority_channel(tuple["PrioritySendChannel[T]", "PriorityReceiveChannel[T]"]):
    """A new channel's two ends: ``send, receive = open_priority_channel[Item]()``.

    It has no bound, so sending never waits. Most urgent (smallest number) first, first come first
    served among equals. Closing the send end lets receivers take what is left, then raises
    `trio.EndOfChannel` at them; closing the receive end raises `trio.BrokenResourceError` at
    senders. Use it in one Trio loop only.
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]  # a class only so that it takes a type in brackets
        cls,
    ) -> tuple[PrioritySendChannel[T], PriorityReceiveChannel[T]]:
        state: _State[T] = _State()
        return PrioritySendChannel(state), PriorityReceiveChannel(state)


# The queues of the lanes


@attrs.frozen
class Job:
    """A call that an author put on the shell lane's queue."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class AbortWindow:
    """Which queued requests a failure aborts: see docs/discussion/aborting.md.

    Its members are the requests that are queued and abortable: one leaves when it starts. `close`
    aborts all of them, and those that are admitted before ``closes_at``, unless the client sent
    them after ``known_at``, when it could know of the failure. It compares clocks on admission, and
    needs no timer and no task.
    """

    def __init__(self) -> None:
        self._members: dict[Request, None] = {}
        self.closes_at = -math.inf
        self.known_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._members)

    def admit(self, request: Request, now: float, wall_clock: Callable[[], datetime]) -> None:
        """Take in a request; inside the window it is aborted at once.

        ``now`` is in seconds of the lane's clock, ``wall_clock`` tells the time of day.
        """
        if now < self.closes_at and not self._is_answer(request.message.header, wall_clock):
            request.mark(StopReason.ABORT)
        else:
            self._members[request] = None

    def leave(self, request: Request) -> None:
        """The request starts: a failure no longer aborts it."""
        self._members.pop(request, None)

    def close(self, now: float, seconds: float) -> None:
        """Abort every member, and what is admitted within ``seconds`` from ``now``."""
        self.closes_at = max(self.closes_at, now + seconds)
        self.known_at = None
        self.abort_all()

    def abort(self, requests: set[Request]) -> None:
        """Abort these members."""
        for request in requests & self._members.keys():
            request.mark(StopReason.ABORT)
            self.leave(request)

    def abort_all(self) -> None:
        """Abort every member."""
        self.abort(set(self._members))

    def find(self, msg_ids: set[str]) -> set[Request]:
        """The members with these ids."""
        return {request for request in self._members if request.msg_id in msg_ids}

    def _is_answer(self, header: Header, wall_clock: Callable[[], datetime]) -> bool:
        """Whether a request was sent by a client that could know of the failure.

        That is so if its date is later than the failing reply's. A date that is missing, cannot be
        read, names no time zone, or lies in the future (that client's clock is ahead of ours) is
        not used: then the request is aborted within the window.
        """
        if self.known_at is None or self.closes_at == math.inf or not header.date:
            return False
        try:
            sent_at = datetime.fromisoformat(header.date)
            return self.known_at < sent_at <= wall_clock()
        except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
            return False


class ShellQueue:
    """The shell lane's queue: one priority channel. In the user loop only.

    `wait_nonempty` waits for something to take; `trio.ClosedResourceError` once it is closed.
    """

    def __init__(self) -> None:
        self._send, self._receive = open_priority_channel[Request | Job]()
        self.wait_nonempty = self._receive.wait_nonempty
        self.window = AbortWindow()
        self.closed = False

    def __len__(self) -> int:
        return len(self._receive)

    def admit(
        self, request: Request, now: float, wall_clock: Callable[[], datetime]
    ) -> Request | None:
        """Queue a request; once the queue is closed it is returned, to be refused."""
        if self.closed:
            return request
        if request.type is not None and request.type.abortable:
            self.window.admit(request, now, wall_clock)
        self._send.send_nowait(request, priority=request.priority)
        return None

    def schedule(self, job: Job, priority: int) -> None:
        """Queue a call; once the queue is closed it is dropped."""
        if not self.closed:
            self._send.send_nowait(job, priority=priority)

    @property
    def first(self) -> Request | Job | None:
        """What `take_nowait` would take."""
        return self._receive.first

    def take_nowait(self) -> tuple[int, Request | Job] | None:
        """The most urgent item with its priority; None when there is none."""
        try:
            priority, item = self._receive.receive_nowait()
        except trio.WouldBlock:
            return None
        if isinstance(item, Request):
            self.window.leave(item)
        return priority, item

    def lose(self) -> None:
        """Its loop is lost: who waits there is woken no more. From here on outside of any loop."""
        self._receive.forget_receivers()

    def close(self) -> list[Request]:
        """Take nothing more; what is left is returned, to be refused. Twice does no harm."""
        left = []
        self.closed = True
        while len(self._receive):
            _, item = self._receive.receive_nowait()
            if isinstance(item, Request):
                left.append(item)
        self._receive.close()
        return left


class Turn:
    """Which task may handle requests of the shell lane: the one that holds the lock. In the lane's
    loop only.
    """

    def __init__(self) -> None:
        self.lock = trio.Lock()

    def pass_on(self) -> None:
        """Let another task become the lane, although the one that holds the lock may never release
        it: from now on there is a new lock.
        """
        self.lock = trio.Lock()

    def lock_of(self, current: Request | None, running: Sequence[Request]) -> trio.Lock:
        """The lock that a task has to hold to handle a request: inside of a running request that
        request's own, else the lane's. When the request is left behind, it is the lane's again.
        """
        if current is not None and current in running:
            return current.nested_lock()
        return self.lock


class ControlQueue:
    """The control lane's queue. In the service loop only."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Request](math.inf)
        self.closed = False

    def admit(self, request: Request) -> Request | None:
        """Queue a request; once the queue is closed it is returned, to be refused."""
        if self.closed:
            return request
        self._send.send_nowait(request)
        return None

    def __aiter__(self) -> ControlQueue:
        return self

    async def __anext__(self) -> Request:
        return await self._receive.receive()

    def close(self) -> list[Request]:
        """Take nothing more; what is left is returned, to be refused."""
        self.closed = True
        left = []
        with suppress(trio.WouldBlock):
            while True:
                left.append(self._receive.receive_nowait())
        return left
