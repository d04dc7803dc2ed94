"""A thread that finds out which line holds a loop, while a recorder records.

What is wanted
    The line of a step that holds the loop for longer than `HELD`, whatever that line does: compute,
    sleep, or stay in C code. While the loop sleeps, the thread does not wake up either.

What does not work
    The frames at the begin and the end of a step are where the task waited before and waits next:
    there may be a hundred lines in between. `sys.setprofile` and `sys.monitoring` slow down each
    call in the user's code. `signal.setitimer` belongs to the user, and the signal of a POSIX timer
    ends blocking calls in the user's C libraries early. A timer that each step arms and disarms
    costs a system call or a thread for each step.

What is done
    The thread wakes up every `TICK` while the loop runs any task: 50 times a second, for 20 µs
    each. If it finds the same step in two ticks, it begins to note the stack of the loop's thread.
    The loop only writes the moment when a step began into an attribute, `Sampler.began`, which
    costs next to nothing. After some ticks without a step the thread waits for an event, which the
    next step sets.

What remains
    C code that keeps the interpreter lock keeps it from this thread, too. The thread gets the lock
    when the call returns, and looks then: it still finds the line of the call.
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

HELD = 0.05  # seconds: a step that takes longer has held the loop
TICK = 0.02  # seconds between two looks
_RESTS = 3  # ticks without a step, after which the thread waits for the next step
_SAMPLES = 10_000  # looks at one step that are counted


def line_of_thread(ident: int | None, name_of: NameOf) -> str:
    """The line that another thread executes; empty if it is not known."""
    found = executing(sys._current_frames().get(ident or 0), name_of)
    return found.describe(name_of) if found is not None else ""


class Sampler:
    """``name_of`` names the code of cells.

    The loop's thread sets ``began`` to the moment (by `time.perf_counter`) when a step began, and
    to 0 when the loop waits; it adds to ``steps`` now and then, and calls `wake` if ``rests`` is
    true. The sampler's thread counts its ticks in ``ticks``. ``on_tick``, if it is set, is called
    there once, after ``patience`` more ticks.
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
        self._of = 0.0  # the step that `_lines` belong to, by its `began`
        self._wakened = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether the sampler's thread has been started, and not stopped."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread; it looks at the thread that made this sampler."""
        executing(sys._getframe(), self._name_of)  # its imports happen here, not in that thread
        thread = threading.Thread(target=self._run, name="trikernel timeline", daemon=True)
        self._thread = mark_untraced(thread)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for its end."""
        self._ended.set()
        self._wakened.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self) -> None:
        """Have the thread look again: the loop runs a step."""
        self.rests = False
        self._wakened.set()

    def line(self, began: float) -> str:
        """The line that was seen most often in the step that began at this moment; empty if no line
        was seen in it.
        """
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
                self.on_tick = None  # before the call, after which the loop may set it again
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
        """Wait until the loop runs a step, or `stop` is called."""
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
            # No file is read here: that would release the interpreter lock, and the loop's thread
            # would go on while its frames are read.
            found = executing(frame, self._name_of)
            if found is not None:
                self._lines[found] += 1
