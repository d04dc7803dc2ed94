"""Answers ``tasks_request``: which tasks cells have started, also while a cell computes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ..system import call_in
from .served import ServedKernel

if TYPE_CHECKING:
    from ..timeline import TaskTree

__all__ = ["tell_tasks"]

TURN_TIMEOUT = 0.2  # seconds that the user loop has to answer
TRIES = 20  # attempts to read the tasks from another thread while they change


async def tell_tasks(kernel: ServedKernel) -> TaskTree:
    """The tree of the main shell's tasks. Called in the service loop, which may be the user loop.

    The user loop is asked first. If it does not answer, because a cell computes, its tasks are read
    from this thread.
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
        except RuntimeError:  # a set of tasks has changed during the iteration
            await trio.sleep(0.001)
    return look()


def _look(kernel: ServedKernel, running: str) -> TaskTree:
    from ..timeline import Tasks  # imported late, because it is rarely used

    server, tasks = kernel.server, kernel.living_tasks or Tasks(kernel.name_of_code)
    tree: TaskTree = tasks.tree(
        server.cells.child_tasks | server.background_tasks.child_tasks, running
    )
    return tree
