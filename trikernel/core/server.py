"""A kernel being served: the nurseries it lives in, its parts, and the order of its end.

::

    Server ── Connection ── IOPub, ReplySender, Codec, Transport
       ├──── Dispatcher ─── ShellLane (ShellQueue, CommQueue), ControlQueue
       ├──── Subshells ──── for each a SubshellLoop, with a ShellLane and a Stopper of its own
       ├──── Stopper
       ├──── UserNursery (cells, comm handlers), UserNursery (background tasks)
       └──── services: in a thread of their own, or in this loop

Nurseries are nested by lifetime: services outside, because they send to the clients; the user's
tasks inside; receivers innermost. What is inside ends first, with a bounded grace. The services end
last, and the broadcast ``shutdown_reply`` is the last message.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, Literal

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import LoopLost
from ..system import RepeatedEvent, call_in, run_in, stderr_descriptor
from ..transport import Transport
from .application import Application
from .connection import Connection
from .dispatch import Dispatcher
from .eventloop import follow_eventloop
from .lanes import Job
from .recovery import (
    admit_again,
    answer_lost,
    follow_abandoned,
    take_what_waits,
    what_crashed,
    what_is_gone,
)
from .request import Request, StopReason, is_served
from .services import ControlService, ProcessWatch, ServiceThread, run_services
from .stop import Stopper
from .subshell_loop import current_subshell
from .subshells import Subshells
from .user_code import OutermostScope, UserNursery

__all__ = ["Server", "ServiceTask", "Services", "serve"]

ABORT_TIMEOUT = 0.5  # seconds that an abort waits for the user loop to turn

Services = Literal["thread", "inline"]

ServiceTask = Callable[["Server"], Awaitable[object]]
"""Called with the server: a further task of the service loop, as long as that runs."""


@enable_ki_protection
async def serve(
    application: Application,
    transport: Transport,
    *,
    services: Services = "thread",
    owns_process: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """See `trikernel.serve`, which gives it the application of a kernel."""
    if services not in ("thread", "inline"):
        raise ValueError(f"services must be 'thread' or 'inline', not {services!r}")
    inline = services == "inline"
    if inline and owns_process:
        raise ValueError("a kernel that owns its process needs services='thread'")
    server = Server(application, transport, inline=inline, owns_process=owns_process)
    application.bind(server)
    served = is_served.set(True)
    try:
        await server.run(task_status=task_status)
    finally:
        is_served.reset(served)
        application.unbind()


class Server:
    """One kernel being served. Create it in the user loop.

    ``inline`` is true when the services run in the user loop, ``owns_process`` when the process is
    the kernel's. `lane` is the main shell's. ``before_exit`` are called before a process ends that
    cannot unwind its stack.
    """

    stopper: Stopper
    dispatcher: Dispatcher

    def __init__(
        self,
        application: Application,
        transport: Transport,
        *,
        inline: bool = False,
        owns_process: bool = False,
    ) -> None:
        self.application = application
        self.kernel = kernel = application.kernel
        self.inline = inline
        self.owns_process = owns_process
        self.transport = transport
        self.connection = Connection.open(
            transport,
            application.connection_limits(),
            kernel.topics or f"kernel.{kernel.ident}",
            kernel.log,
            may_block=not inline,
            session=kernel.session_id,
        )
        self.background: trio.Nursery | None = None
        self.before_exit: list[Callable[[], object]] = []
        self.service_tasks: list[ServiceTask] = []
        self._started = False
        self._shutdown: tuple[dict[str, Any], Request | None] | None = None
        self._stop_told, self._terminated = RepeatedEvent(), RepeatedEvent()
        self._is_leaving = False
        self._left: list[Request] = []  # requests of a lost loop that are for the next one
        self._failed_at: datetime | None = None  # when a cell failed by the end of its loop
        self.enter_loop()

    def enter_loop(self) -> None:
        """Make the parts that belong to one user loop: the one that this is called in."""
        self.user_token = trio.lowlevel.current_trio_token()
        self.user_thread = threading.get_ident()
        self.cells, self.background_tasks = UserNursery(), UserNursery()
        self.stopping = trio.Event()
        self.eventloop_changed = RepeatedEvent()
        self._outermost = OutermostScope(is_ours=self.owns_process)
        iopub = self.connection.iopub
        iopub.note_stop_pending(False)  # of a loop before this one that was lost
        self.stopper = Stopper(
            self.user_token,
            on_pending=iopub.note_stop_pending,
            tell=iopub.tell,
            owns_loop=self.owns_process,
            thread=self.kernel.thread_of_cells,
            grace=self.kernel.stop_grace,
        )
        self.dispatcher = Dispatcher(
            self.application, self.connection, self.stopper, self.user_token, self._outermost
        )
        self.lane = self.dispatcher.main
        self._control = ControlService(self.dispatcher)
        self.subshells = Subshells(
            self.application,
            self.connection,
            self.dispatcher,
            self.stopper.services,
            inline=self.inline,
        )
        self._thread: ServiceThread | None = None

    @property
    def stopper_here(self) -> Stopper:
        """What stops the code of the shell that the caller runs in."""
        subshell = current_subshell.get()
        return self.stopper if subshell is None else subshell.stopper

    # Running

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve in this loop, until told to stop."""
        iopub, lane = self.connection.iopub, self.lane
        with self._outermost, _handling_sigint(self):
            async with self._open_services():
                try:
                    try:
                        await self._run_user_tasks(task_status)
                    finally:
                        if not self._outermost.is_lost:  # else `lose_loop` sees to them
                            await self.subshells.close(StopReason.SHUTDOWN)
                    await self._control.finish()
                    self._refuse(lane.shell.close())  # control may have added to it
                    self.publish_shutdown()
                finally:
                    with trio.CancelScope(shield=True):  # within the budget of a stalled client
                        await iopub.flush()

    @contextlib.asynccontextmanager
    async def _open_services(self) -> AsyncIterator[None]:
        if self.inline:
            services = partial(run_services, self.dispatcher, self._control, in_thread=False)
            async with trio.open_nursery() as nursery:
                await nursery.start(services)
                yield
                nursery.cancel_scope.cancel()
            return
        grace, watch = self.kernel.shutdown_grace, None
        if self.owns_process:
            watch = ProcessWatch(
                grace=grace,
                stop_told=self._stop_told,
                before_exit=self._exit_without_user_loop,
                parent_gone=self.leave,
                tasks=[
                    self._end_when_terminated,
                    *(partial(one, self) for one in self.service_tasks),
                ],
            )
        self._thread = ServiceThread(
            self.dispatcher, self._control, self.user_token, watch, crash_grace=grace
        )
        async with self._thread.open():
            yield

    async def _run_user_tasks(self, task_status: trio.TaskStatus[Server]) -> None:
        """Receivers and lanes within the user's nurseries, until the kernel is told to stop."""
        report, lane = self.application.report_background_error, self.lane
        iopub = self.connection.iopub
        try:
            async with trio.open_nursery() as background:
                self.background = background
                await background.start(self.background_tasks.run, report)
                if not self._started:
                    iopub.post(iopub.encode_status("starting", None))
                try:
                    await self._start(background)
                    await background.start(self.cells.run, report, self._start_lane)
                    await self._run_until_stopped(task_status)
                finally:
                    self._refuse(lane.shell.close())
                background.cancel_scope.cancel()
        finally:
            self._refuse(lane.comm.close())

    async def _start(self, background: trio.Nursery) -> None:
        """Have the kernel start; being told to stop cancels that. In a loop that takes the place of
        a lost one, queue what waited there.
        """

        async def cancel_when_stopping(scope: trio.CancelScope) -> None:
            await self.stopping.wait()
            scope.cancel()

        with trio.CancelScope() as scope:
            background.start_soon(cancel_when_stopping, scope, name="start watch")
            await self.application.enter_loop()
            if not self._started:
                self._started = True
                await self.application.start()
        left, self._left = self._left, []
        for request in left:
            admit_again(self.dispatcher, request)
        if self._failed_at is not None:
            window = self.lane.shell.window
            window.close(trio.current_time(), self.kernel.stop_on_error_timeout)
            window.known_at, self._failed_at = self._failed_at, None
            self.dispatcher.sweep()  # what arrived while there was no loop is aborted, too

    def _start_lane(self, nursery: trio.Nursery) -> None:
        """Start the shell lane in the nursery of the cells, each time that this opens."""
        if not self.lane.shell.closed:
            nursery.start_soon(self.lane.run, name="shell lane")

    async def _run_until_stopped(self, task_status: trio.TaskStatus[Server]) -> None:
        dispatcher, lane = self.dispatcher, self.lane
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatcher.readers.run, name="shell receivers")
            nursery.start_soon(lane.run_comms, self.cells, name="comm lane")
            nursery.start_soon(follow_abandoned, lane, self.cells, name="abandoned requests")
            changed = self.eventloop_changed
            nursery.start_soon(follow_eventloop, self.kernel, lane, changed, name="event loop")
            task_status.started(self)
            await self.stopping.wait()
            async with trio.open_nursery() as ending:  # all shells at the same time
                ending.start_soon(self.subshells.close, StopReason.SHUTDOWN)
                await lane.wind_down(StopReason.SHUTDOWN, self.kernel.shutdown_grace)
            nursery.cancel_scope.cancel()

    # Aborting and shutting down

    async def abort(self, msg_ids: set[str] | None, *, waits: bool = True) -> None:
        """Abort requests by id, running or queued; None means everything queued.

        Returns when that is done, so that it does not hit what is sent afterwards. If the user loop
        does not turn it returns after `ABORT_TIMEOUT`, and with ``waits`` off at once: the abort is
        then done before the lane takes its next request.
        """
        lane = self.lane
        self.dispatcher.sweep()
        if msg_ids is not None:  # first of all: one may come, and start, while this is under way
            self.application.remember_aborted(msg_ids)
        elsewhere = self.subshells.abort(msg_ids)
        if msg_ids is not None:
            self.application.forget_aborted(elsewhere)
            msg_ids = msg_ids - elsewhere
            for request in tuple(self.stopper.running):
                if request.msg_id in msg_ids:
                    self.stopper.stop(request, StopReason.ABORT)

        def abort_here() -> None:  # in the user loop
            if msg_ids is not None:
                lane.abort_by_id(msg_ids)
            else:
                lane.abort_queued(0)  # this reads what has arrived; some may be for a subshell
                self.subshells.abort(None)

        if not waits:
            lane.posted.post(abort_here)
            return
        with trio.move_on_after(ABORT_TIMEOUT), contextlib.suppress(trio.RunFinishedError):
            await call_in(self.user_token, abort_here)

    def interrupt(self, subshell_id: object = None) -> str:
        """Interrupt the cell that runs in a subshell, or in every shell. Returns the place in the
        code of one that has been told to stop before and runs on, else an empty text. Raises
        `NoSubshell`.
        """
        if subshell_id is not None:
            return self.subshells.interrupt(subshell_id)
        place = self.stopper.stuck_at()
        self.stopper.interrupt()
        other = self.subshells.interrupt()
        return place or other

    def schedule(self, priority: int, job: Job) -> None:
        """Have the shell lane make a call when its turn comes; from any thread."""
        self.lane.posted.post(partial(self.lane.shell.schedule, job, priority))

    async def shut_down(
        self,
        request: Request | None,
        restart: bool,
        reason: StopReason = StopReason.SHUTDOWN,
    ) -> dict[str, Any]:
        """Stop what runs and call ``do_shutdown`` in the user loop; what that returned. The kernel
        ends after the ``idle`` of ``request``, or at once if there is none.

        If the user loop does not turn within the grace, the content is the default one.
        """
        content: dict[str, Any] = {"status": "ok", "restart": restart}
        if self._shutdown is not None:  # told twice
            return content
        self._shutdown = (content, request)
        if self.owns_process:
            _limit_the_end(self.kernel.shutdown_grace)
        self.lane.posted.post(partial(self.lane.abort_queued, math.inf))
        running = tuple(self.stopper.running)
        for one in running if request not in running else ():  # else it is itself one of them
            self.stopper.stop(one, reason)
        self.stopper.services.start_soon(self.subshells.close, reason)
        if request is not None:
            request.after_idle(self.stop)
        with trio.move_on_after(self.kernel.shutdown_grace):
            content = await self._call_shutdown(restart)
        self._shutdown = (content, request)
        if request is None:
            self.stop()
        return content

    async def _call_shutdown(self, restart: bool) -> dict[str, Any]:
        """Call ``do_shutdown`` in a task of the user loop, and wait for it."""
        if threading.get_ident() == self.user_thread:
            return await self.application.call_shutdown(restart)
        content: dict[str, Any] = {"status": "ok", "restart": restart}
        called = RepeatedEvent()

        @enable_ki_protection
        async def call() -> None:
            try:
                content.update(await self.application.call_shutdown(restart))
            finally:
                called.set()

        start = partial(self.cells.start_soon, call, name="do_shutdown")
        run_in(self.user_token, partial(copy_context().run, start))
        await called.wait()
        return content

    def terminate(self) -> None:
        """Have a process of its own shut down as by a ``shutdown_request``, without one; from any
        thread, and from a signal handler. Where no services run, those do that start next.

        The cell that runs gets no reply: frontends learn that the process is gone, and many would
        take one that is answered ``aborted`` for the end of their notebook.
        """
        for request in tuple(self.stopper.running):  # which may end before that is under way
            request.note_stop(StopReason.TERMINATION)
        if self.owns_process and self._thread is not None:  # which may not get the lock to do it
            _limit_the_end(self.kernel.shutdown_grace)
        self._terminated.set()

    async def _end_when_terminated(self) -> None:
        await self._terminated.wait()
        await self.shut_down(None, restart=False, reason=StopReason.TERMINATION)

    def leave(self) -> None:
        """Stop what runs, and have `serve` end without a ``shutdown_reply``: the parent process is
        gone, and nobody listens. From any thread, and from a signal handler; the second time it
        does nothing.
        """
        if self._is_leaving:
            return
        self._is_leaving = True
        if self.owns_process:
            _limit_the_end(self.kernel.shutdown_grace)
        for running in tuple(self.stopper.running):
            self.stopper.stop(running, StopReason.SHUTDOWN)
        self.stop()

    def stop(self) -> None:
        """Have `serve` end; from any thread."""
        self._stop_told.set()
        run_in(self.user_token, lambda: self.stopping.set())

    def _exit_without_user_loop(self) -> None:
        """What is still to be done in a process that exits although its user loop is blocked."""
        self.publish_shutdown()
        self.transport.close()
        for function in self.before_exit:
            function()

    def _refuse(self, requests: list[Request]) -> None:
        """Answer what a closed queue has left; what a lost loop has left is for the next one."""
        if self._outermost.is_lost:
            self._left += requests
            return
        for request in requests:
            self.lane.refuse(request)

    def publish_shutdown(self) -> None:
        """Broadcast the ``shutdown_reply`` on iopub, once, after everything else."""
        if self._shutdown is not None:
            (content, request), self._shutdown = self._shutdown, None
            parent = request.message.header if request is not None else None
            self.connection.iopub.publish("shutdown_reply", content, parent=parent)

    # A lost loop

    def lose_loop(self, crash: BaseException) -> None:
        """Trio has given up: answer what ran, keep what waits for the next loop. Outside of any.

        A shutdown that is under way is carried out by the services, which then exit; or once more
        by the next ones, if it was broken off with the loop. Subshells end.
        """
        cause, told = what_crashed(crash), bool(self.stopper.running)
        error = LoopLost(
            f"Trio's loop crashed by {type(cause).__name__}: {cause}. "
            f"A new one has been started; names are kept, {what_is_gone(self.background_tasks)}."
        )
        error.__cause__ = cause
        answer_lost(self.dispatcher, error)
        if self._thread is not None:
            self._thread.end_now(shuts_down=self._shutdown is not None)
        if self._shutdown is not None:  # it has ended with that loop all the same: the next one's
            self._shutdown = None
            self._terminated.set()
        self.stopper.restore()
        self.subshells.lose(LoopLost("the main shell's loop has crashed, and this one's with it"))
        self._left += take_what_waits(self.lane)
        self._failed_at = self.lane.shell.window.known_at
        if not told:
            self.application.report_background_error(error)


def _limit_the_end(grace: float) -> None:
    """End this process some seconds from now, also if C code holds the interpreter lock until then:
    the thread that does it needs none.
    """
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # then without
        faulthandler.dump_traceback_later(3 * grace + 1, exit=True, file=stderr_descriptor())


@contextlib.contextmanager
def _handling_sigint(server: Server) -> Iterator[None]:
    """SIGINT interrupts cells within the block, if they run in the main thread."""
    stopper, is_main = server.stopper, threading.current_thread() is threading.main_thread()
    if not server.inline and is_main and server.kernel.thread_of_cells is None:
        stopper.install()
    try:
        yield
    finally:
        stopper.restore()
