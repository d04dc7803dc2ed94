"""A broadcast channel that waits for a subscriber who does not read, within a budget.

When the budget of bytes or seconds is spent, that subscriber loses messages, the others do not,
and the log says so.
"""

from __future__ import annotations

import logging
import time

import trio

from ..transport import BroadcastChannel

__all__ = ["PatientChannel"]

_log = logging.getLogger("trikernel")


class PatientChannel:
    """``dropped`` counts the messages that somebody has lost."""

    def __init__(self, channel: BroadcastChannel, seconds: float, size: int) -> None:
        self._channel = channel
        self._seconds = seconds
        self._size = size
        self._stalled_at: float | None = None
        self.dropped = 0

    @property
    def is_stalled(self) -> bool:
        """Whether a message waits for a subscriber."""
        return self._stalled_at is not None

    def forget(self) -> None:
        """Nobody is waited for any more."""
        self._stalled_at = None

    def send(self, frames: list[bytes], waiting: int) -> bool:
        """False if a subscriber is stalled and the budget, of which ``waiting`` bytes are used,
        is not spent. Raises `trio.ClosedResourceError`.
        """
        try:
            self._channel.send_nowait(frames)
        except trio.WouldBlock:
            now = time.monotonic()
            if self._stalled_at is None:
                self._stalled_at = now
            if now - self._stalled_at <= self._seconds and waiting <= self._size:
                return False
            _log.warning("a frontend does not read its output, and loses some of it")
            self.dropped += 1
            self._channel.send_dropping(frames)
        self._stalled_at = None
        return True
