"""The ways from a kernel to its clients, and what came over them that is no message.

They outlive the loop that the user's code runs in.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from logging import Logger

import attrs

from ..errors import WireError
from ..transport import Transport
from ..wire import Codec, Limits
from .iopub import IOPub, OutputLimits
from .peers import ReplySender

__all__ = ["Connection", "Rejections"]

REJECTIONS_INTERVAL = 10.0  # seconds in which one kind on one channel is logged once


@attrs.frozen(eq=False)
class Connection:
    """``transport`` carries frames, ``codec`` signs and verifies them, ``iopub`` is the queue of
    what every client hears, ``replies`` sends to one client.
    """

    transport: Transport
    codec: Codec
    iopub: IOPub
    replies: ReplySender

    @classmethod
    def open(
        cls,
        transport: Transport,
        limits: tuple[Limits, OutputLimits, int],
        origin: str,
        log: Logger,
        *,
        may_block: bool,
        session: str | None = None,
    ) -> Connection:
        """The connection of a kernel; ``limits`` bound a message, output, and kept replies.
        ``origin`` is how its topics begin, ``session`` the id in its headers, a new one unless
        given.
        """
        messages, output, backlog = limits
        codec = Codec(transport.key, transport.signature_scheme, session=session, limits=messages)
        iopub = IOPub(transport.iopub, codec, origin, output, may_block=may_block)
        return cls(transport, codec, iopub, ReplySender(codec, backlog, log))


class Rejections(Counter[str]):
    """The number of messages that were refused unread, by the kind of `WireError`.

    Each is counted, and logged now and then: whoever can reach a port can send what is no message,
    and a line for each would be the costliest part of refusing it, and would fill the disk.
    """

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, channel: str, error: WireError) -> None:
        """Count one, and log it, or (in a later line) how many came since the last line."""
        self[error.kind] += 1
        now = time.monotonic()
        told_at, untold = self._told.get((channel, error.kind), (-math.inf, 0))
        if now - told_at < REJECTIONS_INTERVAL:
            self._told[channel, error.kind] = told_at, untold + 1
            return
        more = f" ({untold} more since the last such line)" if untold else ""
        self._log.warning("dropped a message on %s: %s%s", channel, error, more)
        self._told[channel, error.kind] = now, 0
