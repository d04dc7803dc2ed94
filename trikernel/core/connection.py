"""The ways from a kernel to its clients. They outlive the loop that the user's code runs in."""

from __future__ import annotations

from logging import Logger

import attrs

from ..transport import Transport
from ..wire import Codec, Limits
from .iopub import IOPub, OutputLimits
from .replies import ReplySender

__all__ = ["Connection"]


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
        ident: str,
        log: Logger,
        *,
        may_block: bool,
    ) -> Connection:
        """The connection of a kernel; ``limits`` bound a message, output, and kept replies."""
        messages, output, backlog = limits
        codec = Codec(transport.key, transport.signature_scheme, limits=messages)
        iopub = IOPub(transport.iopub, codec, ident, output, may_block=may_block)
        return cls(transport, codec, iopub, ReplySender(codec, backlog, log))
