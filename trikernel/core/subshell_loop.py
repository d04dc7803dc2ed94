"""The loop of one subshell: a shell lane, its stopper and its nurseries, in a thread of its own.

Where services are inline, all of this lives in the one loop that there is.

::

    Subshell ── SubshellLoop ── ShellLane ── ShellQueue, CommQueue
                     ├───────── Stopper
                     └───────── UserNursery (cells, comm handlers), UserNursery (background tasks)

A loop ends when it is told to, within a grace. If its thread is in C code that does not return, or
Trio has crashed there, it is *left*: another thread answers the requests that ran, and those that
waited are given back. If the C code returns after all, its result is dropped and the thread ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextvars import Context, ContextVar
from functools import partial

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..system import Latch, RemoteNursery, report_crash, run_in
from .application import Application
from .connection import Connection
from .recovery import answer, follow_abandoned, loses_loop, what_crashed
from .request import Event, Request, RequestBudget, State, StopReason, is_served
from .shell_lane import ShellLane
from .stop import Stopper
from .user_code import OutermostScope, UserNursery

__all__ = ["SubshellKey", "SubshellLoop", "current_subshell"]


@attrs.define(eq=False)
class SubshellKey:
    """Identifies a subshell, whatever loop it has now; to be used as a key in weak dictionaries.

    ``execution_count`` is that of its cells, in a kernel that leaves the counting to us.
    """

    id: str
    execution_count: int = 0


class SubshellLoop:
    """One loop of a subshell. ``services`` is the service loop's nursery; with ``in_thread`` off
    the loop is the one that `start` is called in.
    """

    lane: ShellLane
    stopper: Stopper

    def __init__(
        self,
        key: SubshellKey,
        application: Application,
        connection: Connection,
        budget: RequestBudget,
        services: RemoteNursery,
        *,
        in_thread: bool,
    ) -> None:
        self.key = key
        self.cells, self.background_tasks = UserNursery(), UserNursery()
        self.ready, self.ended = Latch(), Latch()
        self.crash: BaseException | None = None
        self.is_left = False
        self.background: trio.Nursery | None = None
        self.thread = 0  # its identifier, once it has begun
        self.has_begun = False
        self._application = application
        self._connection = connection
        self._budget = budget
        self._services = services
        self._in_thread = in_thread
        self._ending = Latch()
        self._reason = StopReason.SHUTDOWN
        self._scope = trio.CancelScope()

    def start(self) -> None:
        """Begin. Raises `RuntimeError` where no thread can be had."""
        if not self._in_thread:
            self._services.start_soon(self._run)
            return
        name = f"trikernel subshell {self.key.id[:8]}"
        run = partial(Context().run, self._run_thread)  # not the context of who creates it
        threading.Thread(target=run, name=name, daemon=True).start()

    @property
    def stops_taking(self) -> bool:
        """Whether it was told to end, so that it takes no more requests."""
        return self._ending.is_set

    def end(self, reason: StopReason) -> None:
        """Have it end: what runs is stopped, what waits is aborted; from any thread."""
        self._reason = reason
        self._ending.set()
        if self.ready.is_set:
            for request in tuple(self.stopper.running):
                self.stopper.stop(request, reason)

    # In its thread

    def _run_thread(self) -> None:
        if sys.platform != "win32":
            # Blocked by the thread that starts this one. What cells start inherits the mask: their
            # child processes would ignore a SIGINT.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            trio.run(self._run)
        except BaseException as raised:  # the end of the loop and its thread: `crash` tells of it
            if not self.is_left and not loses_loop(raised):
                report_crash(raised)
            self.crash = what_crashed(raised)
        finally:
            self.ended.set()
            self.ready.set()

    @enable_ki_protection
    async def _run(self) -> None:
        token, iopub = trio.lowlevel.current_trio_token(), self._connection.iopub
        is_served.set(True)
        current_subshell.set(self)
        self.thread = threading.get_ident()
        outermost = OutermostScope(is_ours=self._in_thread)
        kernel = self._application.kernel
        # by an object of its own: the loop itself would be kept alive by `iopub`
        on_pending = partial(iopub.note_stop_pending, stopper=object())
        self.stopper = Stopper(
            token,
            on_pending=on_pending,
            tell=iopub.tell,
            owns_loop=self._in_thread,
            grace=kernel.stop_grace,
            services=self._services,
            thread=threading.get_ident() if self._in_thread else None,
        )
        self.lane = ShellLane(
            self._application,
            self._connection,
            self.stopper,
            token,
            outermost,
            budget=self._budget,
            may_be_left=self._in_thread,
        )
        try:
            with outermost, self._scope:
                try:
                    await self._run_user_tasks(kernel.shutdown_grace)
                finally:
                    if not outermost.is_lost:  # else who finds that goes on with what waits
                        self._refuse(self.lane.shell.close() + self.lane.comm.close())
        finally:
            on_pending(False)  # stops that were not delivered by now never will be
            if not self._in_thread:
                self.ended.set()

    async def _run_user_tasks(self, grace: float) -> None:
        """The lanes within the user's nurseries, until told to end."""
        report = self._application.report_background_error
        async with trio.open_nursery() as background:
            self.background = background
            await self._application.enter_subshell()
            await background.start(self.background_tasks.run, report)
            await background.start(self.cells.run, report, self._start_lane)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.lane.run_comms, self.cells, name="comm lane")
                nursery.start_soon(follow_abandoned, self.lane, self.cells, name="left behind")
                self.has_begun = True
                self.ready.set()
                await self._ending.wait()
                await self.lane.wind_down(self._reason, grace)
                nursery.cancel_scope.cancel()
            self._refuse(self.lane.shell.close())
            background.cancel_scope.cancel()

    def _start_lane(self, nursery: trio.Nursery) -> None:
        if not self.lane.shell.closed:
            nursery.start_soon(self.lane.run, name="shell lane")

    def _refuse(self, requests: list[Request]) -> None:
        for request in requests if not self.is_left else ():
            self.lane.refuse(request)

    # When it does not end, or has crashed

    def leave(self, requests: list[Request], error: BaseException | None) -> list[Request]:
        """Leave this loop. Of ``requests`` those that it has begun are answered, with ``error`` or
        with the reason of their stop, and the others are returned; from any thread.
        """
        self.is_left, lane = True, getattr(self, "lane", None)
        if lane is None:
            return requests
        with lane.answering:
            lane.is_left = True
            begun = [one for one in requests if one.state is not State.QUEUED]
        end = Event.FINISH if self.ended.is_set else Event.ABANDON
        token = current_subshell.set(self)
        try:
            for request in begun:
                answer(lane, request, error or request.stop_error(), end)
        finally:
            current_subshell.reset(token)
        run_in(lane.token, self._scope.cancel)
        return [one for one in requests if one not in begun]


current_subshell: ContextVar[SubshellLoop | None] = ContextVar("current_subshell", default=None)
"""The loop of the subshell that the calling code runs in; None in the main shell."""
