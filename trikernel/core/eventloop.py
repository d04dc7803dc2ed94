"""A foreign event loop that a kernel gives turns to: a GUI's, say."""

from __future__ import annotations

import trio
from trio.lowlevel import enable_ki_protection

from ..system import RepeatedEvent
from .application import Facts
from .shell_lane import ShellLane
from .user_code import call_unprotected, is_cancel

__all__ = ["follow_eventloop"]


@enable_ki_protection
async def follow_eventloop(kernel: Facts, lane: ShellLane, changed: RepeatedEvent) -> None:
    """Give turns to ``kernel.eventloop``, which may be swapped or cleared at any time, while no
    message waits: every ``poll_interval`` seconds while it is set, never while it is None.
    """
    while True:
        if kernel.eventloop is None:
            await changed.wait()
            continue
        lane.sweep()
        if not len(lane.shell) and not lane.stopper.running:
            _advance(kernel)
        await trio.sleep(kernel.poll_interval)


def _advance(kernel: Facts) -> None:
    """Let a foreign event loop run once. A `KeyboardInterrupt` in it is logged; after any other
    exception, which is logged, it is no longer called.
    """
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
