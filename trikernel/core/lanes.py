"""Queues that know nobody: what waits, what a failure aborts, what is left at the end.

Each kind of request waits in the queue of its lane. A queue is admitted to, taken from, and closed;
what can no longer run is returned to whoever called, who answers it.

=========  ============  =================================================================
queue      loop          what waits there
=========  ============  =================================================================
shell      user loop     all that touches user state, and scheduled calls; one at a time,
                         the most urgent first
comm       user loop     ``comm_*``: in order within one comm, comms beside each other
control    service loop  what only looks or steers, in order of arrival
=========  ============  =================================================================
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs
import trio

from ..wire import Header
from .priority import open_priority_channel
from .request import Request, StopReason

__all__ = ["AbortWindow", "CommQueue", "ControlQueue", "Job", "RequestBudget", "ShellQueue"]


@attrs.frozen
class Job:
    """A call that an author put on the shell lane's queue."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class AbortWindow:
    """Which queued requests a failure aborts: see docs/discussion/aborting.md.

    It holds only requests that are queued and abortable: a request leaves when it starts. Closing
    it aborts all of them, and what is admitted before ``closes_at`` joins them, unless it was sent
    after the failure could be known. Clocks are compared on admission: no timer, no task.
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
        """Whether a request was sent by somebody who could know of the failure.

        That is so if its date is later than the failing reply's. A date that is missing, cannot be
        read, names no time zone, or lies in the future (that client's clock is ahead of ours) says
        nothing: then the window alone decides.
        """
        if self.known_at is None or self.closes_at == math.inf or not header.date:
            return False
        try:
            sent_at = datetime.fromisoformat(header.date)
            return self.known_at < sent_at <= wall_clock()
        except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
            return False


class ShellQueue:
    """The shell lane's queue: one priority channel. In the user loop only."""

    def __init__(self) -> None:
        self._send, self._receive = open_priority_channel[Request | Job]()
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

    def take_nowait(self) -> tuple[int, Request | Job] | None:
        """The most urgent item with its priority; None when there is none."""
        if not len(self._receive):
            return None
        priority, item = self._receive.receive_nowait()
        if isinstance(item, Request):
            self.window.leave(item)
        return priority, item

    async def wait_nonempty(self) -> None:
        """Wait until there is something to take. `trio.ClosedResourceError` once it is closed."""
        await self._receive.wait_nonempty()

    def close(self) -> list[Request]:
        """Take nothing more; what is left is returned, to be refused. A second time, nothing."""
        left = []
        self.closed = True
        while len(self._receive):
            _, item = self._receive.receive_nowait()
            if isinstance(item, Request):
                left.append(item)
        self._receive.close()
        return left


class CommQueue:
    """The comm lane's queue: one queue for each comm that has messages. In the user loop only."""

    def __init__(self) -> None:
        self._new_send, self._new_receive = trio.open_memory_channel[str](math.inf)
        self._waiting: dict[str, deque[Request]] = {}
        self._unstarted = 0
        self._all_started = trio.Event()
        self.active: set[Request] = set()
        self.closed = False

    def admit(self, request: Request) -> Request | None:
        """Queue a message; once the queue is closed it is returned, to be refused."""
        if self.closed:
            return request
        if self._unstarted == 0:
            self._all_started = trio.Event()
        self._unstarted += 1
        comm_id = str(request.message.content.get("comm_id"))
        if comm_id in self._waiting:
            self._waiting[comm_id].append(request)
        else:
            self._waiting[comm_id] = deque([request])
            self._new_send.send_nowait(comm_id)
        return None

    def __aiter__(self) -> CommQueue:
        return self

    async def __anext__(self) -> str:
        """The next comm that has messages and no task that handles them."""
        return await self._new_receive.receive()

    def take(self, comm_id: str) -> Iterator[Request]:
        """That comm's messages, one after the other as they are asked for. `active` holds the one
        that is being handled.
        """
        waiting = self._waiting.get(comm_id, deque())
        while waiting:
            request = waiting.popleft()
            self._unstarted -= 1
            if self._unstarted == 0:
                self._all_started.set()
            self.active.add(request)
            try:
                yield request
            finally:
                if request.finished:  # else its loop is lost
                    self.active.discard(request)

    def leave(self, comm_id: str) -> None:
        """Its task ends. If messages are left, because the user's code has ended it, the comm
        comes again.
        """
        if self._waiting.get(comm_id):
            self._new_send.send_nowait(comm_id)
        else:
            self._waiting.pop(comm_id, None)

    @property
    def has_unstarted(self) -> bool:
        """Whether a message waits for its handler to be called."""
        return self._unstarted > 0

    async def wait_until_started(self, request: Request) -> None:
        """Wait until every message admitted so far has started, so that ``request`` overtakes none.

        An interrupt of it stops the handlers that hold them up.
        """
        with request.open_scope() as scope:
            if self._unstarted:
                await self._all_started.wait()
        if scope.cancelled_caught and request.stop_reason is StopReason.INTERRUPT:
            for handled in self.active:
                handled.mark(StopReason.INTERRUPT)
                handled.cancel()

    def close(self) -> list[Request]:
        """Take nothing more; what is left is returned, to be refused."""
        self.closed = True
        left = [request for waiting in self._waiting.values() for request in waiting]
        self._waiting.clear()
        self._unstarted = 0
        self._all_started.set()
        return left


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


class RequestBudget:
    """How many bytes of requests may wait, on all lanes together. From any thread."""

    def __init__(self) -> None:
        self._used = 0
        self._lock = threading.Lock()

    def take(self, request: Request, limit: int) -> bool:
        """Count a request's size; whether the limit is kept."""
        with self._lock:
            self._used += request.size
            return self._used <= limit

    def give_back(self, request: Request) -> None:
        """A request is no longer queued: it is handled, or refused."""
        with self._lock:
            self._used -= request.size
        request.size = 0
