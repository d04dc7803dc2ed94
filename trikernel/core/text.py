"""Text that is being written: what makes `print` cheap.

A producer appends pieces, with no call into the outbox, for as long as nothing else has to be
looked at: another stream, a message in between, a sent text, an interrupt.
"""

from __future__ import annotations

from collections import deque

import attrs

from ..wire import Header

__all__ = ["CLOSED", "OpenText"]

CLOSED = object()


@attrs.define(eq=False)
class OpenText:
    """Text of one cell and stream that is still being written: ``append`` is all it takes.

    It is open as long as ``writer`` is the request that it was opened for. Whoever appends looks
    at that afterwards too, and tells `Outbox.reopen` if it was closed in between.
    """

    writer: object
    parent: Header | None
    name: str
    pieces: deque[str] = attrs.field(factory=deque)

    def close(self) -> int:
        """Nothing more comes; how long it is."""
        self.writer = CLOSED
        return sum(map(len, self.pieces.copy()))
