"""`Kernel.record`: a timeline of what the tasks around a kernel do, for programs and tests."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from ..core import current_subshell
from .served import ServedKernel

if TYPE_CHECKING:
    from ..timeline import Recorder

__all__ = ["no_cell", "note_error", "record", "recorder_of"]


def record(self: ServedKernel, *, title: str = "") -> Recorder:
    """Record what the tasks of the calling loop do, within a ``with`` block, or from ``start()`` to
    ``stop()``. ``timeline()`` of the returned `Recorder` is what was recorded until then.

    ::

        with kernel.record() as recorder:
            ...
        print(recorder.timeline())

    The tasks of cells and of the program around the kernel are recorded; those of the kernel itself
    and of Trio are not. Raises `TrikernelError` while the kernel is not served; the start of the
    block raises `RuntimeError` outside of a Trio loop.
    """
    return recorder_of(self, whole_loop=True, title=title)


def recorder_of(
    kernel: ServedKernel,
    *,
    title: str,
    whole_loop: bool = False,
    also: Callable[[trio.lowlevel.Task], bool] = lambda task: False,
) -> Recorder:
    """A recorder that is not started yet. Without ``whole_loop`` it records only tasks of cells,
    tasks for which ``also`` is true, and the tasks in their nurseries.
    """
    from ..timeline import Recorder  # imported late, because it is rarely used

    is_root = _root_of(weakref.ref(current_subshell.get() or kernel.server), also)
    return Recorder(is_root, kernel.name_of_code, whole_loop=whole_loop, title=title)


def no_cell(file: str) -> None:
    """The ``name_of_code`` of a kernel that does not know the file names of cells: always None."""


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
    """Mark in the recordings that run that the calling task has raised this, and it was shown."""
    # if the module is not loaded, nothing is recorded; another thread may just be importing it
    note = getattr(sys.modules.get("trikernel.timeline.recorder"), "note_error", None)
    if note is not None:
        note(error)
