"""A foreign event loop (a GUI's, say) that gets its turns while no message waits.

The kernel's ``eventloop`` is a callable that takes the kernel and advances the loop once. It is
called every ``poll_interval`` seconds while it is set, and costs nothing while it is None.
"""

from __future__ import annotations

import trio
from trio.lowlevel import enable_ki_protection

from .boundary import is_cancel
from .protection import call_unprotected
from .server import Server

__all__ = ["advance_eventloop"]


@enable_ki_protection
async def advance_eventloop(server: Server) -> None:
    """Give turns to ``kernel.eventloop``, which may be swapped or cleared at any time.

    A `KeyboardInterrupt` in it is logged; any other exception is logged and clears it.
    """
    kernel = server.application
    while True:
        if kernel.eventloop is None:
            server.eventloop_changed = trio.Event()
            await server.eventloop_changed.wait()
            continue
        server.sweep()
        if not len(server.shell) and not server.interrupts.running:
            _advance(server)
        await trio.sleep(kernel.poll_interval)


def _advance(server: Server) -> None:
    kernel = server.application
    function = kernel.eventloop
    if function is None:
        return
    try:
        call_unprotected(function, kernel)
    except KeyboardInterrupt:
        kernel.log.info("KeyboardInterrupt in the event loop")
    except BaseException as raised:
        if is_cancel(raised):
            raise
        kernel.log.exception("the event loop %r failed and is no longer called", function)
        if kernel.eventloop is function:
            kernel.eventloop = None
