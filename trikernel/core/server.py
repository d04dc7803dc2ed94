"""A kernel and a transport joined: the order of each answer, and the end.

`perform` is the one place that publishes busy and idle. What comes in is `intake`'s, the nurseries
that all this runs in are built by `serve`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..system import run_in
from ..transport import Transport
from .application import Application
from .boundary import attempt, render
from .intake import Intake
from .interrupt import Interrupts
from .lane import ShellLane
from .outgoing import Outgoing
from .rejections import Rejections
from .reopening import ReopeningNursery
from .request import Outcome, Reply, Request, StopReason, current_request
from .sidelanes import CommLane, ControlLane

__all__ = ["Server"]

ABORT_PATIENCE = 0.5  # seconds that an abort waits for the user loop to turn


class Server(Outgoing):
    """One kernel being served. Create it in the user loop.

    ``inline`` is true when there is no service loop of its own, ``owns_process`` when the process
    is the kernel's.
    """

    def __init__(
        self,
        application: Application,
        transport: Transport,
        *,
        inline: bool = False,
        owns_process: bool = False,
    ) -> None:
        super().__init__(application, transport)
        self.inline = inline
        self.owns_process = owns_process
        self.user_token = trio.lowlevel.current_trio_token()
        self.user_thread = threading.get_ident()
        self.interrupts = Interrupts(self.user_token, owns_loop=owns_process)
        self.interrupts.before_stop = self.outbox.close_text  # so that `print` looks
        self.comm = CommLane(self)
        self.shell = ShellLane(self, self.comm)
        self.control = ControlLane(self)
        lanes = self.shell, self.comm, self.control
        self.intake = Intake(application, transport, self.codec, lanes, self.refuse, inline=inline)
        self.background: trio.Nursery | None = None
        self.cells = ReopeningNursery(application.report_background_error)
        self.background_tasks = ReopeningNursery(application.report_background_error)
        self.stopping = trio.Event()
        self.eventloop_changed = trio.Event()
        self._grace_spent = False
        self._stop_hooks: list[Callable[[], object]] = []

    def sweep(self) -> None:
        """Admit what has already arrived for the shell lane; in the user loop."""
        self.intake.sweep()

    # One request

    @enable_ki_protection
    async def perform(self, request: Request) -> None:
        """Busy, the handler, everything it put out, the reply, idle: in this order, always."""
        self.intake.leave(request)
        token = current_request.set(request)
        reply: Reply | None = None
        cancelled = True
        self.publish_status("busy", request.message.header, hold=True)
        try:
            reply = await self._answer(request)
            if request.stop_on_error and reply is not None and reply.failed:
                self.shell.abort_queued(self.application.stop_on_error_timeout)
            await self.outbox.flush(collect=not request.looks_only)
            cancelled = False
        finally:
            if cancelled:
                self.outbox.drain(wait=True)
                earned = request.outcome.reply if request.outcome is not None else None
                reply = reply or earned or self.application.aborted_reply(request)
            self.conclude(request, reply)
            current_request.reset(token)
            request.finish()

    def refuse(self, request: Request, error: BaseException | None = None) -> None:
        """Answer a request that will not run: ``aborted``, or with the error that says why."""
        self.intake.leave(request)
        self.publish_status("busy", request.message.header)
        self.outbox.drain(wait=True)
        application = self.application
        if error is None:
            self.conclude(request, application.aborted_reply(request))
        else:
            self.conclude(request, application.error_reply(request, error))

    async def _answer(self, request: Request) -> Reply | None:
        if request.stop_reason is StopReason.INTERRUPT:  # it came between busy and the handler
            return render(self.application, request, KeyboardInterrupt())
        if request.stop_reason is not None:
            return self.application.aborted_reply(request)
        if request.type is None or not request.type.own_task:
            outcome: Outcome | None = await attempt(self.application, request)
        else:
            outcome = await self._attempt_in_task(request)
        if outcome is None:  # abandoned
            return render(self.application, request, KeyboardInterrupt())
        if outcome.error is not None:
            return render(self.application, request, outcome.error)
        return outcome.reply

    async def _attempt_in_task(self, request: Request) -> Outcome | None:
        """Its outcome; None if it is abandoned.

        Cancelled, its task is cancelled too, and has the grace to clean up in.
        """
        request.done = trio.Event()
        self._spawn(request)
        try:
            await request.done.wait()
        except trio.Cancelled:
            request.mark(StopReason.SHUTDOWN)
            request.cancel()
            if not self._grace_spent:
                with trio.move_on_after(self.application.shutdown_grace, shield=True):
                    await request.done.wait()
            raise
        return request.outcome

    def _spawn(self, request: Request) -> None:
        """Give the request a task of its own, in the context that earlier cells left."""
        spawn = partial(self.cells.start_soon, self._attempt, request, name=request.msg_type)
        context = self.application.user_context
        if context is None:
            spawn()
        else:
            context.run(spawn)

    @enable_ki_protection
    async def _attempt(self, request: Request) -> None:
        assert request.done is not None
        current_request.set(request)
        try:
            outcome = await attempt(self.application, request)
            if not request.done.is_set():
                request.outcome = outcome
        finally:
            request.done.set()

    # Stopping

    async def abort(self, msg_ids: set[str] | None) -> None:
        """Abort requests by id, running or queued; None means everything queued.

        Returns when that is done, so that it does not hit what is sent afterwards; at once if the
        user loop does not turn.
        """
        abort = partial(self.shell.abort_queued, 0)
        if msg_ids is not None:
            for request in tuple(self.interrupts.running):
                if request.msg_id in msg_ids:
                    self.interrupts.stop(request, StopReason.ABORT)
            abort = partial(self.shell.abort_ids, msg_ids)
        with trio.move_on_after(ABORT_PATIENCE):
            await self.shell.call(abort)

    async def shut_down(self, request: Request, restart: bool) -> dict[str, Any]:
        """Stop what runs, call the author's verb in the user loop; ends the kernel after idle.

        With a user loop that does not turn within the grace, the verb's word is done without.
        """
        content: dict[str, Any] = {"status": "ok", "restart": restart}
        if self.last_word is not None:  # told twice
            return content
        self.last_word = (content, request)
        request.after_idle(self.stop)
        self.shell.post(partial(self.shell.abort_queued, math.inf))
        running = tuple(self.interrupts.running)
        for one in running if request not in running else ():  # else it runs within these
            self.interrupts.stop(one, StopReason.SHUTDOWN)
        with trio.move_on_after(self.application.shutdown_grace):
            content = await self._call_shutdown(restart)
        self.last_word = (content, request)
        return content

    def leave(self) -> None:
        """Stop what runs, and have `serve` end without a word: nobody listens any more."""
        for running in tuple(self.interrupts.running):
            self.interrupts.stop(running, StopReason.SHUTDOWN)
        self.stop()

    async def wind_down(self) -> None:
        """Abort what is queued and stop what runs, each by its own scope, within the grace."""
        self.shell.abort_queued(math.inf)
        for running in tuple(self.interrupts.running):
            running.mark(StopReason.SHUTDOWN)
            running.cancel()
        with trio.move_on_after(self.application.shutdown_grace):
            await self.shell.finish()
        self._grace_spent = True

    @property
    def rejected(self) -> Rejections:
        """How many messages were refused, by the kind of `WireError`."""
        return self.intake.rejected

    def stop(self) -> None:
        """Have `serve` end; from any thread."""
        for function in self._stop_hooks:
            function()
        run_in(self.user_token, self.stopping.set)

    def on_stop(self, function: Callable[[], object]) -> None:
        """Have `stop` call ``function``, in whatever thread it is called."""
        self._stop_hooks.append(function)

    async def _call_shutdown(self, restart: bool) -> dict[str, Any]:
        """Call the author's verb in a task of the user loop, and wait for that."""
        if threading.get_ident() == self.user_thread:
            return await self.application.call_shutdown(restart)
        content: dict[str, Any] = {"status": "ok", "restart": restart}
        token, called = trio.lowlevel.current_trio_token(), trio.Event()

        @enable_ki_protection
        async def call() -> None:
            try:
                content.update(await self.application.call_shutdown(restart))
            finally:
                run_in(token, called.set)

        start = partial(self.cells.start_soon, call, name="do_shutdown")
        run_in(self.user_token, partial(copy_context().run, start))
        await called.wait()
        return content
