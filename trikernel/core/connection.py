"""A kernel's connection to its clients, and a count of what came over it that is no message.

It outlives the loop that the user's code runs in.
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
    """The number of messages that could not be decoded, by the kind of `WireError`.

    All are counted, and only one in `REJECTIONS_INTERVAL` is logged: anybody who can reach a port
    can send anything there, and a line for each would fill the disk, and cost more than refusing.
    """

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, channel: str, error: WireError) -> None:
        """Count one, and log it with the number of those that came since the last such line."""
        self[error.kind] += 1
        now = time.monotonic()
        told_at, untold = self._told.get((channel, error.kind), (-math.inf, 0))
        if now - told_at < REJECTIONS_INTERVAL:
            self._told[channel, error.kind] = told_at, untold + 1
            return
        more = f" ({untold} more since the last such line)" if untold else ""
        self._log.warning("dropped a message on %s: %s%s", channel, error, more)
        self._told[channel, error.kind] = now, 0
