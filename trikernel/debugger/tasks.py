"""Trio's tasks as threads of the Debug Adapter Protocol, while the loop is stopped at a breakpoint.

A task that waits has frames like a stopped thread: its stack, its variables and the values of
expressions can be shown. Tasks and their frames have numbers that debugpy does not use. A request
to continue or to step means the thread that is stopped, in which all tasks run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextvars import Context
from types import FrameType
from typing import Any

import attrs
import trio

from ..core import (
    Request,
    await_unprotected,
    call_unprotected,
    current_request,
    is_machinery,
    is_ours,
)

__all__ = ["FIRST_TASK", "TaskFrames", "find_context", "is_users", "living_tasks"]

FIRST_TASK = 1 << 28
"""Thread numbers from here on are tasks; those below are debugpy's."""
FIRST_FRAME = 1 << 29
_OWN = ", its own task"
_IN_WORKER = "worker_fn"  # Trio's function that calls a function in a worker thread
_GENERATED = "<attrs generated"  # the file of methods that attrs has made for Trio's classes
# our functions that call the user's code
_TO_USERS = {call_unprotected.__name__, await_unprotected.__name__, "run_statement"}


@attrs.frozen(eq=False)
class _Frame:
    frame: FrameType
    line: int


class TaskFrames:
    """The tasks that wait while another one is stopped, with their frames."""

    def __init__(self) -> None:
        self._stacks: dict[int, tuple[str, list[int]]] = {}
        self._frames: dict[int, _Frame] = {}

    def forget(self) -> None:
        """Drop the frames, because the loop goes on."""
        self._stacks, self._frames = {}, {}

    def take(self, tasks: Iterable[trio.lowlevel.Task], machinery: tuple[str, ...]) -> None:
        """Note where these tasks wait, without frames of code in the folders ``machinery``. Called
        in another thread than theirs, which is stopped.
        """
        self.forget()
        for number, task in enumerate(tasks, FIRST_TASK):
            ids = []
            for frame, line in task.iter_await_frames():
                if not frame.f_code.co_filename.startswith(machinery):
                    ids.append(FIRST_FRAME + len(self._frames))
                    self._frames[ids[-1]] = _Frame(frame, line)
            if ids:  # the innermost one comes last
                self._stacks[number] = _title(task), ids[::-1]

    def threads(self) -> list[dict[str, Any]]:
        """An entry for each task, for a ``threads`` response."""
        return [{"id": number, "name": title} for number, (title, _) in self._stacks.items()]

    def stack(self, number: int) -> list[dict[str, Any]]:
        """The frames of one of the tasks, for a ``stackTrace`` response. Raises `KeyError`."""
        return [
            {
                "id": one,
                "name": self._frames[one].frame.f_code.co_qualname,
                "line": self._frames[one].line,
                "column": 1,
                "source": {"path": self._frames[one].frame.f_code.co_filename},
            }
            for one in self._stacks[number][1]
        ]

    def first_stack(self) -> list[dict[str, Any]]:
        """The frames of a cell's own task, if there is one, else of any that waits."""
        numbers = sorted(self._stacks, key=lambda one: not self._stacks[one][0].endswith(_OWN))
        return self.stack(numbers[0]) if numbers else []

    def frame(self, number: int) -> FrameType:
        """The frame that has this number. Raises `KeyError`."""
        return self._frames[number].frame


def living_tasks(roots: Iterable[trio.lowlevel.Task]) -> Iterator[trio.lowlevel.Task]:
    """These tasks, and those in their nurseries."""
    for task in roots:
        yield task
        for nursery in task.child_nurseries:
            yield from living_tasks(nursery.child_tasks)


def find_context(tasks: Iterable[trio.lowlevel.Task], thread: int) -> Context | None:
    """The context that a thread's code runs in: that of the one of these tasks which the thread
    runs, or, in a worker thread of Trio's, the one that was copied from the task that called it.
    """
    frames = set()
    frame = sys._current_frames().get(thread)
    while frame is not None:
        frames.add(frame)
        code = frame.f_code
        if code.co_name == _IN_WORKER and is_machinery(code.co_filename):
            context = frame.f_locals.get("context")
            if isinstance(context, Context):
                return context
        frame = frame.f_back
    found = (one for one in tasks if getattr(one.coro, "cr_frame", None) in frames)
    return next((one.context for one in found), None)


def is_users(thread: int) -> bool:
    """Whether a thread is stopped in the user's code, or in what that has called, and not in the
    kernel's own. True if that cannot be found out.
    """
    frame, within = sys._current_frames().get(thread), None
    while frame is not None and frame.f_code.co_name != "do_wait_suspend":
        frame = frame.f_back
    while frame is not None:
        if is_ours(frame.f_code.co_filename):
            return frame.f_code.co_name in _TO_USERS
        if is_machinery(frame.f_code.co_filename):  # Trio's, which runs a task of the user's
            return within is None or not within.f_code.co_filename.startswith(_GENERATED)
        within, frame = frame, frame.f_back
    return True


def _title(task: trio.lowlevel.Task) -> str:
    request: Request | None = task.context.get(current_request)
    cell = f"In [{request.number}]" if request is not None and request.number is not None else ""
    if request is not None and request.task is task:
        return f"{cell or 'a cell'}{_OWN}"
    name = task.name.removeprefix("__main__.")
    return f"task {name}{cell and ', of ' + cell}"
