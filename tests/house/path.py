"""The frames of ours that one execute passes through, counted.

From the moment when the request lies in the kernel's shell channel to the moment when nothing
moves any more: its idle is out. Counted is each time that a frame of ours is entered, in any
thread: by a call, and again where a coroutine goes on after an await, as a reader who follows the
request has to. The client takes no part while it is counted: it sends before, and only waits until
every task is blocked.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attrs
import trio
import trio.testing

from .serving import CODE, Served, open_served
from .source import PACKAGE, ROOT

__all__ = ["PathCount", "count_path"]

WARM_UP = 5
_PREFIX = str(PACKAGE) + os.sep
_INLINED = ("<listcomp>", "<setcomp>", "<dictcomp>")  # frames of their own up to Python 3.11


@attrs.frozen
class PathCount:
    """What one execute passed through: each frame that was entered, as (module, function)."""

    entered: tuple[tuple[str, str], ...]

    @property
    def calls(self) -> Counter[tuple[str, str]]:
        """How often each function was entered."""
        return Counter(self.entered)

    @property
    def frames(self) -> int:
        return len(self.entered)

    @property
    def changes(self) -> int:
        """How often the next frame was another module's."""
        return sum(one[0] != other[0] for one, other in itertools.pairwise(self.entered))

    @property
    def functions(self) -> int:
        return len(self.calls)

    @property
    def modules(self) -> Counter[str]:
        """Frames by module."""
        return Counter(module for module, _ in self.entered)

    def __str__(self) -> str:
        lines = [
            f"{self.frames} frames of {self.functions} functions in {len(self.modules)} modules"
        ]
        for module, frames in self.modules.most_common():
            functions = ", ".join(
                f"{name} {times}" if times > 1 else name
                for (one, name), times in self.calls.most_common()
                if one == module
            )
            lines.append(f"  {frames:4} {module}: {functions}")
        return "\n".join(lines)


async def count_path(name: str, code: str = CODE) -> PathCount:
    """Serve the kernel of that name in memory, warm it up, count one execute."""
    async with open_served(name) as served:
        for _ in range(WARM_UP):
            await served.execute(code)
        counted = await _count_once(served, code)
        assert b'"idle"' in _last(served), "the cell has not come to its idle"
        return counted


async def _count_once(served: Served, code: str) -> PathCount:
    await trio.testing.wait_all_tasks_blocked(0.05)
    frames = served.encode(code)
    codes: list[CodeType] = []
    served.client.shell.send_nowait(frames)
    with _noting(codes):
        await trio.testing.wait_all_tasks_blocked(0.05)
    return PathCount(tuple((_module(one), one.co_qualname) for one in codes))


def _last(served: Served) -> bytes:
    """The content of the last message on iopub."""
    last = b""
    while True:
        try:
            last = bytes(served.client.iopub.receive_nowait()[-1])
        except trio.WouldBlock:
            return last


def _module(code: CodeType) -> str:
    return ".".join(Path(code.co_filename).relative_to(ROOT).with_suffix("").parts)


def _counts(code: CodeType) -> bool:
    return code.co_filename.startswith(_PREFIX) and code.co_name not in _INLINED


@contextmanager
def _noting(codes: list[CodeType]) -> Iterator[None]:
    """Append the code of each frame of ours that is entered.

    Up to Python 3.11 threads that run already cannot be reached, but in memory there are none.
    """

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and _counts(frame.f_code):
            codes.append(frame.f_code)

    before = sys.getprofile()
    _set_profile(note)
    try:
        yield
    finally:
        _set_profile(before)


def _set_profile(function: Any) -> None:
    if sys.version_info >= (3, 12):
        threading.setprofile_all_threads(function)
    else:
        threading.setprofile(function)
        sys.setprofile(function)
