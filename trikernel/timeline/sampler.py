"""A thread that looks which line holds a loop, while a recorder wants to know.

What is wanted
    The line of a step that holds the loop for longer than `HELD`, whatever it does there: compute,
    sleep, or stay in C code. At rest nothing wakes up.

What does not work
    The frames at a step's begin and end are where the task waited before and waits next: between
    them may be a hundred lines. `sys.setprofile` and `sys.monitoring` cost each call of the user's.
    `signal.setitimer` is the user's, and a POSIX timer's signal ends blocking calls in C libraries
    of theirs early. A timer that each step arms and disarms costs a system call or a thread each.

What is done
    The thread wakes every `TICK` while the loop does anything, which is 50 times a second, 20 µs
    each. A step that it finds at work twice has lasted: its stack is noted. The loop writes
    when each step began into a list, which costs it nothing to speak of. When the loop did nothing
    for some ticks the thread waits on a lock until a step releases it.

What remains
    C code that keeps the interpreter lock keeps it from this thread, too. The first thing that is
    run then is the sampler's look, as the call returns: the line is that of the call.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from ..system import mark_untraced
from .waits import Executing, NameOf, executing

__all__ = ["HELD", "TICK", "Sampler", "line_of_thread"]

HELD = 0.05  # seconds that one step may take
TICK = 0.02  # seconds between two looks
_RESTS = 3  # ticks without a step after which the thread waits
_SAMPLES = 10_000  # of one step that are counted


def line_of_thread(ident: int | None, name_of: NameOf) -> str:
    """The line that another thread executes; empty if it is not known."""
    found = executing(sys._current_frames().get(ident or 0), name_of)
    return found.describe(name_of) if found is not None else ""


class Sampler:
    """``name_of`` names the code of cells.

    The loop sets ``began`` to the moment (by `time.perf_counter`) when a step began, and to 0 when
    it waits, counts ``steps`` now and then, and calls `wake` where ``rests`` is true. ``ticks``
    counts the looks. ``on_tick``, where it is set, is called once, after ``patience`` more looks.
    """

    def __init__(self, name_of: NameOf) -> None:
        self.began = 0.0
        self.steps = 0
        self.ticks = 0
        self.rests = False
        self.patience = 0
        self.on_tick: Callable[[], object] | None = None
        self._name_of = name_of
        self._loop_thread = threading.get_ident()
        self._lines: Counter[Executing] = Counter()
        self._of = 0.0  # the step that the lines are of
        self._wakened = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a thread that looks."""
        return self._thread is not None

    def start(self) -> None:
        """Begin to look, at the thread that made this."""
        executing(sys._getframe(), self._name_of)  # imports what it needs, here and not there
        thread = threading.Thread(target=self._run, name="trikernel timeline", daemon=True)
        self._thread = mark_untraced(thread)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._wakened.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """There is something to look at again."""
        self.rests = False
        self._wakened.set()

    def line(self, began: float) -> str:
        """The line that was seen most often in the step that began then; empty if it was not."""
        if self._of != began or not self._lines:
            return ""
        return self._lines.most_common(1)[0][0].describe(self._name_of)

    def _run(self) -> None:
        seen = rest = 0
        while not self._ended.wait(TICK):
            self.ticks += 1
            on_tick = self.on_tick
            if on_tick is not None and self.patience > 0:
                self.patience -= 1
            elif on_tick is not None:
                self.on_tick = None  # only now: the loop sets it again once it was called
                on_tick()
            began = self.began
            if began and began != self._of:
                self._lines, self._of = Counter(), began
                if time.perf_counter() - began > TICK:  # C code has kept this thread waiting
                    self._look(began)
            elif began:
                self._look(began)
            if began or self.steps != seen or on_tick is not None:
                seen, rest = self.steps, 0
                continue
            rest += 1
            if rest >= _RESTS:
                self._rest(seen)
                rest = 0

    def _rest(self, seen: int) -> None:
        """Wait until the loop does something."""
        self._wakened.clear()
        self.rests = True
        if self.steps == seen and not self.began and not self._ended.is_set():
            self._wakened.wait()
        self.rests = False

    def _look(self, began: float) -> None:
        if self._lines.total() > _SAMPLES:
            return
        frame = sys._current_frames().get(self._loop_thread)
        if frame is not None and self.began == began:
            # No file is read here: whoever waits for the interpreter would go on meanwhile.
            found = executing(frame, self._name_of)
            if found is not None:
                self._lines[found] += 1
