"""A broadcast channel that waits for a subscriber who does not read, within a budget.

When the budget of bytes or seconds is spent, that subscriber loses messages, the others do not.
The log says so, and a message that it finds at that place once it reads again.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import trio

from ..transport import BroadcastChannel
from ..wire import DELIMITER, Codec, json

__all__ = ["PatientChannel"]

NOTICE = (
    "\n[output dropped: a frontend did not read it in time; what follows is missing there,"
    " up to where it reads again]\n"
)

_log = logging.getLogger("trikernel")


class PatientChannel:
    """``dropped`` counts the messages that somebody has lost."""

    def __init__(self, channel: BroadcastChannel, codec: Codec, seconds: float, size: int) -> None:
        self._channel = channel
        self._codec = codec
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
            with suppress(trio.WouldBlock):
                self._channel.send_beyond(self._notice(frames))
            self._channel.send_dropping(frames)
        self._stalled_at = None
        return True

    def _notice(self, frames: list[bytes]) -> list[bytes]:
        """Text under the cell that the first lost message is about."""
        try:
            parent = json.loads(frames[frames.index(DELIMITER) + 3])
        except (ValueError, IndexError):  # an author's own frames
            parent = None
        content = {"name": "stderr", "text": NOTICE}
        return self._codec.encode("stream", content, parent=parent, identities=[b"stream.stderr"])
