"""What the core asks of a kernel: the other side of the wall between dispatch and verbs.

`trikernel.Kernel` is the one that authors subclass; the core knows only this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from logging import Logger
from typing import Any, Protocol

from ..wire import Limits, MessageType
from .outbox import OutboxLimits
from .request import Reply, Request

__all__ = ["Application"]


class Application(Protocol):
    """The kernel as dispatch sees it."""

    log: Logger
    ident: str
    stop_on_error_timeout: float
    shutdown_grace: float
    poll_interval: float
    max_queue_bytes: int
    max_backlog_bytes: int
    user_context: Context | None
    eventloop: Callable[[Any], object] | None

    @property
    def limits(self) -> Limits:
        """The bounds of a message."""

    @property
    def outbox_limits(self) -> OutboxLimits:
        """The bounds of the output queue."""

    def bind(self, server: Any) -> None:
        """The kernel is about to be served: what it sends goes through ``server``."""

    def unbind(self) -> None:
        """It is no longer served."""

    def find(self, msg_type: str) -> MessageType | None:
        """The row of a message type, or None for one that this kernel does not know."""

    async def handle(self, request: Request) -> Reply | None:
        """Run the handler. Raises what it raises; None means no reply is due.

        The status ``busy`` is held in the outbox: drain that before anything waits, or an
        author's code is called.
        """

    async def allows(self, request: Request) -> bool:
        """Whether the request may run at all; if not, it is answered ``aborted``.

        As for `handle`, ``busy`` is held.
        """

    def error_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply that says what was raised."""

    def aborted_reply(self, request: Request) -> Reply:
        """The reply to a request that was not run, or stopped by its id."""

    def publish_error(self, request: Request, reply: Reply, error: BaseException) -> None:
        """Show the error under the request's cell, if that is where it belongs."""

    def report_background_error(self, error: BaseException) -> None:
        """A task of the background nursery raised; show it under the cell that started it."""

    async def start(self) -> None:
        """Called in the user loop before anything is received."""

    async def call_shutdown(self, restart: bool) -> dict[str, Any]:
        """The author's ``do_shutdown``; the content of the reply."""

    def remember_aborted(self, msg_ids: set[str]) -> None:
        """These ids were not seen yet; abort them when they come."""
