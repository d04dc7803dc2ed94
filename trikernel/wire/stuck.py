"""What a kernel says of a cell that does not stop, and how a client reads where that stands.

An interrupt by signal has no reply: the line on the cell's stderr is all that a client hears.
"""

from __future__ import annotations

__all__ = ["place_in", "tell_place"]

_BEFORE, _AFTER = "told to stop, but it still runs in ", "; if that does not return, only a restart"


def tell_place(place: str) -> str:
    """The line on stderr that says where the main thread stands."""
    return f"{_BEFORE}{place}{_AFTER} helps\n"


def place_in(stderr: str) -> str:
    """The place that the last such line tells of; empty if there is none."""
    return stderr.rpartition(_BEFORE)[2].partition(_AFTER)[0] if _BEFORE in stderr else ""
