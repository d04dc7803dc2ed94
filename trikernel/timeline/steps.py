"""The two instruments of a recorder: one for tasks that begin and end, one for their steps.

`Steps` is called for each step of each task, so its hook only notes which task begins a step, and
when: a step ends where the next one begins, or where the loop begins to wait. These notes are
*folded* into stretches later, when the loop is about to wait. `Looks` works then, too: it goes
through the frames of tasks to see what they wait on.
"""

from __future__ import annotations

import math
import re
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from itertools import pairwise
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
WORK = 0.015  # seconds of the thread's processor time after which it gets that budget again
FINEST = 2e-5  # seconds: steps of a task with a shorter gap in between are one stretch
PER_RECORD = 5_000  # so are those with a gap shorter than the record's length divided by this
LOOK_AGAIN = 0.02  # seconds after which tasks are looked at if the loop never sleeps
LOOKS = 12  # tasks in one look when the loop is about to sleep
BUSY_LOOKS = 6  # tasks in one look when it is not
COUNTED = 300  # tasks whose steps are counted in one go

_TASK = re.compile(r"<Task '(.*)' at 0x([0-9a-f]+)>", re.S)

IsRoot = Callable[[trio.lowlevel.Task], bool]


class Looks:
    """Finds out what tasks that have run wait on now, and which nurseries they have open."""

    def __init__(self, records: Records, name_of: NameOf) -> None:
        self.touched: dict[trio.lowlevel.Task, Record] = {}  # ran since the last look
        self._records = records
        self._name_of = name_of

    def look(self, now: float, limit: int) -> None:
        """Look at ``limit`` tasks that have run, in the order in which they ran."""
        touched = self.touched
        for task in list(touched)[:limit]:
            record = touched.pop(task)
            if record.end is None and record.last is not None:
                record.last.wait = wait_of(task, self._name_of)
                self.see_nurseries(task, record, now)

    def look_at_all(self, now: float, running: trio.lowlevel.Task | None) -> None:
        """Look at all living tasks but the running one, at the beginning or the end of a record."""
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
        """Note which nurseries a task has open, and which cell a lane runs."""
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
    """Records tasks that begin and end. ``is_root`` and ``whole_loop`` are those of `Recorder`."""

    def __init__(self, records: Records, now: Callable[[], float], is_root: IsRoot) -> None:
        self.whole_loop = False
        self._records = records
        self._now = now
        self._is_root = is_root

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Record a new task, if it is one of the user's."""
        now, records = self._now(), self._records
        nursery = task.eventual_parent_nursery or task.parent_nursery
        owner = records.living.get(nursery.parent_task) if nursery is not None else None
        if (
            nursery is not None
            and owner is not None
            and (_begins_to_serve(nursery, task) or _is_ours(task))
        ):
            owner = None  # it serves a kernel, or belongs to a client: not the user's own task
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
        """Note the end of a task, and what it has raised."""
        record = self._records.living.get(task)
        if record is None:
            return
        now = self._now()
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
    """Whether a kernel is served in that task, and not in the task that opened its nursery."""
    around = nursery.parent_task.context.get(is_served, False)
    return task.context.get(is_served, False) and not around


class Steps(trio.abc.Instrument):
    """Records the steps of tasks, one by one while there are not too many. ``now`` is the clock of
    the loop.

    With a sampler that does not run (on a virtual clock) no step is left out.
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
        self._start = self._looked = self._thinned = now()
        self._resolution = FINEST
        # Which task began a step, and when (by `time.perf_counter`). A task that is not recorded
        # stands for itself; None means that the loop began to wait.
        self._log: list[tuple[Record | trio.lowlevel.Task | None, float]] = []
        self._room = BUDGET  # entries that the log has room for
        self._tick = 0
        self._used = self._used_before = time.thread_time()
        self._slept = self._is_thin = self._ended = False

    def begin(self, task: trio.lowlevel.Task) -> None:
        """Note that this task runs now: its step began before anything was recorded of it."""
        self._sampler.began = began = time.perf_counter()
        self._log.append((self._records.living.get(task, task), began))

    # The hooks

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task is about to run."""
        now, sampler, log = time.perf_counter(), self._sampler, self._log
        began = sampler.began
        if began and now - began > HELD:
            self._note_late(now)
        sampler.began = now
        log.append((self._records.living.get(task, task), now))
        if sampler.rests:
            sampler.wake()
        if type(getattr(task, "_next_send", None)) is Error:
            self._note_thrown(task)
        if len(log) > self._room:
            self._make_room(now)

    def before_io_wait(self, timeout: float) -> None:
        """The loop is about to wait for I/O; with a time-out of 0 it goes on at once."""
        now, sampler = time.perf_counter(), self._sampler
        if sampler.began:
            if now - sampler.began > HELD:
                self._note_late(now)
            sampler.began = 0.0
            self._log.append((None, now))
        if timeout > 0 or now - self._looked > LOOK_AGAIN or self.is_virtual:
            self._slept = self._slept or timeout > 0
            self._fold(now)
            if self._looks.touched:
                self._look(now, LOOKS if timeout > 0 else BUSY_LOOKS)

    def note_running(self, task: trio.lowlevel.Task, now: float) -> None:
        """Note that this task has run up to now, and goes on."""
        if self._is_thin:
            self._count(now)
            return
        moment = time.perf_counter()
        if self._sampler.began:
            if moment - self._sampler.began > HELD:
                self._note_late(moment)
            self._fold(moment)
            self.begin(task)
        record = self._records.living.get(task)
        if record is not None:
            self._looks.see_nurseries(task, record, now)

    # What is made of the log

    def _fold(self, until: float) -> None:
        """Make stretches of the log, and empty it; its last step ends at ``until``."""
        log, self._log = self._log, []
        self._sampler.steps += len(log)
        self._room = max(self._room - len(log), 0)
        log.append((None, until))
        moment = self._now() if self.is_virtual else None
        touched = self._looks.touched
        for (record, start), (_, end) in pairwise(log):
            if type(record) is not Record:
                continue
            busy = end - start
            if moment is not None:
                start = end = moment
            if record.end is not None:
                end = min(end, record.end)
            last = record.last
            if last is not None and start - last.end <= self._resolution:
                last.end = end
                last.busy += busy
                last.steps += 1
                last.wait = None
            else:
                self._records.ran(record, start, end, busy)
            task = record.task
            if task is not None:
                record.points = getattr(task, "_schedule_points", 0)
                record.seen_at = end
                touched[task] = record

    def _look(self, now: float, limit: int) -> None:
        """Look at ``limit`` tasks that have run, to see what they wait on."""
        self._looked = now
        if self.is_virtual:
            self._looks.look(self._now(), len(self._looks.touched))
            return
        self._resolution = max(FINEST, (now - self._start) / PER_RECORD)
        count = min(limit, len(self._looks.touched))
        self._room = max(self._room - 4 * count, 0)
        self._looks.look(now, count)

    def _note_thrown(self, task: trio.lowlevel.Task) -> None:
        """Mark that an error, or a cancel, is about to be raised in a task."""
        record = self._records.living.get(task)
        if record is not None:
            error = task._next_send.error  # type: ignore[union-attr]
            if not _is_end_of_sleep(task, error):
                note_raised(self._records, record, error, self._now())

    def _note_late(self, now: float) -> None:
        """Note that the step that ends now has held the loop."""
        began = self._sampler.began
        if not began or self.is_virtual or not self._log:
            return
        who = self._log[-1][0]
        if isinstance(who, Record):
            self._note_held(who.key, who.name, began, now)
        elif who is not None:
            self._note_held(None, _name_of_other(who), began, now)

    # When there are too many steps

    def end(self) -> None:
        """See no more steps. The caller removes the instrument."""
        self._ended = True
        self._sampler.on_tick = None

    def _make_room(self, now: float) -> None:
        """The log has more entries than room; its last one begins now. Give it new room, or else
        see no steps until the next tick.
        """
        if self._sampler.ticks != self._tick:
            self._tick = self._sampler.ticks
            self._refill()
        if len(self._log) > self._room and self._sampler.runs:
            self._log.pop()  # that step is counted with those that are not seen
            self._thin(now)

    def _thin(self, now: float) -> None:
        """Remove this instrument until the sampler's next tick."""
        self._fold(now)
        self._sampler.began = 0.0
        self._is_thin, self._thinned, self._used_before = True, now, time.thread_time()
        trio.lowlevel.remove_instrument(self)
        self._wait_for_tick()

    def _wait_for_tick(self) -> None:
        self._sampler.on_tick = partial(_post, self._token, weakref.ref(self), self._sampler)

    def _refill(self) -> None:
        """Give the log its whole budget again, if this thread has used `WORK` of processor time
        since the last time, or the loop has slept.

        Processor time, because on a busy machine this thread does little work in a tick.
        """
        used = time.thread_time()
        if self._slept or used - self._used >= WORK:
            self._used, self._room, self._slept = used, BUDGET, False

    def see_again(self) -> None:
        """In the loop, after a tick: count the steps that were not seen, and see steps again."""
        if self._ended:
            return
        asked, self._sampler.began = self._sampler.began, 0.0
        now, late = self._now(), time.perf_counter() - asked
        if asked and late > HELD:
            self._note_held(None, "", asked, asked + late)
        few = self._count(now) < BUDGET
        if not few and time.thread_time() - self._used < WORK:
            self._sampler.patience = 2  # the machine is busy with something else: wait longer
            self._wait_for_tick()
            return
        self._looks.look(now, BUSY_LOOKS)
        self._tick, self._room, self._used = self._sampler.ticks, BUDGET, time.thread_time()
        self._is_thin = False
        trio.lowlevel.add_instrument(self)

    def _count(self, now: float) -> int:
        """Add to each task's stretches how often it ran while steps were not seen; the sum of that.

        The processor time that was used meanwhile is shared out by these numbers.
        """
        living = self._records.living
        worked = time.thread_time() - self._used_before
        tasks = list(living)[:COUNTED]
        counts = {
            task: getattr(task, "_schedule_points", 0) - living[task].points for task in tasks
        }
        total = sum(counts.values()) or 1
        for task, count in counts.items():
            record = living[task]
            if count:
                self._add_unseen(record, now, count, worked * count / total)
                record.points += count
                self._looks.touched[task] = record
            record.seen_at = now
            if len(living) > COUNTED:  # move it to the end, so that others are counted next time
                living[task] = living.pop(task)
        self._used_before += worked
        return sum(counts.values())

    def _add_unseen(self, record: Record, now: float, count: int, worked: float) -> None:
        since, last = max(record.seen_at, self._thinned), record.last
        busy = min(worked, now - since)
        if last is None or since - last.end > self._resolution:
            self._records.ran(record, since, now, busy, count)
            return
        last.end, last.wait = now, None
        last.steps += count
        last.busy += busy

    def _note_held(self, key: int | None, name: str, began: float, end: float) -> None:
        """Note that a step held the loop from ``began`` to ``end``."""
        line = self._sampler.line(began)
        self._records.held.append(Held(began, end, key, clip(name), clip(line)))


def _name_of_other(task: trio.lowlevel.Task) -> str:
    """The name to show for a task that is not recorded."""
    return f"the kernel ({task.name})" if _is_ours(task) else task.name.removeprefix("__main__.")


def _is_ours(task: trio.lowlevel.Task) -> bool:
    code = getattr(task.coro, "cr_code", None)
    return code is not None and is_ours(code.co_filename)


def _raised(hook: FrameType) -> BaseException | None:
    """What the exiting task has raised. Trio tells no instrument, so it is read from the frame of
    Trio's function that calls the hooks. None if the task has raised nothing, or if that function
    is another one in this version.
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
    """Whether this cancel is how `trio.sleep` wakes up: by the deadline of its own scope."""
    if getattr(error, "source", "") != "deadline":
        return False
    for frame, _ in task.iter_await_frames():
        if frame.f_code.co_name == "sleep_until" and is_machinery(frame.f_code.co_filename):
            return bool(frame.f_locals.get("deadline", math.inf) <= trio.current_time())
    return False


def _first_cancel(error: BaseException) -> trio.Cancelled | None:
    """The first cancel in an error, if the error is made of nothing but cancels."""
    if isinstance(error, trio.Cancelled):
        return error
    if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[1] is None:
        return _first_cancel(error.exceptions[0])
    return None


def _text_of(error: BaseException) -> str:
    """An error in one line. The user's exception class may fail to make its own text."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = ""
    return clip(f"{name}: {text}" if text else name)


def _who_cancelled(records: Records, cancelled: trio.Cancelled) -> str:
    """Which task cancelled, and for which reason, as far as Trio (from 0.31 on) says it."""
    source = getattr(cancelled, "source_task", None) or ""
    found = _TASK.match(source)
    record = records.by_id.get(int(found[2], 16)) if found else None
    name = record.name if record is not None else ""
    if not name and found:
        name = found[1].removeprefix("__main__.")
        if name.startswith(("trio.", "<", f"{__name__.partition('.')[0]}.")):
            name = "the kernel"
    reason = getattr(cancelled, "reason", None)
    return clip(f"cancelled{' by ' if name else ''}{name}{': ' if reason else ''}{reason or ''}")


def _post(
    token: trio.lowlevel.TrioToken, find: Callable[[], Steps | None], sampler: Sampler
) -> None:
    """In the sampler's thread: have the loop call `see_again`. ``began`` is set to this moment, so
    that `see_again` knows how long the loop took to come to it, and the sampler looks meanwhile.
    """
    steps = find()
    if steps is not None:
        sampler.began = time.perf_counter()
        run_in(token, steps.see_again)
