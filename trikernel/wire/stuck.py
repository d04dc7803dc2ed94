"""The line that a kernel prints of a cell that does not stop, and how a client reads it.

An interrupt by signal has no reply: so a client learns only from this line, on the cell's stderr,
where the cell still runs.
"""

from __future__ import annotations

__all__ = ["place_in", "tell_place"]

_BEFORE, _AFTER = "told to stop, but it still runs in ", "; if that does not return, only a restart"


def tell_place(place: str) -> str:
    """The line for stderr, which says in which line of code the main thread is."""
    return f"{_BEFORE}{place}{_AFTER} helps\n"


def place_in(stderr: str) -> str:
    """The place that the last such line in ``stderr`` names; empty if there is none."""
    return stderr.rpartition(_BEFORE)[2].partition(_AFTER)[0] if _BEFORE in stderr else ""
