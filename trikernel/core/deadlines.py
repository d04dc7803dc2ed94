"""The deadlines of requests, watched by the service loop and by timers of the operating system.

For code that lets other threads run the service loop is enough. C code that keeps the interpreter
lock keeps the service loop from running, too: then a timer of the operating system signals the main
thread. It comes a little later than the loop, so that it is not needed where the loop was in time.
A request without a deadline has no timer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from ..system import RemoteNursery, SignalTimer, run_in
from .request import Request, StopReason

__all__ = ["Deadline", "Deadlines"]

LATE = 0.05  # seconds that the service loop has, before the timer signals for the first time
AGAIN = 0.05  # seconds between two signals of a timer


@attrs.define(eq=False)
class Deadline:
    """``request`` is to stop ``seconds`` from now. ``is_told`` is true once it was stopped."""

    request: Request
    seconds: float
    reason: StopReason = StopReason.TIMEOUT
    is_told: bool = False
    timer: SignalTimer | None = None
    withdrawn: trio.Event = attrs.field(factory=trio.Event)
    _due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._due = time.monotonic() + self.seconds

    async def wait_until_due(self) -> bool:
        """Wait until it has passed, and is to be told. False if it was withdrawn, or was told by a
        timer, before that. In the loop of the event.
        """
        with trio.move_on_after(self.seconds):
            await self.withdrawn.wait()
        is_to_be_told = not self.withdrawn.is_set() and not self.is_told
        self.is_told = self.is_told or is_to_be_told
        return is_to_be_told

    @property
    def is_past(self) -> bool:
        """Whether it has passed by the clock of the system, which timers go by."""
        return time.monotonic() >= self._due

    def stop_timer(self) -> None:
        """Stop its timer. A signal that was sent just before is ignored."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.stop()


class Deadlines:
    """The deadlines of one lane's requests. ``services`` is whose loop watches them.

    ``start_timer(seconds, interval)`` starts a timer that signals the main thread, or returns None.
    `has_timers` says whether it is to be called.
    """

    def __init__(
        self,
        services: RemoteNursery,
        start_timer: Callable[[float, float], SignalTimer | None],
    ) -> None:
        self.has_timers = False
        self._services = services
        self._start_timer = start_timer
        self._timed: list[Deadline] = []

    def set(self, request: Request, seconds: float) -> Deadline:
        """Give a request another deadline, ``seconds`` from now, in the place of an earlier one."""
        deadline = Deadline(request, seconds)
        self._time(deadline)
        if self._services.token is not None:
            request.replace_deadline(partial(self._withdraw, deadline, self._services.token))
        return deadline

    def repeat(self, request: Request) -> None:
        """Have a request that is being stopped stopped again and again by a timer, because the
        service loop may not get the interpreter lock.
        """
        token = self._services.token
        if token is not None:
            reason = request.stop_reason or StopReason.INTERRUPT
            again = Deadline(request, 0, reason, is_told=True)
            self._time(again)
            request.after_idle(partial(self._withdraw, again, token))

    def take_due(
        self, running: Sequence[Request], pause: Callable[[Request], float]
    ) -> list[Deadline]:
        """A timer has signalled: the deadlines of which the service loop was to tell, which may not
        have got the interpreter lock. They count as told. None for a signal that comes too late.

        ``running`` are the requests that can be stopped. ``pause`` is how many seconds after the
        last stop of a request the next one is due.
        """
        now = time.monotonic()
        by_request = {one.request: one for one in self._timed if one.is_past}  # the last of two
        past = [one for request, one in by_request.items() if request in running]
        due = [
            one
            for one in past
            if not one.is_told or one.request.last_stop < now - pause(one.request)
        ]
        for deadline in due:
            deadline.is_told = True
        return due

    def close(self) -> None:
        """Stop all timers, and start no more."""
        self.has_timers = False
        for deadline in self._timed:
            deadline.stop_timer()
        self._timed.clear()

    def _time(self, deadline: Deadline) -> None:
        if self.has_timers:
            deadline.timer = self._start_timer(deadline.seconds + LATE, AGAIN)
            if deadline.timer is not None:
                self._timed.append(deadline)

    def _withdraw(self, deadline: Deadline, token: trio.lowlevel.TrioToken) -> None:
        """End its timer, and the task that waits for it in the loop of ``token``."""
        deadline.stop_timer()
        if deadline in self._timed:
            self._timed.remove(deadline)
        run_in(token, deadline.withdrawn.set)
