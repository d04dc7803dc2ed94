"""Which queued requests a failure aborts.

An epoch holds only requests that are queued and abortable: a request leaves it when it
starts. Closing it stops all of them; what is admitted before ``closes_at`` joins them.
Clocks are compared on admission: no timer, no task.
"""

from __future__ import annotations

import math

from .request import Request, StopReason

__all__ = ["Epoch"]


class Epoch:
    """The queued, abortable requests of one lane. Times are seconds of the lane's clock."""

    def __init__(self) -> None:
        self._members: dict[Request, None] = {}
        self.closes_at = -math.inf

    def __len__(self) -> int:
        return len(self._members)

    def admit(self, request: Request, now: float) -> None:
        """Take in a request; inside the window it is aborted at once."""
        if now < self.closes_at:
            request.mark(StopReason.ABORT)
        else:
            self._members[request] = None

    def leave(self, request: Request) -> None:
        """The request starts: a failure no longer aborts it."""
        self._members.pop(request, None)

    def close(self, now: float, window: float) -> None:
        """Abort every member, and what is admitted within ``window`` seconds from ``now``."""
        self.closes_at = max(self.closes_at, now + window)
        self.abort(set(self._members))

    def abort(self, requests: set[Request]) -> None:
        """Abort these members."""
        for request in requests & self._members.keys():
            request.mark(StopReason.ABORT)
            self.leave(request)

    def find(self, msg_ids: set[str]) -> set[Request]:
        """The members with these ids."""
        return {request for request in self._members if request.msg_id in msg_ids}
