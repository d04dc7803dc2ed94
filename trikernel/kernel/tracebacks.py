"""Turns an exception into what a frontend shows: name, text, and a traceback of the user's code.

Frames of this package and of Trio are left out, wherever they stand, and so is a `trio.Cancelled`
in the context of an interrupt: the mechanism is not what went wrong. The innermost remaining frame
is the line that called, or awaited, what has failed. The same holds for the causes and contexts of
an exception, and for the members of an exception group.
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
    """The content of an error reply. Never raises, even if methods of the exception do.

    An interrupt while ``__str__`` of the exception runs ends only that call.
    """
    name, text = _name_of(error), _text_of(error)
    try:
        if text is None:  # `TracebackException` would call `__str__` again
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
    """The real name of the exception's class, also if its metaclass overrides ``__name__``."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def _text_of(error: BaseException) -> str | None:
    """The text of the exception; None if its ``__str__`` raised or was interrupted."""
    try:
        return call_unprotected(str, error)
    except (Exception, *_ABRUPT):
        return None


def _hide(shown: traceback.TracebackException, error: BaseException) -> None:
    """Remove machinery frames (of this package and Trio) from what is shown, not from the error
    itself, which may be logged.
    """
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
    """Remove machinery frames from ``error`` itself and all exceptions that are chained to it.
    Returns ``error``.

    For callers that show an exception by other means, such as IPython.
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
    """The same traceback without machinery frames; None if no frame is left."""
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
    """Whether the frame is of debugpy, which the code has entered at a breakpoint."""
    return str(tb.tb_frame.f_globals.get("__name__")).startswith(("pydevd", "_pydevd"))
