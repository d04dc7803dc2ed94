"""The two instruments of a recorder: one for tasks that begin and end, one for their steps.

`Steps` is called twice for each step of each task, so its hooks do little. The rest is in `Looks`,
which goes through frames and lists, and is called when there is time.
"""

from __future__ import annotations

import math
import re
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType

import trio
from outcome import Error

from ..core import is_machinery, is_ours, is_served
from ..system import run_in
from .model import Held, clip
from .naming import is_lane_of_ours, origin_of, request_of_task, title_of
from .records import Record, Records
from .sampler import HELD, Sampler
from .waits import NameOf, wait_of

__all__ = ["Lives", "Looks", "Steps", "note_raised"]

BUDGET = 100  # steps in a tick of the sampler that are seen one by one
WORK = 0.015  # seconds of work, in which that many are
FINEST = 2e-5  # seconds between two steps that are one stretch, at least
PER_RECORD = 5_000  # stretches of a task in the whole record, at most
LOOK_AGAIN = 0.02  # seconds after which a loop that never sleeps is looked at
LOOKS = 12  # tasks that are looked at in one go
COUNTED = 300  # tasks whose steps are counted in one go

_TASK = re.compile(r"<Task '(.*)' at 0x[0-9a-f]+>")

IsRoot = Callable[[trio.lowlevel.Task], bool]


class Looks:
    """What tasks that have run wait on now, and which nurseries they have open."""

    def __init__(self, records: Records, name_of: NameOf) -> None:
        self.touched: dict[trio.lowlevel.Task, Record] = {}  # have run since they were looked at
        self._records = records
        self._name_of = name_of

    def look(self, now: float, limit: int = LOOKS) -> None:
        """Look at those that have run, the first ones first."""
        touched = self.touched
        for task in list(touched)[:limit]:
            record = touched.pop(task)
            if record.end is None and record.last is not None:
                record.last.wait = wait_of(task, self._name_of)
                self.see_nurseries(task, record, now)

    def look_at_all(self, now: float, running: trio.lowlevel.Task | None) -> None:
        """Look at all that live, at the beginning or the end of a record."""
        for task, record in self._records.living.items():
            if task is running:
                continue
            wait = wait_of(task, self._name_of)
            if record.last is None:
                record.first_wait = wait
            elif record.last.wait is None:
                record.last.wait = wait
            self.see_nurseries(task, record, now)

    def see_nurseries(self, task: trio.lowlevel.Task, record: Record, now: float) -> None:
        """Note which nurseries it has open."""
        is_open = task.child_nurseries
        if record.is_lane:
            self._name_the_cell(task, record)
        for nursery in is_open:
            self._records.nursery(record, nursery, now)
        if len(record.nurseries) > len(is_open):
            self._records.close_nurseries(record, is_open, now)

    def _name_the_cell(self, task: trio.lowlevel.Task, record: Record) -> None:
        request = request_of_task(task)
        if request is not None and request.task is task and not request.finished:
            origin = origin_of(request)
            if record.origin in ("", origin):
                record.origin, record.name = origin, title_of(task, request)
            else:  # one cell after the other: In [2-5]
                first = record.origin.partition("-")[0].rstrip("]")
                record.origin, record.name = f"{first}-{origin.removeprefix('In [')}", "cells"


class Lives(trio.abc.Instrument):
    """Tasks that begin and end. ``is_root`` and ``whole_loop`` as in `Recorder`."""

    def __init__(
        self, records: Records, sampler: Sampler, now: Callable[[], float], is_root: IsRoot
    ) -> None:
        self.whole_loop = self.is_virtual = False
        self._records = records
        self._sampler = sampler
        self._now = now
        self._is_root = is_root

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Record it, if it is one of the user's."""
        now, records = self._now(), self._records
        nursery = task.eventual_parent_nursery or task.parent_nursery
        owner = records.living.get(nursery.parent_task) if nursery is not None else None
        if (
            nursery is not None
            and owner is not None
            and (_begins_to_serve(nursery, task) or _is_ours(task))
        ):
            owner = None  # a task of the program that serves a kernel, or has a client of one
        if owner is None and not self._is_shown(task):
            return
        parent = records.nursery(owner, nursery, now) if owner and nursery else None
        request = request_of_task(task)
        name, origin = clip(title_of(task, request)), origin_of(request)
        is_lane = owner is None and is_lane_of_ours(task)
        if is_lane and (request is None or request.finished):
            name, origin = "cells", ""
        record = records.add(task, name, "" if origin == "comm" else origin, parent, now)
        if record is not None:
            record.is_lane = is_lane

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Its last step, and what it has raised."""
        record = self._records.living.get(task)
        if record is None:
            return
        began, now = self._sampler.began, self._now()
        if began:
            busy = time.perf_counter() - began
            start = now if self.is_virtual else max(now - busy, record.start)
            self._records.ran(record, start, now, busy)
        error = _raised(sys._getframe())
        if error is not None:
            note_raised(self._records, record, error, now)
        self._records.end(task, now)

    def _is_shown(self, task: trio.lowlevel.Task) -> bool:
        if self._is_root(task):
            return True
        if not self.whole_loop or task.parent_nursery is None:
            return False
        code = getattr(task.coro, "cr_code", None)
        is_foreign = code is None or not is_machinery(code.co_filename)
        return is_foreign and not task.context.get(is_served, False)


def _begins_to_serve(nursery: trio.Nursery, task: trio.lowlevel.Task) -> bool:
    """Whether a kernel is served in that task and not in its parent."""
    around = nursery.parent_task.context.get(is_served, False)
    return task.context.get(is_served, False) and not around


class Steps(trio.abc.Instrument):
    """The steps of tasks, as long as there are not too many of them. ``now`` is the loop's clock.

    With a sampler that does not run (on a virtual clock), none is left out.
    """

    def __init__(
        self, records: Records, sampler: Sampler, looks: Looks, now: Callable[[], float]
    ) -> None:
        self.is_virtual = False
        self._records = records
        self._sampler = sampler
        self._looks = looks
        self._now = now
        self._token = trio.lowlevel.current_trio_token()
        self._start = self._looked = now()
        self._resolution = FINEST
        self._tick = self._spent = 0
        self._used = time.thread_time()
        self._slept = self._is_thin = self._ended = False

    # The hooks

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task is about to run."""
        sampler = self._sampler
        sampler.began = time.perf_counter()
        sampler.steps += 1
        if sampler.rests:
            sampler.wake()
        if type(getattr(task, "_next_send", None)) is Error:
            record = self._records.living.get(task)
            if record is not None:
                self._spent += 2
                error = task._next_send.error  # type: ignore[union-attr]
                if not _is_end_of_sleep(task, error):
                    note_raised(self._records, record, error, self._now())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It has run."""
        sampler = self._sampler
        began = sampler.began
        if not began:  # the step in which this was installed
            return
        sampler.began = 0.0
        busy = time.perf_counter() - began
        end = self._now() if self.is_virtual else began + busy
        record = self._records.living.get(task)
        if busy > HELD:
            ended = self._records.last_ended
            if record is None and ended is not None and ended[0] is task:
                record = ended[1]  # it has exited in this step
            name = record.name if record is not None else task.name.removeprefix("__main__.")
            self._note_held(record, name, began, end, busy)
        if record is not None and record.end is None:
            start = end if self.is_virtual else began
            last = record.last
            if last is not None and start - last.end <= self._resolution:
                last.end = end
                last.busy += busy
                last.steps += 1
                last.wait = None
            else:
                self._records.ran(record, start, end, busy)
            record.points = getattr(task, "_schedule_points", 0)
            record.seen_at = end
            self._looks.touched[task] = record
        if sampler.ticks != self._tick:
            self._tick = sampler.ticks
            self._refill()
        self._spent += 1
        if self._spent > BUDGET and sampler.runs:
            self._thin()

    def before_io_wait(self, timeout: float) -> None:
        """The loop is about to sleep, or to go on at once."""
        if self._looks.touched:
            now = self._now()
            self._slept = self._slept or timeout > 0
            if timeout > 0 or now - self._looked > LOOK_AGAIN:
                self._looked = now
                self._resolution = max(FINEST, (now - self._start) / PER_RECORD)
                count = min(LOOKS, len(self._looks.touched))
                self._spent += 4 * count
                self._looks.look(now, len(self._looks.touched) if self.is_virtual else count)

    def note_running(self, task: trio.lowlevel.Task, now: float) -> None:
        """That task runs, has done so up to now, and goes on."""
        if self._is_thin:
            self._count(now)
        record, began = self._records.living.get(task), self._sampler.began
        if began and not self._is_thin and record is not None:
            busy = time.perf_counter() - began
            self._sampler.began = time.perf_counter()
            if busy > HELD:
                self._note_held(record, record.name, began, now, busy)
            start = now if self.is_virtual else max(now - busy, record.start)
            self._records.ran(record, start, now, busy)
            self._looks.see_nurseries(task, record, now)

    # Fewer of them

    def end(self) -> None:
        """In its loop: no more."""
        self._ended = True
        self._sampler.on_tick = None

    def _thin(self) -> None:
        """See no steps until the sampler's next tick."""
        self._is_thin = True
        trio.lowlevel.remove_instrument(self)
        self._wait_for_tick()

    def _wait_for_tick(self) -> None:
        self._sampler.on_tick = partial(_post, self._token, weakref.ref(self), self._sampler)

    def _refill(self) -> None:
        """See steps again, if this thread has worked long enough since, or had time to sleep.

        By the processor's time: on a machine that does much else a tick is little work.
        """
        used = time.thread_time()
        if self._slept or used - self._used >= WORK:
            self._used, self._spent, self._slept = used, 0, False

    def see_again(self) -> None:
        """The loop turns: count what it did meanwhile, and see its steps again."""
        if self._ended:
            return
        asked, self._sampler.began = self._sampler.began, 0.0
        now, late = self._now(), time.perf_counter() - asked
        if asked and late > HELD:
            self._note_held(None, "", asked, now, late)
        few = self._count(now) < BUDGET
        if not few and time.thread_time() - self._used < WORK:
            self._sampler.patience = 2  # the machine is busy with something else
            self._wait_for_tick()
            return
        self._looks.look(now)
        self._tick, self._spent, self._used = self._sampler.ticks, 0, time.thread_time()
        self._is_thin = False
        trio.lowlevel.add_instrument(self)

    def _count(self, now: float) -> int:
        """How often tasks ran while their steps were not seen: noted of each, and the sum."""
        living = self._records.living
        tasks = list(living)[:COUNTED]
        counts = {
            task: getattr(task, "_schedule_points", 0) - living[task].points for task in tasks
        }
        total = sum(counts.values()) or 1
        for task, count in counts.items():
            record = living[task]
            if count:
                self._add_unseen(record, now, count, total)
                record.points += count
                self._looks.touched[task] = record
            record.seen_at = now
            if len(living) > COUNTED:  # others have their turn next time
                living[task] = living.pop(task)
        return sum(counts.values())

    def _add_unseen(self, record: Record, now: float, count: int, total: int) -> None:
        since, last = record.seen_at, record.last
        busy = (now - since) * count / total
        if last is None or since - last.end > self._resolution:
            self._records.ran(record, since, now, busy, count)
            return
        last.end, last.wait = now, None
        last.steps += count
        last.busy += busy

    def _note_held(
        self, record: Record | None, name: str, began: float, end: float, seconds: float
    ) -> None:
        """The step that began then has held the loop so long."""
        if self.is_virtual:  # time that is no part of the picture
            return
        line, start = self._sampler.line(began), end - seconds
        key = record.key if record is not None else None
        self._records.held.append(Held(start, end, key, clip(name), clip(line)))


def _is_ours(task: trio.lowlevel.Task) -> bool:
    code = getattr(task.coro, "cr_code", None)
    return code is not None and is_ours(code.co_filename)


def _raised(hook: FrameType) -> BaseException | None:
    """What a task has raised that exits, which Trio tells no instrument: read off the frame of its
    function that calls them. None if it has not, or if that function looks different.
    """
    frame: FrameType | None = hook
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    outcome = frame.f_locals.get("outcome") if frame is not None else None
    return outcome.error if isinstance(outcome, Error) else None


def note_raised(records: Records, record: Record, error: BaseException, now: float) -> None:
    """A mark for what was raised in a task: an error, a cancel, or a deadline."""
    cancelled = _first_cancel(error)
    if cancelled is None:
        records.mark(record, now, "error", _text_of(error))
    elif getattr(cancelled, "source", "") == "deadline":
        records.mark(record, now, "deadline", "cancelled at its deadline")
    else:
        records.mark(record, now, "cancel", _who_cancelled(records, cancelled))


def _is_end_of_sleep(task: trio.lowlevel.Task, error: BaseException) -> bool:
    """Whether that is how `trio.sleep` wakes up: at the deadline of a scope of its own."""
    if getattr(error, "source", "") != "deadline":
        return False
    for frame, _ in task.iter_await_frames():
        if frame.f_code.co_name == "sleep_until" and is_machinery(frame.f_code.co_filename):
            return bool(frame.f_locals.get("deadline", math.inf) <= trio.current_time())
    return False


def _first_cancel(error: BaseException) -> trio.Cancelled | None:
    """A cancel, if there is nothing else in it."""
    if isinstance(error, trio.Cancelled):
        return error
    if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[1] is None:
        return _first_cancel(error.exceptions[0])
    return None


def _text_of(error: BaseException) -> str:
    """One line. An error of the user's may not know its own text."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = ""
    return clip(f"{name}: {text}" if text else name)


def _who_cancelled(records: Records, cancelled: trio.Cancelled) -> str:
    """As far as Trio tells, from 0.31 on: the task, and the reason that was given."""
    source = getattr(cancelled, "source_task", None) or ""
    name, found = records.names.get(source), _TASK.match(source)
    if name is None and found:
        name = found[1].removeprefix("__main__.")
        if name.startswith(("trio.", "<", f"{__name__.partition('.')[0]}.")):
            name = "the kernel"
    reason = getattr(cancelled, "reason", None)
    return clip(
        f"cancelled{' by ' if name else ''}{name or ''}{': ' if reason else ''}{reason or ''}"
    )


def _post(
    token: trio.lowlevel.TrioToken, find: Callable[[], Steps | None], sampler: Sampler
) -> None:
    """In the sampler's thread: ask the loop to be seen again; from now on it owes an answer."""
    steps = find()
    if steps is not None:
        sampler.began = time.perf_counter()
        run_in(token, steps.see_again)
