"""The nurseries a kernel lives in: services outside, lanes and the user's tasks inside.

What is inside ends first, with a bounded grace; what owns the way to the clients ends last.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import trio
from trio.lowlevel import enable_ki_protection

from ..transport import Transport
from .application import Application
from .eventloop import advance_eventloop
from .request import is_served
from .server import Server
from .services import ServiceThread, run_services

__all__ = ["serve"]

Services = Literal["thread", "inline"]


@enable_ki_protection
async def serve(
    kernel: Application,
    transport: Transport,
    *,
    services: Services = "thread",
    owns_process: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``kernel`` over ``transport`` until it is told to shut down, or cancelled.

    With ``services="thread"`` control, interrupts and output live in a thread of their own, so
    that they work while a cell computes; in the main thread SIGINT is taken over meanwhile.
    With ``services="inline"`` everything is in this loop and no process-wide state is touched:
    for embedding, and for tests under a virtual clock. Synchronous code cannot be stopped then.

    Usable with ``nursery.start``, which returns once requests are answered. The transport
    stays open: who opened it closes it. ``owns_process`` allows `os._exit` where the user's
    code blocks the shutdown beyond its grace. Cancelled, it ends in the same order, without
    a last word.
    """
    if services not in ("thread", "inline"):
        raise ValueError(f"services must be 'thread' or 'inline', not {services!r}")
    inline = services == "inline"
    if inline and owns_process:
        raise ValueError("a kernel that owns its process needs services='thread'")
    server = Server(kernel, transport, inline=inline, owns_process=owns_process)
    kernel.bind(server)
    served = is_served.set(True)
    try:
        with _sigint(server):
            opened = _inline(server) if inline else _thread(server, owns_process)
            async with opened:
                try:
                    await _run_lanes(server, task_status)
                    await server.control.finish()
                    server.shell.close()  # again: what control had for it is refused, too
                    server.publish_last_word()
                finally:
                    with trio.CancelScope(shield=True):  # within the budget of a stalled client
                        await server.outbox.flush()
    finally:
        is_served.reset(served)
        kernel.unbind()


@contextlib.contextmanager
def _sigint(server: Server) -> Iterator[None]:
    if server.inline or threading.current_thread() is not threading.main_thread():
        yield
        return
    server.interrupts.install()
    try:
        yield
    finally:
        server.interrupts.restore()


@contextlib.asynccontextmanager
async def _inline(server: Server) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(run_services, server)
        yield
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _thread(server: Server, owns_process: bool) -> AsyncIterator[None]:
    async with ServiceThread(server, owns_process=owns_process).open():
        yield


async def _run_lanes(server: Server, task_status: trio.TaskStatus[Server]) -> None:
    """Receivers and lanes within the background nursery, until the kernel is told to stop."""
    try:
        async with trio.open_nursery() as background:
            server.background = background
            await background.start(server.cells.run)
            await background.start(server.background_tasks.run)
            server.publish_status("starting", None)
            try:
                await _start(server, background)
                await _run_until_stopped(server, task_status)
            finally:
                server.shell.close()
            background.cancel_scope.cancel()
    finally:
        server.comm.close()


async def _start(server: Server, background: trio.Nursery) -> None:
    """Have the kernel start, unless it is told to stop meanwhile."""
    with trio.CancelScope() as scope:
        background.start_soon(_cancel_when_stopping, server, scope, name="start watch")
        await server.application.start()


async def _cancel_when_stopping(server: Server, scope: trio.CancelScope) -> None:
    await server.stopping.wait()
    scope.cancel()


async def _run_until_stopped(server: Server, task_status: trio.TaskStatus[Server]) -> None:
    async with trio.open_nursery() as lanes:
        for channel in server.transport.shell:
            if channel is not server.transport.control:
                lanes.start_soon(server.intake.receive, channel, name=f"{channel.name} receiver")
        lanes.start_soon(server.shell.run, name="shell lane")
        lanes.start_soon(server.comm.run, name="comm lane")
        lanes.start_soon(advance_eventloop, server, name="event loop")
        task_status.started(server)
        await server.stopping.wait()
        await server.wind_down()
        lanes.cancel_scope.cancel()
