"""Names for tasks, and the cell that started each of them."""

from __future__ import annotations

import trio

from ..core import Request, background_scope, current_request, is_ours

__all__ = ["is_lane_of_ours", "origin_of", "request_of_task", "title_of"]


def request_of_task(task: trio.lowlevel.Task) -> Request | None:
    """The request that a task was started for, or that it handles."""
    return task.context.get(current_request)


def origin_of(request: Request | None) -> str:
    """The cell of a request, as ``In [3]``; ``comm`` if there is no request, or it is no cell's."""
    if request is None or request.msg_type != "execute_request":
        return "comm"
    return f"In [{request.number if request.number is not None else ' '}]"


def title_of(task: trio.lowlevel.Task, request: Request | None) -> str:
    """The name to show for a task: ``the cell`` for the task that runs it."""
    if request is not None and request.task is task:
        return "the cell" if not request.finished else "the cell, abandoned"
    return task.name.removeprefix("__main__.")


def is_lane_of_ours(task: trio.lowlevel.Task) -> bool:
    """Whether a task is the kernel's own lane, in which one cell after the other runs."""
    code = getattr(task.coro, "cr_code", None)
    is_background = task.context.get(background_scope) is not None
    return (
        code is not None
        and code.co_name == "run"
        and is_ours(code.co_filename)
        and not is_background
    )
