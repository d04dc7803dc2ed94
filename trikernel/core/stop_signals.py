"""One stop of a request, and how far it is: the tables at the head of `stop`."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Mapping, Sequence

import attrs

from .request import Request, StopReason

__all__ = [
    "STOP_TRANSITIONS",
    "THIRD_STEP",
    "TURN_TIMEOUT",
    "StopEvent",
    "StopSignal",
    "StopState",
    "is_ending",
    "is_stuck",
]

TURN_TIMEOUT = 0.05  # seconds that the user loop has to turn before it counts as blocked
THIRD_STEP = 3  # the step from which on `CellStopped` is raised, which few programs swallow


class StopState(enum.Enum):
    """How far a stop is: see the table in `stop`."""

    PENDING = "pending"
    RAISED = "raised"
    DELIVERED = "delivered"


class StopEvent(enum.Enum):
    """What happens to a stop."""

    RAISE = "raise"
    TURN = "turn"


STOP_TRANSITIONS: Mapping[StopState, Mapping[StopEvent, StopState]] = {
    StopState.PENDING: {
        StopEvent.RAISE: StopState.RAISED,
        StopEvent.TURN: StopState.DELIVERED,
    },
    StopState.RAISED: {StopEvent.TURN: StopState.DELIVERED},
    StopState.DELIVERED: {},
}


@attrs.define(eq=False)
class StopSignal:
    """One stop of ``request``, since ``since`` by `time.monotonic`. The request is None if the code
    that is to stop belongs to none.
    """

    request: Request | None
    reason: StopReason
    state: StopState = StopState.PENDING
    since: float = attrs.field(factory=time.monotonic)

    def advance(self, event: StopEvent) -> None:
        """Go to the next state; `RuntimeError` for what the table does not allow."""
        following = STOP_TRANSITIONS[self.state].get(event)
        if following is None:
            raise RuntimeError(f"a stop that is {self.state.value} cannot {event.value}")
        self.state = following

    def is_live(self, running: Sequence[Request]) -> bool:
        """Whether its request still runs: a stop that comes late must not hit another one."""
        return self.request is None or self.request in running


def is_ending(request: Request | None, grace: float) -> bool:
    """Whether its code has just ended by a stop: while it is being answered, it is not stopped."""
    return request is not None and time.monotonic() - request.ended_at < grace


def is_stuck(stop_signal: StopSignal, grace: float) -> bool:
    """Whether a request in a thread of its own has not noticed a stop, so that it is to be left."""
    request = stop_signal.request
    if request is None:
        return False
    by_itself = stop_signal.reason is not StopReason.INTERRUPT
    seconds = TURN_TIMEOUT if request.stops > 1 else grace if by_itself else math.inf
    return time.monotonic() - stop_signal.since > seconds + TURN_TIMEOUT
