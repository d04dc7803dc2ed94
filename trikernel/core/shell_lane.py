"""A shell lane: the queue of requests of one user loop, and the life of each request there.

::

            admit
       ┌──────┴───────┐
    ShellQueue     CommQueue
    one at a time, in order within
    most urgent    one comm
    first             │
       └── perform: START, busy, ──┘
           run_handler (the boundary),
           outputs are flushed,
           reply (ANSWER), idle (FINISH)

`perform` is the one place, for every lane, that handles a request: ``busy``, the handler, its
outputs, the reply, ``idle``, always in this order, also under exceptions and cancellation.
`run_handler` is the boundary: whatever a handler raises becomes an `Outcome`, and only a cancel
from outside passes through. `refuse` answers a request that never starts.

A lane's requests run in the lane's own task, so that what a cell sets in context variables is there
for the next cell. When a request is left behind (a second interrupt while its code does not end),
its reply and ``idle`` go out at once, and the lane goes on in a new task with a copy of the old
one's context; the old task runs on, and its result is dropped. Requests that another loop has read
are posted to the lane's loop, because its queues, scopes and windows may only be touched there.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from logging import Logger

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import AbortedError, ContentError, DeadlineExceeded, LeftOpenError
from ..system import (
    LeftOpen,
    Mailbox,
    close_what_was_left_open,
    exit_forked,
    is_anything_left_open,
    runs_here,
)
from ..wire import LaneName
from .application import Handlers
from .comm_queue import CommQueue
from .connection import Connection
from .lanes import Job, ShellQueue, Turn
from .request import (
    Event,
    Outcome,
    Reply,
    Request,
    RequestBudget,
    RequestScope,
    State,
    StopReason,
    current_request,
)
from .stop import Stopper
from .user_code import OutermostScope, UserNursery, raise_cancel, run_unprotected, unwrap_interrupt

__all__ = ["ShellLane"]

LANE_BATCH = 8  # requests that are handled in a row before the lane lets other tasks run


class ShellLane:
    """One shell lane, and the comm lane beside it. Made in its loop: ``token`` is that loop's,
    ``outermost`` the scope around all that is ours in it. ``sweep`` admits messages that have
    arrived and were not read yet, where this loop may read them.

    With ``may_be_left`` the lane is a subshell's, and its thread may be stuck in C code. Then
    another thread answers its requests: it sets `is_left`, under the lock `answering`, and the lane
    handles nothing more.
    """

    def __init__(
        self,
        application: Handlers,
        connection: Connection,
        stopper: Stopper,
        token: trio.lowlevel.TrioToken,
        outermost: OutermostScope,
        *,
        budget: RequestBudget,
        sweep: Callable[[], object] = lambda: None,
        may_be_left: bool = False,
    ) -> None:
        self.application = application
        self.connection = connection
        self.stopper = stopper
        self.token = token
        self.shell = ShellQueue()
        self.comm = CommQueue()
        self.posted = Mailbox(token)
        self.turn = Turn()
        self.sweep = sweep
        self.is_left = False
        self.answering: AbstractContextManager[object]
        self.answering = threading.RLock() if may_be_left else nullcontext()
        self._outermost = outermost
        self._budget = budget

    # What comes in

    def deliver(self, request: Request, lane: LaneName) -> None:
        """Queue a request, at once or when the lane's loop turns; from any thread."""
        if runs_here(self.token):
            self.admit(request, lane)
        else:
            self.posted.post(partial(self.admit, request, lane))

    def admit(self, request: Request, lane: LaneName) -> None:
        """Queue it, in the lane's loop; what comes after the end is refused."""
        if lane is LaneName.COMM:
            refused = self.comm.admit(request)
        else:
            refused = self.shell.admit(request, _now(), _utc_now)
        if refused is not None:
            self.refuse(refused)

    # The lanes

    @enable_ki_protection
    async def run(self) -> None:
        """Take and handle requests until the queue is closed, or one of them is left behind."""
        with suppress(trio.ClosedResourceError):
            while True:
                if self.posted.waiting:
                    self.posted.drain()
                await self.shell.wait_nonempty()
                if not await self._handle_batch():
                    return

    @enable_ki_protection
    async def answer_early(self, may_answer: Callable[[Request], bool]) -> None:
        """Handle requests before the kernel has started, up to the first that may not be answered
        so early.
        """
        while True:
            await self.shell.wait_nonempty()
            async with self.turn.lock:
                first = self.shell.first
                if not (isinstance(first, Request) and may_answer(first)):
                    return
                await self._take()

    async def _handle_batch(self) -> bool:
        """Handle up to `LANE_BATCH` requests. False when another task has become the lane."""
        for _ in range(LANE_BATCH):
            lock = self.turn.lock
            try:
                lock.acquire_nowait()  # one checkpoint for each batch is enough
            except trio.WouldBlock:
                await lock.acquire()
            try:
                if lock is self.turn.lock:
                    await self._take()
            finally:
                lock.release()
            if lock is not self.turn.lock:
                return False
            if self.posted.waiting:
                self.posted.drain()
            if not len(self.shell):
                break
        return True

    @enable_ki_protection
    async def run_comms(self, nursery: UserNursery) -> None:
        """Start a task for each comm that has messages: comms are served beside each other."""
        async for comm_id in self.comm:
            nursery.start_soon(self._serve_comm, comm_id, name=f"comm {comm_id}")

    @enable_ki_protection
    async def _serve_comm(self, comm_id: str) -> None:
        try:
            for request in self.comm.take(comm_id):
                await self.perform(request)
        finally:
            self.comm.leave(comm_id)

    def let_go_on(self, request: Request, nursery: UserNursery) -> None:
        """Let a new task in ``nursery`` become the lane. Called by the task that is the lane: it
        goes on with ``request`` beside the new one, and the reply is sent when it is done.

        The context variables that it sets from now on are not seen by later cells.
        """
        request.beside = True
        self.turn.pass_on()
        context = copy_context()
        context.run(current_request.set, None)
        context.run(partial(nursery.start_soon, self.run, name="shell lane"))

    async def process_one(self, wait: bool) -> int | None:
        """Handle the most urgent request of the shell lane; its priority, or None if none waits.

        If code of a running request calls it, the other request is handled inside of that one, by
        one task of it at a time. Cancelled while waiting, it has taken none.
        """
        self.posted.drain()
        self.sweep()
        while True:
            lock = self.turn.lock_of(current_request.get(), self.stopper.running)
            async with lock:
                if lock is not self.turn.lock_of(current_request.get(), self.stopper.running):
                    continue  # the request was left behind meanwhile
                priority = await self._take()
            if priority is not None or not wait:
                return priority
            await self.shell.wait_nonempty()

    async def _take(self) -> int | None:
        """Take and handle the most urgent item, if there is one; its priority."""
        if self.is_left:
            raise trio.ClosedResourceError
        taken = self.shell.take_nowait()
        if taken is None:
            return None
        priority, item = taken
        if isinstance(item, Job):
            await _run_job(item, self.application.kernel.log)
            return priority
        await self._run_request(item)
        return priority

    async def _run_request(self, request: Request) -> None:
        """Handle a request of the shell lane. While it is in ``running``, it can be stopped."""
        running = self.stopper.running
        running.append(request)
        if self.stopper.installed and (request.type is None or not request.type.quiet):
            self.stopper.reinstall()
        try:
            if self.comm.unstarted and request.runs_user_code and request.stop_reason is None:
                await self.comm.wait_until_started(request)
            await self.perform(request)
        except trio.Cancelled:
            if request.state is State.QUEUED:  # cancelled before it was performed
                self.refuse(request)
            raise
        finally:
            if request.state is not State.RUNNING and request in running:
                running.remove(request)  # else it was left behind, or `recovery` does it

    # One request

    @enable_ki_protection
    async def perform(self, request: Request) -> None:
        """Handle a request: ``busy``, the handler, its outputs, the reply, ``idle``."""
        iopub, header = self.connection.iopub, request.message.header
        with self.answering:
            if self.is_left:  # another thread answers the request
                return
            request.advance(Event.START)
        self._budget.give_back(request)
        request.task = trio.lowlevel.current_task()
        outer = request.within = current_request.get()
        current_request.set(request)
        is_stopped = request.stop_reason is not None  # then its handler is not called
        may_wait = is_stopped or self.application.busy_may_wait(request)
        iopub.post(iopub.encode_status("busy", header), hold=True)
        if not may_wait:
            iopub.drain(wait=True)
        reply: Reply | None = None
        cancelled: BaseException | None = None
        is_flushed = False
        try:
            outcome = await self.run_handler(request)
            if not request.abandoned:
                reply = self.reply_to(request, outcome)
                if request.stop_on_error and reply is not None and reply.failed:
                    self.abort_queued(self.application.kernel.stop_on_error_timeout)
                if not is_stopped and (request.type is None or not request.type.quiet):
                    await iopub.flush()
                    is_flushed = True
        except GeneratorExit:  # the loop is gone, and this coroutine is collected with it
            request.state = State.FINISHED
            raise
        except BaseException as raised:  # a cancel from outside
            cancelled = raised
            raise
        finally:
            if cancelled is not None and reply is None and not self._outermost.is_lost:
                ended = self._outermost.is_ended_from_outside or self.shell.closed
                by_user = outer is None and request.stop_reason is None and not ended
                error = cancelled if by_user else AbortedError()
                reply = self.reply_to(request, Outcome(error=error))
            if cancelled is None or reply is not None:  # else `recovery.answer_lost` will answer it
                self.send_reply_and_idle(request, reply, is_flushed=is_flushed)
            current_request.set(outer)

    async def run_handler(self, request: Request) -> Outcome:
        """The boundary: run a request's handler inside its cancel scope; how it ended.

        Whatever the handler raises is its outcome, except for a cancel from outside. A nursery or a
        cancel scope that it leaves open is closed, so that this task can go on, and is an error.
        """
        application, process = self.application, os.getpid()
        if request.stop_reason is StopReason.INTERRUPT:  # it came before the handler is called
            return Outcome(error=request.stop_error())
        if request.stop_reason is not None:
            return Outcome(application.aborted_reply(request))
        left_open: list[LeftOpen] = []
        try:
            with RequestScope(request) as scope:
                try:
                    reply = await application.handle(request)
                    if os.getpid() != process:
                        exit_forked()
                finally:
                    if is_anything_left_open(scope):
                        left_open = await close_what_was_left_open(scope)
                if left_open:
                    raise LeftOpenError(left_open)
        except BaseException as raised:  # `raise_cancel` lets a cancel from outside go on
            if os.getpid() != process:
                exit_forked(raised)
            raise_cancel(raised, partial(application.report_failure, request))
            return Outcome(error=unwrap_interrupt(raised))
        if scope.cancelled_caught:
            return Outcome(error=request.stop_error())
        if request.stop_reason is not None and _is_ok(reply):  # it has ended without noticing
            return Outcome(error=request.stop_error())
        return Outcome(reply)

    def reply_to(self, request: Request, outcome: Outcome) -> Reply | None:
        """The reply to a request with that outcome; an error is also shown under its cell."""
        error, application = outcome.error, self.application
        if error is None:
            return outcome.reply
        if isinstance(error, KeyboardInterrupt) and request.stop_reason is not None:
            where = error.__traceback__ or request.stood
            error = request.stop_error().with_traceback(where)
        if isinstance(error, AbortedError):
            reply = application.aborted_reply(request)
        else:
            reply = application.error_reply(request, error)
        if isinstance(error, ContentError):
            application.kernel.log.warning("%s", error)
        elif not isinstance(error, (AbortedError, DeadlineExceeded)):
            application.report_failure(request, error)
        application.publish_error(request, error)
        return reply

    def send_reply_and_idle(
        self,
        request: Request,
        reply: Reply | None,
        end: Event = Event.FINISH,
        *,
        is_flushed: bool = False,
    ) -> None:
        """Send a request's reply, if one is due and none was sent, and ``idle``; then ``end`` is
        the event that it has come to. Its outputs are sent before, unless that was done already.

        Both are encoded first: messages that leave together wake libzmq's own thread only once.
        """
        connection = self.connection
        iopub, frames = connection.iopub, None
        with self.answering:
            if request.finished:  # answered when it was left behind, or when its loop was lost
                if request.abandoned:
                    request.advance(Event.FINISH)
                return
            due = request.state is State.RUNNING or request.state is State.QUEUED
            due = due and request.stop_reason is not StopReason.TERMINATION
            if due and reply is not None and request.wants_reply:
                frames = connection.replies.encode(request, reply, self._unsendable_reply)
                if reply.failed and request.stop_on_error:
                    self.shell.window.known_at = _utc_now()
            idle = iopub.encode_status("idle", request.message.header)
            if not is_flushed:
                iopub.drain(wait=True)  # another thread may be sending: the reply comes after
            if frames is not None:
                request.advance(Event.ANSWER)
                connection.replies.send(request.channel, frames)
            iopub.post(idle)
            request.advance(end)
        request.run_after_idle()

    def _unsendable_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply instead of one that cannot be encoded, because code of the user's in a value of
        it raised ``error``. If that is an interrupt, the cell has ended by it, and it is shown.
        """
        error = unwrap_interrupt(error)
        if isinstance(error, KeyboardInterrupt):
            self.application.publish_error(request, error)
        return self.application.error_reply(request, error)

    @enable_ki_protection
    def refuse(self, request: Request, error: BaseException | None = None) -> None:
        """Answer a request that will not run: ``aborted``, or with the error that says why."""
        iopub, application = self.connection.iopub, self.application
        self._budget.give_back(request)
        iopub.post(iopub.encode_status("busy", request.message.header), hold=True)
        if error is None:
            self.send_reply_and_idle(request, application.aborted_reply(request))
        else:
            self.send_reply_and_idle(request, application.error_reply(request, error))

    async def wait_until_idle(self) -> None:
        """Wait until nothing of the shell lane runs and nothing is queued."""
        while len(self.shell) or self.stopper.running:
            async with self.turn.lock:
                await trio.lowlevel.checkpoint()
            for request in [one for one in self.stopper.running if one.beside]:
                idle = trio.Event()  # because the lock says nothing of these
                request.after_idle(idle.set)
                await idle.wait()

    async def wind_down(self, reason: StopReason, grace: float) -> None:
        """Abort what is queued and stop what runs, each by its own scope, within the grace."""
        self.abort_queued(math.inf)
        for running in tuple(self.stopper.running):
            running.mark(reason)
            running.cancel()
        with trio.move_on_after(grace):
            await self.wait_until_idle()

    # Aborting

    def abort_queued(self, seconds: float) -> None:
        """Abort what is queued, and what is admitted within so many seconds; in the user loop."""
        self.posted.drain()
        self.sweep()
        self.shell.window.close(_now(), seconds)

    def abort_by_id(self, msg_ids: set[str]) -> None:
        """Abort these requests, queued or running. They are remembered for when they come: those
        that are found here are forgotten. In the lane's loop.
        """
        self.posted.drain()
        self.sweep()
        window, stopper = self.shell.window, self.stopper
        found = window.find(msg_ids)
        window.abort(found)
        running = {request for request in stopper.running if request.msg_id in msg_ids}
        for request in running:
            if request.stop_reason is None:  # it started since the abort was asked for
                stopper.stop(request, StopReason.ABORT)
        self.application.forget_aborted({request.msg_id for request in found | running})


async def _run_job(job: Job, log: Logger) -> None:
    """Make a scheduled call; what it raises is logged."""

    def report(error: BaseException) -> None:
        log.error("a scheduled call failed", exc_info=error)

    try:
        await run_unprotected(job.function, *job.args)
    except BaseException as raised:  # `raise_cancel` lets a cancel from outside go on
        raise_cancel(raised, report)
        report(raised)


def _is_ok(reply: Reply | None) -> bool:
    return reply is not None and reply.content.get("status", "ok") == "ok"


def _now() -> float:
    """By the loop's clock; for one that is lost every window is over: the next has its own."""
    return trio.current_time() if trio.lowlevel.in_trio_run() else math.inf


def _utc_now() -> datetime:
    return datetime.now(UTC)
