"""Exceptions to what a frontend shows: a name, a text, and a traceback that starts at the user's.

Frames of ours at the top of a traceback are left out: the reader wrote what is below them.
"""

from __future__ import annotations

import traceback
from types import TracebackType

from ..core import call_unprotected, is_ours
from ..wire.contents import ErrorContent

__all__ = ["NO_TEXT", "render_error"]

NO_TEXT = "<its text cannot be shown>"
_ABRUPT = (KeyboardInterrupt, SystemExit, GeneratorExit)


def render_error(error: BaseException) -> ErrorContent:
    """The content of an error reply; never raises, whatever the exception does.

    An interrupt, while the exception's own code runs, ends that code.
    """
    name, text = _name_of(error), _text_of(error)
    try:
        tb = _trim(error.__traceback__)
        if text is None:  # `format_exception` would ask for it again
            lines = [*traceback.format_tb(tb), f"{name}: {NO_TEXT}"]
        else:
            lines = traceback.format_exception(type(error), error, tb)
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


def _trim(tb: TracebackType | None) -> TracebackType | None:
    """Without the frames of ours that lead to the user's; None if there are only ours."""
    first = tb
    while first is not None and is_ours(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first
