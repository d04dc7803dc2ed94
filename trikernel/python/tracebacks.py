"""Tracebacks as the author of a cell should read them: without our frames and Trio's.

Rewrites an exception's traceback in place, its causes and the members of a group included.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType

import trio

from ..core import is_machinery

__all__ = ["clean", "forget_code", "format_group"]

KEPT = 1000  # frames of code that failed
_CELL = re.compile(r'File "(<[^"]+>)", line (\d+)')

NameOf = Callable[[str], tuple[str, str] | None]


def clean(error: BaseException) -> BaseException:
    """Hide machinery in ``error`` and all that is chained to it; the same exception."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _visible(one.__traceback__)
        if isinstance(one.__context__, trio.Cancelled):  # how Trio works, not what went wrong
            one.__suppress_context__ = True
        todo += [linked for linked in (one.__cause__, one.__context__) if linked is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
    return error


def format_group(error: BaseException, name_of: NameOf) -> list[str] | None:
    """The lines for an error that is or was caused by a group, which IPython cannot render.

    None for any other error. ``name_of`` gives the label and the name of a cell's code.
    """
    one: BaseException | None = error
    seen: set[int] = set()  # a chain may be a circle
    while one is not None and not isinstance(one, BaseExceptionGroup):
        if id(one) in seen:
            return None
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    if one is None:
        return None

    def rename(match: re.Match[str]) -> str:
        named = name_of(match[1])
        return f"{named[0]} {named[1]}, line {match[2]}" if named else match[0]

    text = "".join(traceback.format_exception(error))
    return [_CELL.sub(rename, line) for line in text.splitlines()]


def forget_code() -> None:
    """Let go of the code of cells that failed long ago.

    The library that finds the failing part of a line for IPython keeps all code that it has seen.
    IPython imports it when the first cell fails, as it takes a while.
    """
    library = sys.modules.get("stack_data.core")
    kept = vars(library.Source).get("__executing_cache") if library is not None else None
    if kept is not None and len(kept) > KEPT:
        kept.clear()


def _visible(tb: TracebackType | None) -> TracebackType | None:
    """The same traceback without hidden frames; as it was if nothing else would remain."""
    frames = []
    one = tb
    while one is not None:
        if not is_machinery(one.tb_frame.f_code.co_filename):
            frames.append(one)
        one = one.tb_next
    result: TracebackType | None = None
    for frame in reversed(frames):
        line = frame.tb_lineno or frame.tb_frame.f_code.co_firstlineno  # None between two lines
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, line)
    return result
