"""`Kernel.record`: a timeline of what the tasks around a kernel do, for programs and tests."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from ..core import current_subshell

if TYPE_CHECKING:
    from ..timeline import Recorder

__all__ = ["no_cell", "note_error", "record", "recorder_of"]


def record(self: Any, *, title: str = "") -> Recorder:
    """Record what the tasks of the calling loop do, within a block, or from ``start()`` to
    ``stop()``; ``timeline()`` of what is returned is the picture, at any time.

    ::

        with kernel.record() as recorder:
            ...
        print(recorder.timeline())

    In it are the tasks of cells and those of the program around the kernel; the kernel's own and
    Trio's are not. Raises `TrikernelError` while the kernel is not served, and `RuntimeError`
    outside of a loop, where the block begins.
    """
    return recorder_of(self, whole_loop=True, title=title)


def recorder_of(
    kernel: Any,
    *,
    title: str,
    whole_loop: bool = False,
    also: Callable[[trio.lowlevel.Task], bool] = lambda task: False,
) -> Recorder:
    """One that has not begun. Without ``whole_loop`` only tasks of cells are recorded, those for
    which ``also`` is true, and what is within them.
    """
    from ..timeline import Recorder  # not at the start: few record

    is_root = _root_of(weakref.ref(current_subshell.get() or kernel.server), also)
    return Recorder(is_root, kernel.name_of_code, whole_loop=whole_loop, title=title)


def no_cell(file: str) -> None:
    """What a cell's code of that file name is called: nothing, in a kernel that does not know."""


def _root_of(
    find: Callable[[], Any], also: Callable[[trio.lowlevel.Task], bool]
) -> Callable[[trio.lowlevel.Task], bool]:
    def is_root(task: trio.lowlevel.Task) -> bool:
        owner = find()
        nursery = task.eventual_parent_nursery or task.parent_nursery
        is_cells = owner is not None and (
            owner.cells.is_nursery(nursery) or owner.background_tasks.is_nursery(nursery)
        )
        return is_cells or also(task)

    return is_root


def note_error(error: BaseException) -> None:
    """The calling task has raised this, and it was shown: a mark in what is being recorded."""
    # without it nobody records; without its function another thread is importing it
    note = getattr(sys.modules.get("trikernel.timeline.recorder"), "note_error", None)
    if note is not None:
        note(error)
