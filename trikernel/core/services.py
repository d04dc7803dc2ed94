"""What serves beside the user loop: control, subscriptions, the flusher, the watches.

In a thread of its own (``services="thread"``) or in the same loop (``"inline"``): the same
coroutines in another nursery.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from ..system import report_crash, run_in
from .intake import TURN
from .interrupt import PATIENCE
from .parent import listen_for_interrupt_event, watch_parent
from .server import Server

__all__ = ["ServiceThread", "run_services"]

JOIN_PATIENCE = 0.5  # seconds that the thread may take to end


@enable_ki_protection
async def run_services(
    server: Server, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the services until cancelled."""
    token = trio.lowlevel.current_trio_token()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_control, server, name="control")
        nursery.start_soon(_welcome_subscribers, server, name="iopub subscriptions")
        nursery.start_soon(server.outbox.run_flusher, token, name="stream flusher")
        nursery.start_soon(server.backlog.run, name="backlog")
        nursery.start_soon(server.transport.stdin.tend, name="stdin connections")
        server.interrupts.serve_from(token, nursery, insist=server.interrupts.installed)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:  # before the nursery closes
            server.interrupts.stop_serving()


@enable_ki_protection
async def _serve_control(server: Server) -> None:
    """Until `ControlLane.finish`; then what has arrived is refused."""
    try:
        with server.control.scope:
            async with trio.open_nursery() as nursery:
                control = server.transport.control
                nursery.start_soon(server.intake.receive, control, name="control receiver")
                nursery.start_soon(server.control.run, name="control lane")
    finally:
        server.intake.drain(server.transport.control)
        server.control.close()


@enable_ki_protection
async def _welcome_subscribers(server: Server) -> None:
    """Answer each subscription with ``iopub_welcome`` under its own topic (JEP 65)."""
    channel = server.transport.iopub
    while True:
        await channel.wait_readable()
        with suppress(trio.WouldBlock):
            for _ in range(TURN):
                event = channel.receive_nowait()[0]
                if event[:1] == b"\x01":
                    _welcome(server, event[1:])


def _welcome(server: Server, topic: bytes) -> None:
    try:
        subscription = topic.decode()
    except UnicodeDecodeError:
        return
    frames = server.codec.encode(
        "iopub_welcome", {"subscription": subscription}, identities=[topic]
    )
    server.outbox.post(frames)


async def _turns(token: trio.lowlevel.TrioToken) -> bool:
    """Whether that loop turns, which takes it no time if it does."""
    own, turned = trio.lowlevel.current_trio_token(), trio.Event()
    run_in(token, partial(run_in, own, turned.set))
    with trio.move_on_after(PATIENCE):
        await turned.wait()
    return turned.is_set()


class ServiceThread:
    """A daemon thread with a Trio loop of its own; `open` starts and joins it.

    A crash in it ends the kernel: it is written to the real stderr, and `open` raises it.
    With ``owns_process`` it also ends a process whose user loop does not turn any more.
    """

    def __init__(self, server: Server, *, owns_process: bool) -> None:
        self._server = server
        self._owns_process = owns_process
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._left = threading.Event()
        self._result: outcome.Outcome[None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the services in a thread while the body runs in this one."""
        thread = threading.Thread(target=self._run, name="trikernel services", daemon=True)
        thread.start()
        try:
            await self._ready.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_at_end, nursery.cancel_scope)
                if not self._ended.is_set():
                    yield
                nursery.cancel_scope.cancel()
        finally:
            self._left.set()
            if self._token is not None:
                run_in(self._token, self._scope.cancel)
            with trio.move_on_after(JOIN_PATIENCE, shield=True) as patience:
                await self._ended.wait()
            # a loop whose own tasks the user's code has cancelled hears of nothing any more
            thread.join(JOIN_PATIENCE if patience.cancelled_caught else None)
            if self._result is not None:
                self._result.unwrap()

    async def _cancel_at_end(self, scope: trio.CancelScope) -> None:
        await self._ended.wait()
        scope.cancel()

    def _run(self) -> None:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._result = outcome.capture(trio.run, self._main)
        run_in(self._server.user_token, self._announce_end)
        if isinstance(self._result, outcome.Error):
            left = False
            try:
                report_crash(self._result.error)
                left = self._left.wait(self._server.application.shutdown_grace)
            finally:
                if self._owns_process and not left:
                    os._exit(1)  # the user loop does not turn: let clients see the kernel's death

    def _announce_end(self) -> None:
        self._ended.set()
        self._ready.set()

    @enable_ki_protection
    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._left.is_set():  # cancelled before this loop turned
            self._scope.cancel()
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(run_services, self._server)
                if self._owns_process:
                    nursery.start_soon(self._end_a_blocked_process, name="shutdown watch")
                    nursery.start_soon(watch_parent, self._server, name="parent watch")
                    nursery.start_soon(listen_for_interrupt_event, self._server)
                run_in(self._server.user_token, self._ready.set)

    async def _end_a_blocked_process(self) -> None:
        """Once told to stop, give the user loop its grace; then speak and exit without it."""
        server, told = self._server, trio.Event()
        server.on_stop(partial(run_in, trio.lowlevel.current_trio_token(), told.set))
        await told.wait()
        await trio.sleep(server.application.shutdown_grace)
        if await _turns(server.user_token):  # then it is about to end by itself
            await trio.sleep(server.application.shutdown_grace)
        server.publish_last_word()
        server.transport.close()
        os._exit(0)
