"""What follows on a stop: repeated until it is delivered, and followed by the next step.

It runs in the service loop, because the user loop does not turn while the user's code computes. The
steps are those of the table at the head of `stop`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from ..system import run_in
from ..wire import tell_place
from .places import where_it_runs, where_it_waits
from .request import Request, StopReason
from .stop_signals import THIRD_STEP, TURN_TIMEOUT, StopSignal, StopState

__all__ = ["SIGNAL_AFTER", "Escalation"]

SIGNAL_AFTER = 0.002  # seconds until the main thread is signalled: it may run the request's code
THIRD_STEP_AFTER = 0.06  # seconds after the second step, for stops that escalate by themselves
REPEAT_INTERVAL = 0.02  # seconds between two steps after that
WATCHED = 20  # times `TURN_TIMEOUT` that a request has to end once its scope was cancelled
NOTICE_AFTER = 0.5  # seconds until a line on stderr says what an interrupted cell still waits in


@attrs.frozen(eq=False)
class Escalation:
    """The stops of the code in one ``thread``. ``running`` and ``pending`` are its stopper's lists.

    ``tell`` puts a line under a request's cell. ``first_after`` is how many seconds the thread has
    to hear of a stop without being reminded.
    """

    running: Sequence[Request]
    pending: Sequence[StopSignal]
    thread: int
    grace: float
    first_after: float
    tell: Callable[[Request, str], object]

    def pause_after(self, request: Request) -> float:
        """Seconds from a request's last stop to the next one, if a timer has to see to it."""
        return REPEAT_INTERVAL if request.stops >= THIRD_STEP else self.grace + SIGNAL_AFTER

    async def until_next_step(
        self, stop_signal: StopSignal, remind: Callable[[StopSignal], bool]
    ) -> bool:
        """Remind the thread of a stop until it is delivered (the thread may be in protected code).
        Return True when the next step is due, False if none is to follow.

        ``remind`` has the thread look at the stop; it returns False if the thread is to be left,
        because its code does not notice.
        """
        if not await self._until_delivered(stop_signal, remind):
            return False
        request = stop_signal.request
        if request is None:
            return False
        if stop_signal.reason is StopReason.INTERRUPT and request.stops < THIRD_STEP:
            return False  # a person repeats it
        while stop_signal.is_live(self.running):  # its code swallows exceptions, or cleans up
            last, pauses = request.last_stop, {1: self.grace, 2: THIRD_STEP_AFTER}
            await trio.sleep(pauses.get(request.stops, REPEAT_INTERVAL))
            if request.last_stop == last:
                return stop_signal.is_live(self.running)
        return False

    async def is_held_up(self, stop_signal: StopSignal, token: trio.lowlevel.TrioToken) -> bool:
        """Whether the request is still to end, but other code holds the user loop, whose ``token``
        it is: an asyncio task that began to compute just after the request's scope was cancelled.
        """
        for _ in range(WATCHED):
            request, turned = stop_signal.request, [False]
            if request is None or request not in self.running or request.finished:
                return False
            if stop_signal.state is StopState.RAISED:
                return False
            run_in(token, partial(turned.__setitem__, 0, True))
            await trio.sleep(TURN_TIMEOUT)
            if not turned[0]:
                return stop_signal.is_live(self.running)
        return False

    async def _until_delivered(
        self, stop_signal: StopSignal, remind: Callable[[StopSignal], bool]
    ) -> bool:
        told_at = time.monotonic() + 2 * self.grace
        await trio.sleep(self.first_after)
        while stop_signal.state is StopState.PENDING and stop_signal.is_live(self.running):
            if not remind(stop_signal):
                return False
            await trio.sleep(TURN_TIMEOUT)
            if time.monotonic() > told_at:
                told_at = math.inf
                self._tell_where_it_runs(stop_signal)
        return True

    def _tell_where_it_runs(self, stop_signal: StopSignal) -> None:
        """Say once, for the first of several stops, which call does not hear of them."""
        request = stop_signal.request
        first = next((one for one in self.pending if one.request is request), None)
        if request is not None and stop_signal is first:
            self.tell(request, tell_place(where_it_runs(self.thread)))

    async def tell_if_it_lingers(self, request: Request, token: trio.lowlevel.TrioToken) -> None:
        """Some time after an interrupt that has had no effect, say what the code waits in.
        ``token`` is that of the user loop.
        """
        await trio.sleep(NOTICE_AFTER)
        run_in(token, lambda: self._tell_where_it_waits(request))

    def _tell_where_it_waits(self, request: Request) -> None:
        interrupted = request.stop_reason is StopReason.INTERRUPT
        if interrupted and request in self.running and request.task is not None:
            place = where_it_waits(request.task)
            self.tell(
                request,
                f"interrupted, but it still waits in {place}; "
                "a second interrupt leaves it behind\n",
            )
