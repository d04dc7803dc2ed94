"""What the core asks of a kernel: facts, handlers, and what belongs to starting and ending.

`trikernel.kernel.Application` is the implementation, for a `trikernel.Kernel`. The core knows it
only by these protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger
from typing import Any, Protocol

from ..errors import ContentError
from ..wire import Limits, MessageType
from .iopub import OutputLimits
from .request import Reply, Request

__all__ = ["Application", "Facts", "Handlers"]


class Facts(Protocol):
    """The attributes of a kernel that the core reads. It reads them each time that it needs them,
    because an author may change them at any time.
    """

    log: Logger
    ident: str
    session_id: str | None
    topics: str
    stop_on_error_timeout: float
    max_queue_bytes: int
    shutdown_grace: float
    stop_grace: float
    poll_interval: float
    thread_of_cells: int | None
    eventloop: Callable[[Any], object] | None


class Handlers(Protocol):
    """What dispatch and the lanes need, to handle requests."""

    @property
    def kernel(self) -> Facts:
        """The kernel object."""

    def find(self, msg_type: str) -> MessageType | None:
        """The row of a message type, or None for one that this kernel does not know."""

    def busy_may_wait(self, request: Request) -> bool:
        """Whether ``busy`` may be sent together with the handler's first message or the reply:
        the handler sends or returns before it waits or calls code of an author's.
        """

    def content_error(self, request: Request) -> ContentError | None:
        """The error in its content, if that can be known before any code of the user's runs."""

    async def handle(self, request: Request) -> Reply | None:
        """Run the handler, if the request is allowed to run. Raises what it raises; None means that
        no reply is due.
        """

    def error_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply that says what was raised."""

    def aborted_reply(self, request: Request) -> Reply:
        """The reply to a request that was not run, or stopped by its id."""

    def publish_error(self, request: Request, error: BaseException) -> None:
        """Show the error under the request's cell, if that is where it belongs."""

    def report_failure(self, request: Request, error: BaseException) -> None:
        """Log what a handler raised, where it is to be logged."""

    def remember_aborted(self, msg_ids: set[str]) -> None:
        """Abort these when they start; from any thread."""

    def forget_aborted(self, msg_ids: set[str]) -> None:
        """These are aborted already; from any thread."""


class Application(Handlers, Protocol):
    """What serving needs beside the `Handlers` of requests."""

    def bind(self, server: Any) -> None:
        """The kernel is about to be served by ``server``."""

    def unbind(self) -> None:
        """It is no longer served."""

    async def enter_loop(self) -> None:
        """Called in each user loop: before `start`, and again when a loop was lost."""

    async def start(self) -> None:
        """Called in the user loop before anything is received."""

    async def call_shutdown(self, restart: bool) -> dict[str, Any]:
        """The author's ``do_shutdown``; the content of the reply."""

    async def enter_subshell(self) -> None:
        """Called in the loop of each subshell, before it takes requests."""

    def connection_limits(self) -> tuple[Limits, OutputLimits, int]:
        """The bounds of a message, of output, and of the bytes of replies that are kept."""

    def report_background_error(self, error: BaseException) -> None:
        """A task that outlives its cell raised; show it under the cell that started it."""
