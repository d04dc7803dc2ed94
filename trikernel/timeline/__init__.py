"""Records what the tasks of a Trio loop do over time, keeps it as values, and draws it.

`Recorder` adds instruments to a Trio loop; a `Timeline` is the result. This package knows no
message, no kernel and no IPython: the caller of `Recorder` says which tasks are the user's, and how
the code of a cell is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .columns import table
from .model import Kind, clip, duration
from .naming import origin_of, request_of_task, title_of
from .sampler import line_of_thread
from .tree import Node, OtherTask, Tasks, TaskTree, age_of, end_scope
from .waits import NameOf, place_of, source_of, wait_of

if TYPE_CHECKING:
    from .recorder import Recorder, note_error
    from .records import Limits
    from .shown import Timeline

__all__ = [
    "Kind",
    "Limits",
    "NameOf",
    "Node",
    "OtherTask",
    "Recorder",
    "TaskTree",
    "Tasks",
    "Timeline",
    "age_of",
    "clip",
    "duration",
    "end_scope",
    "line_of_thread",
    "note_error",
    "origin_of",
    "place_of",
    "request_of_task",
    "source_of",
    "table",
    "title_of",
    "wait_of",
]

_PLACES = {
    "Limits": "records",
    "Recorder": "recorder",
    "Timeline": "shown",
    "note_error": "recorder",
}


def __getattr__(name: str) -> Any:
    """Import the modules that record and draw on first use: few kernels need them."""
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
