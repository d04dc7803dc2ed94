"""Ends code that was left behind and swallows its cancels.

What is wanted
    A cell whose loop of awaits has an ``except BaseException: pass`` is answered and left behind.
    It would turn until the kernel ends, as fast as it can: each `await` raises the cancel again.

What does not work
    An exception that is thrown in where a task waits, as a cancel is, lands in the very ``try``
    that swallows it. A signal between two instructions, as for code that computes, finds such a
    task hardly ever: nearly all of its time is spent in Trio.

What is done
    While any request is left behind, a Trio instrument sees each step of each task. A task of such
    a request that has swallowed its cancel a hundred times is traced for a step, and `CellStopped`
    is raised at one of the user's lines (`line_lot`). Code that cleans up in a shield is not
    cancelled, and so not hit; neither are background tasks.

What remains
    A loop that blocks between its awaits is slow to come to its hundredth.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import trio

from .line_lot import LineLot, users_frames
from .request import Request, request_of

__all__ = ["LeftBehind"]

SWALLOWED = 100  # cancels that code may swallow before it no longer counts as cleaning up


class LeftBehind(trio.abc.Instrument):
    """The tasks of one loop that belong to requests which were left behind.

    Installed by `watch`; it goes when nothing is left behind any more.
    """

    def __init__(self) -> None:
        self._swallowed: WeakKeyDictionary[trio.lowlevel.Task, int] = WeakKeyDictionary()
        self._watched: set[trio.lowlevel.Task] = set()
        self._lot = LineLot()

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
            frames = [frame for frame, _ in task.iter_await_frames()]
            self._lot.draw(users_frames(reversed(frames)))

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's, when it waits, or has ended."""
        self._lot.end()


def _hears_cancel(task: trio.lowlevel.Task, request: Request) -> bool:
    """Whether each `await` of a task raises the cancel of its request, for no shield is between.

    The innermost scope alone does not tell: it may be one that `trio.sleep` has just cancelled.
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
