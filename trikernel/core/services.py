"""What serves beside the user loop: control, subscriptions, the flusher, the watches.

In a thread of its own (``services="thread"``) or in the same loop (``"inline"``): the same
coroutines in another nursery.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import outcome
import trio
from trio.lowlevel import enable_ki_protection

from ..system import (
    RepeatedEvent,
    call_in,
    mark_untraced,
    report_crash,
    run_in,
    wait_for_process_end,
)
from .connection import Connection
from .dispatch import READ_BATCH, Dispatcher
from .iopub import IOPub
from .stop import Stopper
from .stop_signals import TURN_TIMEOUT

__all__ = ["ControlService", "ProcessWatch", "ServiceThread", "run_services"]

JOIN_TIMEOUT = 0.5  # seconds that the thread may take to end

_log = logging.getLogger("trikernel")


class ControlService:
    """The control channel's receiver and lane: in the service loop, until `finish`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._closed = RepeatedEvent()

    @enable_ki_protection
    async def run(self) -> None:
        """Serve until told to finish; what has arrived by then is refused."""
        dispatcher = self._dispatcher
        control = dispatcher.connection.transport.control
        self._token = trio.lowlevel.current_trio_token()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(dispatcher.receive, control, name="control receiver")
                    nursery.start_soon(dispatcher.run_control_lane, name="control lane")
        finally:
            dispatcher.read(control)
            for request in dispatcher.control.close():
                dispatcher.main.refuse(request)
            self._token = None
            self._closed.set()

    async def finish(self) -> None:
        """Have it end, and wait until it has; from the user loop."""
        token = self._token
        if token is not None:
            run_in(token, self._scope.cancel)
            await self._closed.wait()


@enable_ki_protection
async def run_services(
    dispatcher: Dispatcher,
    control: ControlService,
    *,
    in_thread: bool,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the services until cancelled."""
    connection, stopper = dispatcher.connection, dispatcher.main.stopper
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.run, name="control")
        nursery.start_soon(_welcome_subscribers, connection, name="iopub subscriptions")
        nursery.start_soon(connection.iopub.run_flusher, name="output flusher")
        nursery.start_soon(connection.replies.run, name="replies that wait")
        nursery.start_soon(connection.transport.stdin.service_connections, name="stdin connections")
        if in_thread:
            nursery.start_soon(dispatcher.readers.run, name="shell receivers")
        reached = (
            stopper.installed or dispatcher.main.application.kernel.thread_of_cells is not None
        )
        stopper.serve_from(nursery, escalates=in_thread and reached)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:  # before the nursery closes
            stopper.services.close()


@enable_ki_protection
async def _welcome_subscribers(connection: Connection) -> None:
    """Answer each subscription with ``iopub_welcome`` under its own topic (JEP 65)."""
    channel = connection.transport.iopub
    while True:
        await channel.wait_readable()
        with suppress(trio.WouldBlock):
            for _ in range(READ_BATCH):
                event = channel.receive_nowait()[0]
                if event[:1] == b"\x01":
                    _welcome(connection.iopub, event[1:])


def _welcome(iopub: IOPub, topic: bytes) -> None:
    try:
        subscription = topic.decode()
    except UnicodeDecodeError:
        return
    iopub.publish("iopub_welcome", {"subscription": subscription}, parent=None, topic=topic)


@attrs.frozen(kw_only=True)
class ProcessWatch:
    """What a process of the kernel's own has watched beside its services.

    ``stop_told`` is set when the kernel is told to stop; if the user loop does not end within
    ``grace`` seconds, ``before_exit`` is called and the process exits without it. When the parent
    process ends, ``parent_gone`` is called. ``tasks`` are further ones of the service loop.
    """

    grace: float
    stop_told: RepeatedEvent
    before_exit: Callable[[], object]
    parent_gone: Callable[[], object]
    tasks: Sequence[Callable[[], Awaitable[object]]] = ()


class ServiceThread:
    """A daemon thread with a Trio loop of its own; `open` starts and joins it.

    A crash in it ends the kernel: it is written to the real stderr, and `open` raises it.
    With a ``watch`` it also ends a process whose user loop does not turn any more.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        control: ControlService,
        user_token: trio.lowlevel.TrioToken,
        watch: ProcessWatch | None,
        *,
        crash_grace: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._control = control
        self._user_token = user_token
        self._watch = watch
        self._crash_grace = crash_grace
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._left = threading.Event()
        self._result: outcome.Outcome[None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        thread = threading.Thread(target=self._run, name="trikernel services", daemon=True)
        self._thread = mark_untraced(thread)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Run the services in the thread while the body runs in this one."""
        self._thread.start()
        try:
            await self._ready.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_at_end, nursery.cancel_scope)
                if not self._ended.is_set():
                    yield
                nursery.cancel_scope.cancel()
        finally:
            if not self._left.is_set():  # else `end_now` has ended and joined it
                self._leave()
                with trio.move_on_after(JOIN_TIMEOUT, shield=True) as scope:
                    await self._ended.wait()
                # where the user's code has cancelled Trio's own tasks, `_ended` is never set here
                self._thread.join(JOIN_TIMEOUT if scope.cancelled_caught else None)
                if self._result is not None:
                    self._result.unwrap()

    def end_now(self, *, shuts_down: bool) -> None:
        """End it and join it, from outside of any loop: the user loop is lost.

        If it is about to shut the kernel down, let it do that: then it ends the process.
        """
        if self._watch is not None and shuts_down:
            self._thread.join(3 * self._watch.grace + JOIN_TIMEOUT)
        if self._thread.is_alive():
            self._leave()
            self._thread.join(JOIN_TIMEOUT)

    def _leave(self) -> None:
        self._left.set()
        if self._token is not None:
            run_in(self._token, self._scope.cancel)

    async def _cancel_at_end(self, scope: trio.CancelScope) -> None:
        await self._ended.wait()
        scope.cancel()

    def _run(self) -> None:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._result = outcome.capture(trio.run, self._main)
        run_in(self._user_token, self._announce_end)
        if isinstance(self._result, outcome.Error):
            left = False
            try:
                report_crash(self._result.error)
                left = self._left.wait(self._crash_grace)
            finally:
                if self._watch is not None and not left:
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
                services = partial(run_services, in_thread=True)
                await nursery.start(services, self._dispatcher, self._control)
                if self._watch is not None:
                    end = partial(_end_a_blocked_process, self._watch, self._user_token)
                    nursery.start_soon(end, name="shutdown watch")
                    nursery.start_soon(_watch_parent, self._watch, name="parent watch")
                    nursery.start_soon(_follow_interrupt_event, self._dispatcher.main.stopper)
                    for task in self._watch.tasks:
                        nursery.start_soon(task)
                run_in(self._user_token, self._ready.set)


async def _end_a_blocked_process(watch: ProcessWatch, token: trio.lowlevel.TrioToken) -> None:
    """Once told to stop, give the user loop its grace; then publish the end and exit without it.

    C code that holds the interpreter lock holds up this loop, too: for that `Server.shut_down` has
    armed a thread of `faulthandler`, which needs no lock.
    """
    await watch.stop_told.wait()
    await trio.sleep(watch.grace)
    if await _turns(token):  # it is about to end by itself: once more the grace
        await trio.sleep(watch.grace)
    watch.before_exit()
    os._exit(0)


async def _turns(token: trio.lowlevel.TrioToken) -> bool:
    """Whether that loop turns: one that is not blocked does within `TURN_TIMEOUT`."""
    with trio.move_on_after(TURN_TIMEOUT), suppress(trio.RunFinishedError):
        await call_in(token, int)
        return True
    return False


# The process that started the kernel. Jupyter passes its pid (on Windows: a handle) in
# ``JPY_PARENT_PID``, and on Windows an event that interrupts in ``JPY_INTERRUPT_EVENT``.


async def _watch_parent(watch: ProcessWatch) -> None:
    """Stop the kernel when the process named in ``JPY_PARENT_PID`` ends."""
    parent = _number("JPY_PARENT_PID")
    if parent in (0, 1):  # nobody asked, or the parent is init, which never ends
        return
    await wait_for_process_end(parent)
    _log.warning("the parent process is gone, shutting down")
    watch.parent_gone()


async def _follow_interrupt_event(stopper: Stopper) -> None:
    """On Windows: interrupt whenever the event in ``JPY_INTERRUPT_EVENT`` is set."""
    if sys.platform == "win32":
        event = _number("JPY_INTERRUPT_EVENT")
        while event:
            await trio.lowlevel.WaitForSingleObject(event)
            stopper.interrupt()


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
