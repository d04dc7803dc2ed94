"""What a task waits on, and in which line, read from its frames.

The innermost frame of the user's code gives the line. The function that this line has called, of
Trio or asyncio, is what the task waits on; its name tells the kind of the wait.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterable
from functools import cache
from itertools import takewhile
from types import FrameType
from typing import Any

import attrs
import trio

from ..core import await_frames, is_asyncio, is_machinery, is_ours
from .model import Kind

__all__ = ["Executing", "NameOf", "Wait", "executing", "place_of", "source_of", "wait_of"]

NameOf = Callable[[str], tuple[str, str] | None]
"""The label and the name of a cell's code by its file name, None for other code."""

_KINDS = {
    "sleep": Kind.SLEEP,
    "sleep_until": Kind.SLEEP,
    "sleep_forever": Kind.SLEEP,
    "to_thread_run_sync": Kind.THREAD,
    "NurseryManager": Kind.CHILDREN,
    "Nursery": Kind.CHILDREN,
    "Event": Kind.EVENT,
    "Lock": Kind.LOCK,
    "_LockImpl": Kind.LOCK,
    "StrictFIFOLock": Kind.LOCK,
    "Semaphore": Kind.LOCK,
    "CapacityLimiter": Kind.LOCK,
    "Condition": Kind.LOCK,
    "Process": Kind.PROCESS,
    "run_process": Kind.PROCESS,
    "MemoryReceiveChannel": Kind.CHANNEL,
    "MemorySendChannel": Kind.CHANNEL,
    "SocketStream": Kind.SOCKET,
    "SocketListener": Kind.SOCKET,
    "SSLStream": Kind.SOCKET,
    "_SocketType": Kind.SOCKET,
    "open_tcp_stream": Kind.SOCKET,
    "getaddrinfo": Kind.SOCKET,
    "serve_listeners": Kind.SOCKET,
}
_USERS, _OURS, _TRIOS = range(3)
_KEPT = 10_000
_whose: dict[str, int] = {}


@attrs.frozen
class Wait:
    """What a task waits on: ``function``, called in a line of ``file``.

    ``function`` is empty if the task has not begun, ``file`` if no frame is the user's.
    """

    kind: Kind
    function: str
    file: str
    line: int
    name_of: NameOf

    @property
    def place(self) -> str:
        """The line in words: ``Cell In[3], line 5``."""
        return place_of(self.file, self.line, self.name_of) if self.file else ""

    def __str__(self) -> str:
        return ", ".join(part for part in (self.function, self.place) if part) or "its start"


def wait_of(task: trio.lowlevel.Task | Any, name_of: NameOf) -> Wait:
    """What a task waits on that does not run now; or a coroutine that another loop runs."""
    file, line, functions = "", 0, list[str]()
    for frame, number in await_frames(task):
        code = frame.f_code
        whose = _whose.get(code.co_filename)
        if whose is None:
            whose = _classify(frame)
        if whose == _USERS:
            file, line, functions = code.co_filename, number, []
        elif whose == _TRIOS:
            functions.append(code.co_qualname)
    function, kind = functions[0] if functions else "", Kind.OTHER
    # The first one that is known: for `async with lock` that is `Lock.acquire`, not `__aenter__`.
    for one in functions:
        found = _KINDS.get(one) or _KINDS.get(one.partition(".")[0])
        if found is not None:
            function, kind = one, found
            break
    if kind is Kind.CHILDREN:
        function = "its children"
    return Wait(kind, function, file, line, name_of)


def _classify(frame: FrameType) -> int:
    """Whose code a frame runs: the user's, ours or Trio's, to which asyncio counts. The answer is
    kept for the file, because this is asked thousands of times.
    """
    file = frame.f_code.co_filename
    if is_machinery(file):
        whose = _OURS if is_ours(file) else _TRIOS
    else:
        whose = _TRIOS if is_asyncio(frame) else _USERS
    if len(_whose) < _KEPT:
        _whose[file] = whose
    return whose


def place_of(file: str, line: int, name_of: NameOf) -> str:
    """A line in words: ``Cell In[3], line 5``, or its file and number."""
    label = name_of(file)
    return f"{label[0]} {label[1]}, line {line}" if label else f"{file}, line {line}"


def source_of(file: str, line: int) -> str:
    """The text of a line, if it is known."""
    return linecache.getline(file, line).strip()


@attrs.frozen
class Executing:
    """The line that a stack executes, found without reading any file. ``within`` is the innermost
    function that is not the kernel's or Trio's, if it is another one than that of the line;
    ``file`` is empty if the kernel itself is at work.
    """

    file: str
    line: int
    within: str

    def describe(self, name_of: NameOf) -> str:
        """The line in words, with its text, which may be read from its file."""
        within = f" (in {self.within})" if self.within else ""
        if not self.file:
            return f"the kernel's own work{within}"
        source = source_of(self.file, self.line)
        place = place_of(self.file, self.line, name_of)
        return f"{place}{': ' if source else ''}{source}{within}"


def executing(frame: FrameType | None, name_of: NameOf) -> Executing | None:
    """The line to name if one asks what holds the loop; None if no frame is the user's.

    It is the innermost line of a cell, if one is on the stack. Else it is looked for in the loop's
    current step: the innermost line in a file that is not of an installed library, else the
    innermost that is not ours or Trio's. If our code is in such a step of libraries only, the
    kernel itself is at work: it has called a library, to format an error for example.
    """
    frames = list(_outwards(frame))
    users = [one for one in frames if not is_machinery(one.f_code.co_filename)]
    if not users:
        return None
    found = next((one for one in users if name_of(one.f_code.co_filename) is not None), None)
    inner = users[0].f_code
    within = f"{_module(users[0])}{inner.co_qualname}"
    if found is None:
        step = list(takewhile(lambda one: not _is_loop(one), frames))
        users = [one for one in step if one in users]
        found = next((one for one in users if not _is_library(one)), None)
        if found is None and any(is_ours(one.f_code.co_filename) for one in step):
            return Executing("", 0, within)
        found = found or (users[0] if users else None)
        if found is None:
            return None
    code = found.f_code
    return Executing(code.co_filename, found.f_lineno, "" if inner is code else within)


def _is_loop(frame: FrameType) -> bool:
    """Whether it is Trio's function that runs the steps of all tasks."""
    code = frame.f_code
    return code.co_name == "unrolled_run" and is_machinery(code.co_filename)


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_libraries())


@cache
def _libraries() -> tuple[str, ...]:
    import sysconfig  # not at the start: it takes a while

    paths = {sysconfig.get_path(one) for one in ("stdlib", "purelib", "platlib")}
    return ("<frozen ", *paths)


def _outwards(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return f"{name}." if isinstance(name, str) and name in sys.modules else ""
