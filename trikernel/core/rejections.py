"""What was refused unread: counted each time, logged now and then.

Whoever can reach a port can send what is no message. A line in the log for each would be the
costliest part of refusing it, and would fill the disk.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from logging import Logger

from ..errors import WireError

__all__ = ["Rejections"]

INTERVAL = 10.0  # seconds in which one kind on one channel is logged once


class Rejections(Counter[str]):
    """The number of refused messages, by the kind of `WireError`."""

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, channel: str, error: WireError) -> None:
        """Count one, and log it, or (in a later line) how many came since the last line."""
        self[error.kind] += 1
        now = time.monotonic()
        told_at, untold = self._told.get((channel, error.kind), (-math.inf, 0))
        if now - told_at < INTERVAL:
            self._told[channel, error.kind] = told_at, untold + 1
            return
        more = f" ({untold} more since the last such line)" if untold else ""
        self._log.warning("dropped a message on %s: %s%s", channel, error, more)
        self._told[channel, error.kind] = now, 0
