"""Exceptions to what a frontend shows: a name, a text, and a traceback of the reader's own code.

Frames of ours and of Trio's are left out, wherever they stand, and so is the `trio.Cancelled` that
became an interrupt: how Trio works is not what went wrong. The innermost frame that is left is the
line that called, or awaited, what has failed. The same holds for what an error was caused by, and
for the members of a group.
"""

from __future__ import annotations

import traceback
from types import TracebackType

import trio

from ..core import call_unprotected, is_machinery
from ..wire.contents import ErrorContent

__all__ = ["NO_TEXT", "clean", "render_error"]

NO_TEXT = "<its text cannot be shown>"
_ABRUPT = (KeyboardInterrupt, SystemExit, GeneratorExit)


def render_error(error: BaseException) -> ErrorContent:
    """The content of an error reply; never raises, whatever the exception does.

    An interrupt, while the exception's own code runs, ends that code.
    """
    name, text = _name_of(error), _text_of(error)
    try:
        if text is None:  # `TracebackException` would ask for it again
            lines = [*traceback.format_tb(_visible(error.__traceback__)), f"{name}: {NO_TEXT}"]
        else:
            shown = traceback.TracebackException.from_exception(error)
            _hide(shown, error)
            lines = list(shown.format())
    except (Exception, *_ABRUPT):
        lines = [f"{name}: {text or NO_TEXT}"]
    return ErrorContent(
        ename=name,
        evalue=NO_TEXT if text is None else text,
        traceback=[line for block in lines for line in block.splitlines()],
    )


def _name_of(error: BaseException) -> str:
    """The name of its class, also where a metaclass says something else."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def _text_of(error: BaseException) -> str | None:
    """Its text; None if it has none to show: its ``__str__`` raised, or was interrupted."""
    try:
        return call_unprotected(str, error)
    except (Exception, *_ABRUPT):
        return None


def _hide(shown: traceback.TracebackException, error: BaseException) -> None:
    """Leave machinery out of what is to be shown. The error itself is as it was: it is logged."""
    seen: set[int] = set()
    todo: list[tuple[traceback.TracebackException | None, BaseException | None]] = [(shown, error)]
    while todo:
        one, its = todo.pop()
        if one is None or its is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [frame for frame in one.stack if not is_machinery(frame.filename)]
        if isinstance(its.__context__, trio.Cancelled):
            one.__suppress_context__ = True
        todo += [(one.__cause__, its.__cause__), (one.__context__, its.__context__)]
        if isinstance(its, BaseExceptionGroup):
            todo += zip(one.exceptions or (), its.exceptions, strict=False)


def clean(error: BaseException) -> BaseException:
    """Leave machinery out of ``error`` itself, and all that is chained to it; the same exception.

    For who shows an exception by other means, as IPython does.
    """
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _visible(one.__traceback__)
        if isinstance(one.__context__, trio.Cancelled):
            one.__suppress_context__ = True
        todo += [linked for linked in (one.__cause__, one.__context__) if linked is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
    return error


def _visible(tb: TracebackType | None) -> TracebackType | None:
    """The same traceback without hidden frames; None if there are no others."""
    frames: list[TracebackType] = []
    one = tb
    while one is not None and not (frames and _is_of_debugger(one)):
        if not is_machinery(one.tb_frame.f_code.co_filename):
            frames.append(one)
        one = one.tb_next
    result: TracebackType | None = None
    for frame in reversed(frames):
        line = frame.tb_lineno or frame.tb_frame.f_code.co_firstlineno  # None between two lines
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, line)
    return result


def _is_of_debugger(tb: TracebackType) -> bool:
    """Whether that is where a debugger has been called, which waits at a breakpoint."""
    return str(tb.tb_frame.f_globals.get("__name__")).startswith(("pydevd", "_pydevd"))
