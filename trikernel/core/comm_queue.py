"""The comm lane's queue: one queue for each comm that has messages.

It belongs to the user loop. JupyterLab sends the messages of widgets to a subshell, so that they
are handled while a cell blocks. While no cell blocks, the user loop takes those, too (see
`dispatch`). If a cell blocks after one was queued here and before its handler is called, that
message and all that follow for the same comm would wait for the cell. So the loop that then reads
in its place takes them out again (`withdraw`) and gives them to the subshell.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator

import trio

from .request import Request, RequestScope, StopReason

__all__ = ["CommQueue", "comm_id_of"]


def comm_id_of(request: Request) -> str:
    """The comm that a message is for."""
    return str(request.message.content.get("comm_id"))


class CommQueue:
    """See the top of the module. ``unstarted`` is how many messages wait for their handler to be
    called, ``active`` holds those that are being handled.
    """

    def __init__(self) -> None:
        self.lose()
        self._waiting: dict[str, deque[Request]] = {}
        self._lock = threading.RLock()  # because `withdraw` is called in another thread
        self.unstarted = 0
        self.active: set[Request] = set()
        self.closed = False

    def lose(self) -> None:
        """Its loop is lost: who waits there is woken no more. From here on outside of any loop."""
        self._new_send, self._new_receive = trio.open_memory_channel[str](math.inf)
        self._all_started = trio.Event()

    def admit(self, request: Request) -> Request | None:
        """Queue a message; once the queue is closed it is returned, to be refused."""
        if self.closed:
            return request
        comm_id = comm_id_of(request)
        with self._lock:
            if self.unstarted == 0:
                self._all_started = trio.Event()
            self.unstarted += 1
            if comm_id in self._waiting:
                self._waiting[comm_id].append(request)
            else:
                self._waiting[comm_id] = deque([request])
                self._new_send.send_nowait(comm_id)
        return None

    def has(self, comm_id: str) -> bool:
        """Whether messages of that comm wait for their handler; from any thread."""
        return bool(self._waiting.get(comm_id))

    def withdraw(self, is_wanted: Callable[[Request], bool]) -> list[Request]:
        """Take messages out again whose handler has not been called; from any thread.

        Of each comm they are taken from the first one on, up to one that is not wanted, so that
        none overtakes another. After that, call `note_started` in the user loop.
        """
        taken: list[Request] = []
        with self._lock:
            for waiting in self._waiting.values():
                while waiting and is_wanted(waiting[0]):
                    taken.append(waiting.popleft())
            self.unstarted -= len(taken)
        return taken

    def note_started(self) -> None:
        """End the waits of `wait_until_started`, if the handler of every message was called."""
        if self.unstarted == 0:
            self._all_started.set()

    def __aiter__(self) -> CommQueue:
        return self

    async def __anext__(self) -> str:
        """The next comm that has messages and no task that handles them."""
        return await self._new_receive.receive()

    def take(self, comm_id: str) -> Iterator[Request]:
        """The messages of a comm, each taken when the iterator is asked for it. While it is being
        handled it is in `active`.
        """
        waiting = self._waiting.get(comm_id, deque())
        while True:
            with self._lock:
                if not waiting:
                    return
                request = waiting.popleft()
                self.unstarted -= 1
            self.note_started()
            self.active.add(request)
            try:
                yield request
            finally:
                if request.finished:  # else its loop is lost
                    self.active.discard(request)

    def leave(self, comm_id: str) -> None:
        """The task of a comm ends. If it has messages left, because the user's code has ended the
        task, the iteration of this queue yields the comm again.
        """
        with self._lock:
            if self._waiting.get(comm_id):
                self._new_send.send_nowait(comm_id)
            else:
                self._waiting.pop(comm_id, None)

    async def wait_until_started(self, request: Request) -> None:
        """Wait until every message admitted so far has started, so that ``request`` overtakes none.

        An interrupt of ``request`` stops the handlers that run, because the others wait for them.
        """
        with RequestScope(request) as scope:
            if self.unstarted:
                await self._all_started.wait()
        if scope.cancelled_caught and request.stop_reason is StopReason.INTERRUPT:
            for handled in self.active:
                handled.mark(StopReason.INTERRUPT)
                handled.cancel()

    def close(self) -> list[Request]:
        """Take nothing more; what is left is returned, to be refused."""
        self.closed = True
        with self._lock:
            left = [request for waiting in self._waiting.values() for request in waiting]
            self._waiting.clear()
            self.unstarted = 0
        self._all_started.set()
        return left
