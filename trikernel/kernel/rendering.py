"""Exceptions to what a frontend shows: a name, a text, and a traceback that starts at the user's.

Frames of ours at the top of a traceback are left out: the reader wrote what is below them.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from ..wire.replies import ErrorContent

__all__ = ["PACKAGE", "render_error"]

PACKAGE = Path(__file__).parent.parent
_OURS = str(PACKAGE)


def render_error(error: BaseException) -> ErrorContent:
    """The content of an error reply; never raises, whatever the exception does."""
    try:
        lines = traceback.format_exception(type(error), error, _trim(error.__traceback__))
    except Exception:
        lines = [f"{type(error).__name__}: {_text(error)}"]
    return ErrorContent(
        ename=type(error).__name__,
        evalue=_text(error),
        traceback=[line for block in lines for line in block.splitlines()],
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its text cannot be shown>"


def _trim(tb: TracebackType | None) -> TracebackType | None:
    """Without the frames of ours that lead to the user's; None if there are only ours."""
    first = tb
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    return first
