"""Which line of the user's code waits or executes, and in which call, in words for a person."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FrameType, TracebackType
from typing import Any

import trio

from .user_code import is_machinery, is_ours

__all__ = ["await_frames", "is_asyncio", "where_it_runs", "where_it_stands", "where_it_waits"]

_PUBLIC = {"to_thread_run_sync": "trio.to_thread.run_sync"}
_LONGEST = 60  # characters of a call that are shown
_LINES = 100  # lines that a call may have: of a longer one the first line is shown


def await_frames(task: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a Trio task, or of a coroutine that waits, and their lines; outermost first.

    A function of ours with a local variable ``stepped`` runs that coroutine in the steps of another
    loop: the coroutine's frames follow.
    """
    if not isinstance(task, trio.lowlevel.Task):
        yield from _frames_of(task)
        return
    for frame, line in task.iter_await_frames():
        yield frame, line
        code = frame.f_code
        stepped = _stepped_by(frame) if is_ours(code.co_filename) else None
        if stepped is not None:
            yield from _frames_of(stepped)
            return


def _stepped_by(frame: FrameType) -> Any:
    is_stepper = "stepped" in frame.f_code.co_varnames
    return frame.f_locals.get("stepped") if is_stepper else None


def _frames_of(awaitable: Any) -> Iterator[tuple[FrameType, int]]:
    """Of a coroutine that waits, or a generator, and of what it awaits; outermost first."""
    while awaitable is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                awaitable = getattr(awaitable, inner)
                break
        else:
            return


def where_it_stands(task: trio.lowlevel.Task) -> TracebackType | None:
    """The stack of a task that waits, as the traceback of an exception raised there would be."""
    found: TracebackType | None = None
    for frame, line in reversed(list(await_frames(task))):
        # code without a table of lines has none
        found = TracebackType(found, frame, frame.f_lasti, line or frame.f_code.co_firstlineno)
    return found


def where_it_waits(task: trio.lowlevel.Task) -> str:
    """What a task waits in, for a person: the function that was awaited, and the line that did."""
    waits = task.name
    for frame, line in reversed(list(await_frames(task))):
        code = frame.f_code
        if not is_machinery(code.co_filename) and not is_asyncio(frame):
            return f"{waits} (line {line} of {code.co_qualname})"
        waits = _public_name(frame)
    return waits


def where_it_runs(ident: int | None) -> str:
    """What the user's code executes in a thread, for a person: the call, and its line.

    ``sqlite3.Cursor.execute, line 3``; ``..., line 3 of slow`` within a function; for code of a
    module ``..., line 99 of json.load in json/__init__.py``.
    """
    frame = sys._current_frames().get(ident or 0)
    while frame is not None and is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return "code that is not the cell's"
    code, line = frame.f_code, frame.f_lineno
    place = f"line {line}" if code.co_name == "<module>" else f"line {line} of {code.co_qualname}"
    if frame.f_globals.get("__name__") != "__main__":
        place += f" in {code.co_filename}"
    call = _call_of(frame)
    return f"{call}, {place}" if call else place


def _call_of(frame: FrameType) -> str:
    """What a frame calls: the function's own name where it can be told, else as it is written."""
    text = _source_of(frame)
    with suppress(SyntaxError, ValueError):
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call):
            text = _name_of(call.func, frame) or f"{ast.unparse(call.func)}(...)"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _source_of(frame: FrameType) -> str:
    """The text of the expression that a frame evaluates, else of its line, if there is one."""
    code, unknown = frame.f_code, (None, None, None, None)
    positions = islice(code.co_positions(), frame.f_lasti // 2, None)
    begin, end, left, right = next(positions, unknown)
    if begin is None or end is None or left is None or right is None or end - begin > _LINES:
        return linecache.getline(code.co_filename, frame.f_lineno).strip()
    lines = [linecache.getline(code.co_filename, one).encode() for one in range(begin, end + 1)]
    lines[-1] = lines[-1][:right]  # columns count bytes
    lines[0] = lines[0][left:]
    return b"".join(lines).decode("utf-8", "replace").strip()


def _name_of(expression: ast.expr, frame: FrameType) -> str:
    """The qualified name of what ``name`` or ``name.method`` stands for, without running code of
    the user's; empty if it cannot be told.
    """
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        found = frame.f_locals.get(expression.value.id, frame.f_globals.get(expression.value.id))
        owner = found if isinstance(found, type) else type(found)
        for base in owner.__mro__:
            if expression.attr in vars(base) and base.__module__ != "__main__":
                return f"{base.__module__}.{base.__qualname__}.{expression.attr}"
    return ""


def _public_name(frame: FrameType) -> str:
    """The name by which people call a function: ``trio.sleep``, ``trio.to_thread.run_sync``."""
    name, module = frame.f_code.co_qualname, str(frame.f_globals.get("__name__", "?"))
    if is_asyncio(frame) and hasattr(sys.modules["asyncio"], name):
        return f"asyncio.{name}"
    if module.startswith("trio.") and hasattr(trio, name):
        return f"trio.{name}"
    return _PUBLIC.get(name, f"{module}.{name}")


def is_asyncio(frame: FrameType) -> bool:
    """Whether the code in a frame is asyncio's own."""
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "asyncio"
