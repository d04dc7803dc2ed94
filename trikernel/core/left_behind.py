"""Code that was left behind and swallows its cancels: it is to end all the same.

What is wanted
    A cell whose loop of awaits has an ``except BaseException: pass`` is answered and left behind.
    It would turn until the kernel ends, as fast as it can: each `await` raises the cancel again.

What does not work
    An exception that is thrown in where a task waits, as a cancel is, lands in the very ``try``
    that swallows it. A signal between two instructions, as for code that computes, finds such a
    task hardly ever: nearly all of its time is spent in Trio.

What is done
    While something is left behind, an instrument sees each step of each task. A task of it that has
    swallowed its cancel a hundred times is traced for a step, and the tracer raises `CellStopped`
    at one of the user's lines, drawn by lot: sooner or later at one that no ``try`` covers. (In
    turn would not do: a loop of several awaits may come by in step with it.) What cleans up in a
    shield is not cancelled, and so not hit; nor are background tasks.

What remains
    A loop that blocks between its awaits is slow to come to its hundredth.
"""

from __future__ import annotations

import random
import sys
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import trio

from ..errors import CellStopped
from .request import Request, request_of
from .user_code import is_machinery, is_ours

__all__ = ["LeftBehind"]

SWALLOWED = 100  # cancels, after which it is no clean-up any more
LINES = 20  # of a step, of which one is tried


class LeftBehind(trio.abc.Instrument):
    """The tasks of one loop that belong to requests which were left behind.

    Installed by `watch`; it goes when nothing is left behind any more.
    """

    def __init__(self) -> None:
        self._swallowed: WeakKeyDictionary[trio.lowlevel.Task, int] = WeakKeyDictionary()
        self._watched: set[trio.lowlevel.Task] = set()
        self._before: Any = None
        self._is_tracing = False
        self._lines_left = 0
        self._random = random.Random(0)  # the user's own numbers stay as they are

    def watch(self, task: trio.lowlevel.Task) -> None:
        """This task runs code that has been left behind, until it ends; in its loop."""
        if not self._watched:
            trio.lowlevel.add_instrument(self)
        self._watched.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Trio's, when a task has ended."""
        self._watched.discard(task)
        if not self._watched:
            trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's, before a task goes on to where it waits next."""
        request = request_of(task.context)
        if request is None or not request.abandoned or not _hears_cancel(task, request):
            return
        count = self._swallowed[task] = self._swallowed.get(task, 0) + 1
        if count > SWALLOWED:
            self._trace(task, self._random.randrange(LINES))

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's, when it waits, or has ended."""
        if self._is_tracing:
            self._is_tracing = False
            sys.settrace(self._before)

    def _trace(self, task: trio.lowlevel.Task, lines: int) -> None:
        """Have `CellStopped` raised in the user's code when it comes to a line."""
        frames: list[FrameType] = []
        for frame, _ in task.iter_await_frames():
            if is_ours(frame.f_code.co_filename):
                frames.clear()  # the user's code is what the innermost one of ours has called
            elif not is_machinery(frame.f_code.co_filename):
                frames.append(frame)
        self._before, self._is_tracing = sys.gettrace(), True
        self._lines_left = lines
        for frame in frames:
            frame.f_trace = self._raise_at_line
        sys.settrace(_no_trace)

    def _raise_at_line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and self._is_tracing:
            self._lines_left -= 1
            if self._lines_left < 0:
                raise CellStopped
        return self._raise_at_line


def _hears_cancel(task: trio.lowlevel.Task, request: Request) -> bool:
    """Whether each `await` of a task raises the cancel of its request: no shield is between.

    That the innermost scope is cancelled says nothing: a `trio.sleep` ends by that.
    """
    status = getattr(task, "_cancel_status", None)
    while status is not None:
        scope = status._scope
        if scope.cancel_called and request.is_scope(scope):
            return True
        if scope.shield:
            return False
        status = status.parent
    return False


def _no_trace(frame: FrameType, event: str, arg: object) -> None:
    """What is called on the way is not traced."""
