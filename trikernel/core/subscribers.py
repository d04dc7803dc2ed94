"""A broadcast channel that waits for a subscriber who does not read, within a budget.

Its table of states stands at the head of `iopub`, whose queue it is for.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

import trio

from ..transport import BroadcastChannel
from ..wire import DELIMITER, Codec, json

__all__ = ["SUBSCRIBER_TRANSITIONS", "Subscribers"]

NOTICE = (
    "\n[output dropped: a frontend did not read it in time; what follows is missing there,"
    " up to where it reads again]\n"
)

_log = logging.getLogger("trikernel")


class Flow(enum.Enum):
    """How the subscribers are: see the table above."""

    FLOWING = "flowing"
    STALLED = "stalled"


class FlowEvent(enum.Enum):
    """What sending a message came to."""

    SENT = "sent"
    FULL = "full"
    BUDGET_SPENT = "budget spent"


SUBSCRIBER_TRANSITIONS: Mapping[Flow, Mapping[FlowEvent, Flow]] = {
    Flow.FLOWING: {FlowEvent.SENT: Flow.FLOWING, FlowEvent.FULL: Flow.STALLED},
    Flow.STALLED: {
        FlowEvent.SENT: Flow.FLOWING,
        FlowEvent.FULL: Flow.STALLED,
        FlowEvent.BUDGET_SPENT: Flow.FLOWING,
    },
}


class Subscribers:
    """A broadcast channel that waits for a subscriber who does not read, within a budget.

    ``dropped`` counts the messages that somebody has lost.
    """

    def __init__(self, channel: BroadcastChannel, codec: Codec, seconds: float, size: int) -> None:
        self._channel = channel
        self._codec = codec
        self._seconds = seconds
        self._bytes = size
        self._stalled_at = 0.0
        self.state = Flow.FLOWING
        self.dropped = 0

    @property
    def is_stalled(self) -> bool:
        """Whether a message waits for a subscriber."""
        return self.state is Flow.STALLED

    def give_up(self) -> None:
        """Nobody is waited for any more."""
        self.state = Flow.FLOWING

    def advance(self, event: FlowEvent) -> None:
        """Go to the next state; `RuntimeError` for what the table does not allow."""
        following = SUBSCRIBER_TRANSITIONS[self.state].get(event)
        if following is None:
            raise RuntimeError(f"subscribers that are {self.state.value}: {event.value}?")
        self.state = following

    def send(self, frames: list[bytes], waiting: int) -> bool:
        """False if a subscriber is stalled and the budget, of which ``waiting`` bytes are used,
        is not spent. Raises `trio.ClosedResourceError`.
        """
        try:
            self._channel.send_nowait(frames)
        except trio.WouldBlock:
            if self.state is Flow.FLOWING:
                self._stalled_at = time.monotonic()
            self.advance(FlowEvent.FULL)
            seconds = time.monotonic() - self._stalled_at
            if seconds <= self._seconds and waiting <= self._bytes:
                return False
            self._drop(frames)
            return True
        if self.state is not Flow.FLOWING:
            self.advance(FlowEvent.SENT)
        return True

    def _drop(self, frames: list[bytes]) -> None:
        """Send to everybody but the stalled one, who finds a notice in its place."""
        _log.warning("a frontend does not read its output, and loses some of it")
        self.dropped += 1
        with suppress(trio.WouldBlock):
            self._channel.send_beyond(self._notice(frames))
        self._channel.send_dropping(frames)
        self.advance(FlowEvent.BUDGET_SPENT)

    def _notice(self, frames: list[bytes]) -> list[bytes]:
        """Text under the cell that the first lost message is about."""
        try:
            parent = json.loads(frames[frames.index(DELIMITER) + 3])
        except (ValueError, IndexError):  # an author's own frames
            parent = None
        content = {"name": "stderr", "text": NOTICE}
        return self._codec.encode("stream", content, parent=parent, identities=[b"stream.stderr"])
