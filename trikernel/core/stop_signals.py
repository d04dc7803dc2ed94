"""One stop of a request, and how far it is: the table at the head of `stop`."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping

import attrs

from .request import Request, StopReason

__all__ = ["STOP_TRANSITIONS", "StopEvent", "StopSignal", "StopState"]


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
