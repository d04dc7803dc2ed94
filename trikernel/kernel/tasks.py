"""Which tasks cells have started, for whoever asks while a cell may compute: ``tasks_request``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ..system import call_in

if TYPE_CHECKING:
    from ..timeline import TaskTree

__all__ = ["tell_tasks"]

TURN_TIMEOUT = 0.2  # seconds that the user loop has to turn
TRIES = 20  # of a look from another thread, while tasks come and go


async def tell_tasks(kernel: Any) -> TaskTree:
    """The tree of the main shell's tasks; in the service loop, or in the user loop inline.

    The user loop is asked first. Where it does not turn, because a cell computes, its tasks are
    looked at from here.
    """
    server = kernel.server
    look = partial(_look, kernel, "running")
    if server.inline:
        return look()
    with trio.move_on_after(TURN_TIMEOUT):
        return await call_in(server.user_token, look)
    from ..timeline import line_of_thread

    line = line_of_thread(server.user_thread, kernel.name_of_code)
    for _ in range(TRIES):
        try:
            return _look(kernel, f"running{': ' if line else ''}{line}")
        except RuntimeError:  # a set has changed while it was gone through
            await trio.sleep(0.001)
    return look()


def _look(kernel: Any, running: str) -> TaskTree:
    from ..timeline import Tasks  # not at the start: few ask

    server, tasks = kernel.server, kernel.living_tasks or Tasks(kernel.name_of_code)
    tree: TaskTree = tasks.tree(
        server.cells.child_tasks | server.background_tasks.child_tasks, running
    )
    return tree
