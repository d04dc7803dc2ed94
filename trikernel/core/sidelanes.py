"""The lanes beside the shell lane: control, which looks and steers, and comms.

The control lane is served while a cell runs, the comm lane while a cell awaits. How a request is
handled is `Server.perform`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio
from trio.lowlevel import enable_ki_protection

from ..system import run_in
from .dispatcher import Dispatcher
from .request import Request, StopReason

__all__ = ["CommLane", "ControlLane"]


class ControlLane:
    """What only looks or steers, in the service loop. `scope` is around all that serves it."""

    def __init__(self, server: Dispatcher) -> None:
        self._server = server
        self._send, self._receive = trio.open_memory_channel[Request](1 << 30)
        self._closed = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._on_close: Callable[[], object] = lambda: None
        self.scope = trio.CancelScope()

    def admit(self, request: Request) -> None:
        """Queue a request; in the service loop. Once the lane has ended it is refused."""
        if self._closed:
            self._server.refuse(request)
        else:
            self._send.send_nowait(request)

    @enable_ki_protection
    async def run(self) -> None:
        """Handle requests in order of arrival."""
        self._token = trio.lowlevel.current_trio_token()
        async for request in self._receive:
            await self._server.perform(request)

    def close(self) -> None:
        """Answer what is still queued ``aborted``; in the service loop."""
        self._closed = True
        _refuse_all(self._receive, self._server)
        self._on_close()

    async def finish(self) -> None:
        """Have it end, and wait until it is closed; in the user loop."""
        closed, token = trio.Event(), trio.lowlevel.current_trio_token()
        self._on_close = partial(run_in, token, closed.set)
        if self._token is not None and not self._closed:
            run_in(self._token, self.scope.cancel)
            await closed.wait()


class CommLane:
    """``comm_*`` messages, in the user loop, beside the running cell.

    Messages of one comm are handled in order, those of different comms beside each other.
    """

    def __init__(self, server: Dispatcher) -> None:
        self._server = server
        self._send, self._receive = trio.open_memory_channel[Request](1 << 30)
        self._waiting: dict[str, deque[Request]] = {}
        self._active: set[Request] = set()
        self._unstarted = 0
        self._all_started = trio.Event()
        self._all_started.set()
        self._closed = False

    def admit(self, request: Request) -> None:
        """Queue a message; in the user loop. Once the lane has ended it is refused."""
        if self._closed:
            self._server.refuse(request)
            return
        if self._unstarted == 0:
            self._all_started = trio.Event()
        self._unstarted += 1
        self._send.send_nowait(request)

    @property
    def has_unstarted(self) -> bool:
        """Whether a message waits for its handler to be called."""
        return self._unstarted > 0

    async def started(self) -> None:
        """Wait until every message admitted so far has started, so that no cell overtakes it."""
        if self._unstarted:
            await self._all_started.wait()

    def stop(self, reason: StopReason) -> None:
        """Cancel the handlers that run."""
        for request in self._active:
            request.mark(reason)
            request.cancel()

    @enable_ki_protection
    async def run(self) -> None:
        """Start a task for each comm that has messages."""
        async for request in self._receive:
            comm_id = str(request.message.content.get("comm_id"))
            if comm_id in self._waiting:
                self._waiting[comm_id].append(request)
            else:
                self._waiting[comm_id] = deque([request])
                self._server.cells.start_soon(self._serve_comm, comm_id, name=f"comm {comm_id}")

    @enable_ki_protection
    async def _serve_comm(self, comm_id: str) -> None:
        waiting = self._waiting[comm_id]
        try:
            while waiting:
                request = waiting.popleft()
                self._unstarted -= 1
                if self._unstarted == 0:
                    self._all_started.set()
                self._active.add(request)
                try:
                    await self._server.perform(request)
                finally:
                    self._active.discard(request)
        finally:
            if waiting:  # the user's code has ended this task: the rest gets another one
                self._server.cells.start_soon(self._serve_comm, comm_id, name=f"comm {comm_id}")
            else:
                del self._waiting[comm_id]

    def close(self) -> None:
        """Have what no handler was called for go idle; once every handler has ended."""
        self._closed = True
        _refuse_all(self._receive, self._server)
        for waiting in self._waiting.values():
            while waiting:
                self._server.refuse(waiting.popleft())


def _refuse_all(queue: trio.MemoryReceiveChannel[Request], server: Dispatcher) -> None:
    with suppress(trio.WouldBlock):
        while True:
            server.refuse(queue.receive_nowait())
