"""The shell lane: all that touches user state, one request at a time, the most urgent first.

Its requests wait in one priority channel. How a request is handled is `Server.perform`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..system import run_in
from .boundary import raise_cancel
from .dispatcher import Dispatcher
from .epoch import Epoch
from .priority import open_priority_channel
from .protection import run_unprotected
from .request import Request, StopReason, current_request
from .sidelanes import CommLane

__all__ = ["Job", "ShellLane"]

TURN = 8  # requests that are handled in a row before the lane itself lets other tasks run


@attrs.frozen
class Job:
    """A call that an author put on the shell lane's queue."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


class ShellLane:
    """All that touches user state, in the user loop."""

    def __init__(self, server: Dispatcher, comm: CommLane) -> None:
        self._server = server
        self._comm = comm
        self._send, self._receive = open_priority_channel[Request | Job]()
        self._epoch = Epoch()
        self._posted: deque[Callable[[], object]] = deque()
        self._turn = trio.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._receive)

    def admit(self, request: Request) -> None:
        """Queue a request; in the user loop. Once the lane has ended it is refused."""
        if self._closed:
            self._server.refuse(request)
            return
        if request.type is not None and request.type.abortable:
            self._epoch.admit(request, trio.current_time())
        self._send.send_nowait(request, priority=request.priority)

    def schedule(self, priority: int, job: Job) -> None:
        """Queue a call; from any thread. Once the lane has ended it is dropped."""

        def send() -> None:
            if not self._closed:
                self._send.send_nowait(job, priority=priority)

        self.post(send)

    def post(self, function: Callable[[], object]) -> None:
        """Have ``function`` called in the user loop before the next request is taken."""
        self._posted.append(function)
        run_in(self._server.user_token, self._run_posted)

    async def call(self, function: Callable[[], object]) -> None:
        """As `post`, and wait until it has been called. Cancelled, it will be called anyway."""
        called, token = trio.Event(), trio.lowlevel.current_trio_token()
        self.post(function)
        self.post(lambda: run_in(token, called.set))
        await called.wait()

    def abort_queued(self, window: float) -> None:
        """Abort what is queued, and what is admitted within ``window`` seconds."""
        self._server.sweep()
        self._epoch.close(trio.current_time(), window)

    def abort_ids(self, msg_ids: set[str]) -> None:
        """Abort these requests, queued or running; ids not seen yet are remembered."""
        self._server.sweep()
        found = self._epoch.find(msg_ids)
        self._epoch.abort(found)
        interrupts = self._server.interrupts
        running = {request for request in interrupts.running if request.msg_id in msg_ids}
        for request in running:
            if request.stop_reason is None:  # it started since the abort was asked for
                interrupts.stop(request, StopReason.ABORT)
        seen = {request.msg_id for request in found | running}
        self._server.application.remember_aborted(msg_ids - seen)

    @enable_ki_protection
    async def run(self) -> None:
        """Take and handle requests until the channel is closed."""
        while True:
            self._run_posted()
            await self._receive.wait_nonempty()
            for _ in range(TURN):
                try:
                    self._turn.acquire_nowait()  # one checkpoint for each turn is enough
                except trio.WouldBlock:
                    await self._turn.acquire()
                try:
                    await self._take()
                finally:
                    self._turn.release()
                self._run_posted()
                if not len(self._receive):
                    break

    async def process_one(self, wait: bool) -> int | None:
        """Handle the most urgent request; its priority, or None when none waits.

        Called from inside a running request it handles the other one within that, one at a
        time. Cancelled while waiting, it has taken none.
        """
        self._run_posted()
        self._server.sweep()
        while True:
            lock = self._lock_of_caller()
            async with lock:
                if lock is not self._lock_of_caller():
                    continue
                priority = await self._take()
            if priority is not None or not wait:
                return priority
            await self._receive.wait_nonempty()

    def _lock_of_caller(self) -> trio.Lock:
        """What it has to hold to handle a request: of its running request, else the lane's turn.

        That changes when the request is abandoned.
        """
        current = current_request.get()
        nested = current is not None and current in self._server.interrupts.running
        return current.pump_lock() if nested and current is not None else self._turn

    async def finish(self) -> None:
        """Wait until nothing runs and nothing is queued."""
        while len(self) or self._server.interrupts.running:
            async with self._turn:
                await trio.lowlevel.checkpoint()

    async def _take(self) -> int | None:
        """Take and handle the most urgent item, if there is one; its priority."""
        try:
            priority, item = self._receive.receive_nowait()
        except trio.WouldBlock:
            return None
        await self._handle(item)
        return priority

    def close(self) -> None:
        """Answer what is still queued ``aborted``, and what was posted meanwhile. Twice is well."""
        self._closed = True
        self._run_posted()
        while len(self._receive):
            _, item = self._receive.receive_nowait()
            if isinstance(item, Request):
                self._server.refuse(item)
        self._receive.close()

    async def _handle(self, item: Request | Job) -> None:
        if isinstance(item, Job):
            await self._run_job(item)
            return
        self._epoch.leave(item)
        running = self._server.interrupts.running
        running.append(item)
        if not item.looks_only:
            self._server.interrupts.reinstall()
        try:
            if item.type is not None and item.type.own_task and item.stop_reason is None:
                await self._wait_for_comms(item)
            await self._server.perform(item)
        except trio.Cancelled:
            if not item.finished:  # cancelled before it was performed
                self._server.refuse(item)
            raise
        finally:
            running.remove(item)

    async def _wait_for_comms(self, request: Request) -> None:
        """Let earlier comm messages start. An interrupt stops the handlers that hold them up."""
        if not self._comm.has_unstarted:
            return
        with request.open_scope() as scope:
            await self._comm.started()
        if scope.cancelled_caught and request.stop_reason is StopReason.INTERRUPT:
            self._comm.stop(StopReason.INTERRUPT)

    async def _run_job(self, job: Job) -> None:
        try:
            await run_unprotected(job.function, *job.args)
        except BaseException as raised:
            raise_cancel(raised, self._log_failed_call)
            self._log_failed_call(raised)

    def _log_failed_call(self, error: BaseException) -> None:
        self._server.application.log.error("a scheduled call failed", exc_info=error)

    def _run_posted(self) -> None:
        while self._posted:
            self._posted.popleft()()
