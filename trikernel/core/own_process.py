"""Serving in a process of the kernel's own: in loops of the main thread, one after the other."""

from __future__ import annotations

import faulthandler
import gc
import math
import time
from collections import deque
from collections.abc import Callable

import trio

from ..transport import Transport
from .application import Application
from .recovery import loses_loop
from .request import is_served
from .server import Server

__all__ = ["run_in_this_thread"]

MOST_LOSSES = 10  # loops that may be lost while no request runs
LOSS_WINDOW = 10  # within so many seconds


def run_in_this_thread(
    application: Application, transport: Transport, on_start: Callable[[Server], object]
) -> None:
    """Serve in a process of the kernel's own, in loops of this thread, until it is shut down.

    The user's code may crash Trio. Then the loop is lost with all its tasks, but not the kernel,
    its sockets and its namespace: what ran is answered with `LoopLost`, and a new loop goes on. If
    `MOST_LOSSES` loops are lost within `LOSS_WINDOW` while no request runs that could be the reason
    (no memory is left, for example), the last crash is raised.
    ``on_start`` is called with the server before anything else.
    """
    servers: list[Server] = []
    losses: deque[float] = deque([-math.inf] * MOST_LOSSES, MOST_LOSSES)

    async def run() -> None:
        is_served.set(True)
        if not servers:
            server = Server(application, transport, inline=False, owns_process=True)
            application.bind(server)
            servers.append(server)
            on_start(server)
        else:
            servers[0].enter_loop()
        await servers[0].run()

    try:
        while True:
            try:
                trio.run(run)
                return
            except BaseException as crash:
                if servers and servers[0].stopping.is_set():
                    servers[0].publish_shutdown()
                    raise
                if servers and not servers[0].stopper.running:
                    losses.append(time.monotonic())
                if not servers or not loses_loop(crash) or losses[-1] - losses[0] < LOSS_WINDOW:
                    raise
                servers[0].lose_loop(crash)
            gc.collect()  # the coroutines of that loop end now, not in the middle of the next one
    finally:
        if servers:
            faulthandler.cancel_dump_traceback_later()
            application.unbind()
