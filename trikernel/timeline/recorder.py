"""Records what the tasks of a Trio loop do, and makes a `Timeline` of it.

What is wanted
    Which task ran when, what it waited on in between, and what ended it. Without a recorder this
    costs nothing; with one it costs at most 15 % of a cell that does nothing but switch tasks, in
    bounded memory.

What does not work
    Looking at each step. Trio's own call of an instrument's hook takes half a microsecond, and a
    switch between two tasks takes 5 to 7: two empty hooks are 20 to 30 % of it. Finding out what a
    task waits on takes as long as the switch.

What is done
    Three things are recorded at three rates. *Tasks* that begin and end are always recorded.
    *Steps* are recorded one by one while there are at most 100 of them in a tick of the sampler
    (20 ms): one hook notes which task begins a step, and when, which is also the end of the step
    before; these notes are made into stretches later, when the loop is about to wait. Beyond 100
    the instrument is removed until the next tick, and Trio's own count says how often each task
    ran meanwhile: a picture could not show single steps at that rate. *Waits* are looked at when
    the loop is about to sleep, because then no task is delayed by it, and now and then if it never
    sleeps; if a task runs again before it was looked at, what it waited on is not known.

    Steps of one task whose gap is less than a five thousandth of the record are one stretch, which
    knows how much of it was work. The `Sampler` finds the line that holds the loop.

What remains
    A cancel that is delivered while the steps' instrument is removed, and that the task itself
    catches, has no mark. Trio has no hook for nurseries: one is seen when a task starts in it, or
    when the task that opened it is looked at. On a virtual clock no step is left out and there is
    no sampling thread: the same test gives the same picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType

import trio

from .records import Limits, Records
from .sampler import Sampler
from .shown import Timeline
from .steps import Lives, Looks, Steps, note_raised
from .waits import NameOf

__all__ = ["Recorder", "note_error"]

_recorders: list[Recorder] = []


def note_error(error: BaseException) -> None:
    """Mark in every running recorder that the calling task has raised this error, which is shown to
    the user.
    """
    for one in tuple(_recorders):
        one.note_error(error)


class Recorder:
    """Records the calling task's loop from `start` to `stop`, or in a ``with`` block. Used once.

    ``is_root`` says whether a task is one that runs a cell or that a cell has started; the tasks in
    its nurseries are recorded too. With ``whole_loop``, so are the tasks of the program around the
    kernel. ``name_of`` names the code of cells.
    """

    def __init__(
        self,
        is_root: Callable[[trio.lowlevel.Task], bool],
        name_of: NameOf,
        *,
        whole_loop: bool = False,
        title: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._records = Records(limits or Limits())
        self._is_root = is_root
        self._name_of = name_of
        self._whole_loop = whole_loop
        self._title = title
        self._began = 0.0
        self._ended: float | None = None
        self._steps: Steps | None = None

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.note_error(exc)
        self.stop()

    def start(self) -> None:
        """Begin to record. Raises `RuntimeError` outside of a Trio loop, and the second time."""
        if self._steps is not None:
            raise RuntimeError("this has recorded already: make another one")
        clock = trio.lowlevel.current_clock()
        self._is_virtual = _is_virtual(clock)
        self._now = clock.current_time if self._is_virtual else time.perf_counter
        self._token = trio.lowlevel.current_trio_token()
        self._began = now = self._now()
        self._sampler = Sampler(self._name_of)
        self._looks = Looks(self._records, self._name_of)
        self._lives = Lives(self._records, self._now, self._is_root)
        self._lives.whole_loop = self._whole_loop
        self._steps = Steps(self._records, self._sampler, self._looks, self._now)
        self._steps.is_virtual = self._is_virtual
        current = trio.lowlevel.current_task()
        if self._is_root(current):  # the cell comes first
            self._lives.task_spawned(current)
        for task in _all_tasks(current):
            if task not in self._records.living:
                self._lives.task_spawned(task)
        self._looks.look_at_all(now, current)
        trio.lowlevel.add_instrument(self._lives)
        trio.lowlevel.add_instrument(self._steps)
        self._steps.begin(current)
        if not self._is_virtual:
            self._sampler.start()
        _recorders.append(self)

    def stop(self) -> None:
        """End the record. Before `start`, or the second time, this does nothing.

        It may be called in another loop, for example after the recorded one crashed. The
        instruments are not removed then: they end with their loop.
        """
        if self._steps is None or self._ended is not None:
            return
        _recorders.remove(self)
        self._steps.end()
        self._sampler.stop()
        self._ended = self._now()
        if not self._is_here():
            return
        self._see_last()
        for instrument in (self._lives, self._steps):
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(instrument)

    def timeline(self) -> Timeline:
        """What was recorded so far, as a value."""
        if self._steps is None:
            return Timeline(0.0, (), title=self._title)
        if self._ended is None and self._is_here():
            self._see_last()
        now = self._ended if self._ended is not None else self._now()
        return self._records.timeline(
            self._began, now, is_virtual=self._is_virtual, title=self._title
        )

    def note_error(self, error: BaseException) -> None:
        """Mark that the calling task has raised this error, if that task is recorded."""
        if self._steps is None or self._ended is not None or not self._is_here():
            return
        record = self._records.living.get(trio.lowlevel.current_task())
        if record is not None:
            note_raised(self._records, record, error, self._now())

    def _is_here(self) -> bool:
        return trio.lowlevel.in_trio_task() and (trio.lowlevel.current_trio_token() is self._token)

    def _see_last(self) -> None:
        """Note what all tasks do now: the calling task runs, the others wait."""
        current, now = trio.lowlevel.current_task(), self._now()
        assert self._steps is not None
        self._steps.note_running(current, now)
        self._looks.look_at_all(now, current)


def _is_virtual(clock: trio.abc.Clock) -> bool:
    testing = sys.modules.get("trio.testing")  # imported, if the clock is one
    return testing is not None and isinstance(clock, testing.MockClock)


def _all_tasks(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """All tasks of a loop, each before the tasks in its nurseries."""
    while task.parent_nursery is not None:
        task = task.parent_nursery.parent_task
    found = [task]
    while found:
        task = found.pop()
        yield task
        for nursery in task.child_nurseries:
            found += sorted(nursery.child_tasks, key=lambda one: one.name, reverse=True)
