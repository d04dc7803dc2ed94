"""Cell magics that the kernel itself understands, before IPython sees the cell."""

from __future__ import annotations

import math
import re

from IPython.core.error import UsageError

__all__ = ["take_timeout"]

_TIMEOUT = re.compile(r"\s*%%timeout\b([^\n]*)(\n|\Z)")


def take_timeout(code: str) -> tuple[str, float | None]:
    """A cell without its ``%%timeout SECONDS`` line, and the seconds (None without the line).

    An empty line stays in its place, so that tracebacks count right. Raises `UsageError`.
    """
    match = _TIMEOUT.match(code)
    if match is None:
        return code, None
    try:
        seconds = float(match[1])
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"%%timeout: give a number of seconds, not {match[1].strip()!r}")
    return "\n" + code[match.end() :], seconds
