"""An exception at a line that is drawn by lot: for code that swallows whatever is raised in it.

What is wanted
    A loop around a ``try`` with an ``except BaseException: pass``, or a bare ``except``, ends when
    it has been told to often enough.

What does not work
    What is raised where such code waits or computes lands in the very ``try`` that swallows it:
    a loop of ``time.sleep`` spends all of its time there, and so it is with a signal that comes
    every so often, and with the cancel of an `await`.

What is done
    The user's frames are traced, and the tracer raises `CellStopped` at one of the lines that they
    come to next, drawn by lot: sooner or later at one that no ``try`` covers, as that of the
    ``except`` or of the ``while``. (In turn would not do: a loop may come by in step with it.) Near
    ones are drawn more often, because a loop that blocks is told only once in a while.

    Only the frames that are given raise, never one of ours, and only as long as it is wanted. After
    that the trace function of a debugger or of the cell is set again.

What remains
    Python ends the tracing when the tracer raises, so each draw is for one exception. Code of which
    every line is covered, for example a recursion that catches everything at each depth, goes on.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from ..errors import CellStopped
from .request import Request
from .user_code import is_machinery, is_ours

__all__ = ["LineLot", "Swallowed", "users_frames"]

LINES = 20  # lines, of which one is drawn
SWALLOWED = 5  # exceptions that code may swallow before it no longer counts as cleaning up


def users_frames(frames: Iterable[FrameType]) -> list[FrameType]:
    """The user's frames among ``frames``, which go from the innermost one outwards. Only those are
    returned that lie inside of the innermost frame of ours; if there are none, those around it.
    """
    found: list[FrameType] = []
    for frame in frames:
        if not is_machinery(frame.f_code.co_filename):
            found.append(frame)
        elif found and is_ours(frame.f_code.co_filename):
            break
    return found


class LineLot:
    """Raises in some frames, at a line drawn by lot, from `draw` to `end`; in one thread."""

    def __init__(self) -> None:
        self._random = random.Random(0)  # of its own, so that the user's sequence does not change
        self._frames: list[FrameType] = []
        self._before: Any = None
        self._is_drawn = False
        self._lines_left = 0
        self._is_wanted: Callable[[], bool] = lambda: True

    def draw(
        self, frames: Iterable[FrameType], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Have `CellStopped` raised at one of the lines that these frames come to next, if
        ``is_wanted`` says so then.
        """
        self._release()
        if not self._is_drawn:
            self._before, self._is_drawn = sys.gettrace(), True
        self._is_wanted = is_wanted
        self._lines_left = self._random.randrange(self._random.randrange(LINES) + 1)
        self._frames = list(frames)
        for frame in self._frames:
            frame.f_trace = self._raise_at_line
        sys.settrace(_no_trace)

    def end(self) -> None:
        """Trace no more; the trace function from before is set again."""
        if self._is_drawn:
            self._is_drawn = False
            self._release()
            if sys.gettrace() in (None, _no_trace):
                sys.settrace(self._before)
            self._before = None

    def _release(self) -> None:
        for frame in self._frames:
            if frame.f_trace == self._raise_at_line:
                frame.f_trace = None
        self._frames = []

    def _raise_at_line(self, frame: FrameType, event: str, arg: object) -> Any:
        if not self._is_drawn or not self._is_wanted():
            return None
        if event == "line":
            self._lines_left -= 1
            if self._lines_left < 0:
                raise CellStopped
        return self._raise_at_line


class Swallowed:
    """Counts how often a request's synchronous code was told to stop, by `CellStopped` in it, and
    draws lots once it has been often; in the main thread.
    """

    def __init__(self) -> None:
        self._request: Request | None = None
        self._count = 0
        self._lot = LineLot()

    def count(self, request: Request, frame: FrameType | None) -> int:
        """`CellStopped` is raised in ``frame`` once more; how often it has been by now."""
        if request is not self._request:
            self._lot.end()
            self._request, self._count = request, 0
            request.after_idle(self.end)
        self._count += 1
        if self._count > SWALLOWED:
            drawn = time.monotonic()
            self._lot.draw(
                users_frames(_outwards(frame)),
                lambda: not request.answered and request.ended_at < drawn,
            )
        return self._count

    def end(self) -> None:
        """The request is over."""
        self._lot.end()
        self._request = None


def _outwards(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _no_trace(frame: FrameType, event: str, arg: object) -> None:
    """The trace function for new frames: they are not traced."""
