"""One request as a value: what came, where the answer goes, and how it is stopped.

The context variable `current_request` is for code that can take no argument, `print` and
`display` above all; everything else is handed its `Request`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import attrs
import trio

from ..transport import Channel
from ..wire import Message, MessageType

__all__ = [
    "Outcome",
    "Reply",
    "Request",
    "StopReason",
    "background_scope",
    "current_request",
    "is_served",
]


class StopReason(enum.Enum):
    """Why a request was stopped; the first reason wins."""

    INTERRUPT = "interrupt"
    TIMEOUT = "timeout"
    ABORT = "abort"
    SHUTDOWN = "shutdown"


@attrs.frozen
class Reply:
    """What a handler answers: the content, and where they matter metadata and buffers."""

    content: Mapping[str, Any]
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    buffers: Sequence[bytes] = ()

    @property
    def failed(self) -> bool:
        """True for ``status: error``."""
        return self.content.get("status") == "error"


@attrs.frozen
class Outcome:
    """How a handler ended: with a reply (None where none is due), or with an error."""

    reply: Reply | None = None
    error: BaseException | None = None


@attrs.define(eq=False)
class Request:
    """A message that a client sent, from its admission to its reply.

    ``message`` is the message, ``channel`` where it came from and where the reply goes,
    ``type`` its row in the kernel's table (None for an unknown one), ``application`` the
    kernel that it came to, ``content`` its typed content once a handler has parsed it,
    ``metadata`` what the reply's metadata begins with. ``number`` is the execution count of
    an execute request that counts, else None. ``size`` is the room that it takes in the queue.
    """

    message: Message
    channel: Channel
    type: MessageType | None
    priority: int
    application: Any = None
    content: Any = None
    number: int | None = None
    size: int = 0
    metadata: dict[str, Any] = attrs.field(factory=dict)
    stop_on_error: bool = False
    stop_reason: StopReason | None = None
    stopped_at: float | None = None
    answered: bool = False
    finished: bool = False
    done: trio.Event | None = None
    outcome: Outcome | None = None
    _deadline: Callable[[], object] | None = None
    _pump: trio.Lock | None = None
    _scopes: list[trio.CancelScope] = attrs.field(factory=list)
    _on_stop: list[Callable[[], object]] = attrs.field(factory=list)
    _after_idle: list[Callable[[], object]] = attrs.field(factory=list)

    @property
    def msg_id(self) -> str:
        """The message's id, by which an ``abort_request`` names it."""
        return self.message.header.msg_id

    @property
    def msg_type(self) -> str:
        """``execute_request`` and so on."""
        return self.message.header.msg_type

    @property
    def looks_only(self) -> bool:
        """Whether it runs nothing of the user's and of the author's: ``kernel_info`` and so on."""
        return self.type is not None and self.type.beside and self.msg_type != "shutdown_request"

    @property
    def wants_reply(self) -> bool:
        """Whether a reply is due: comm messages have none."""
        return self.msg_type.endswith("_request")

    def open_scope(self) -> RequestScope:
        """A context manager: a cancel scope that `cancel` cancels while it is this request's
        innermost one. It is cancelled from the start if the request is to stop already.
        """
        return RequestScope(self)

    def mark(self, reason: StopReason) -> None:
        """Note that it is to stop, and wake whatever blocks on its behalf; from any thread.

        A queued request that is marked never starts. A running one goes on until `cancel`.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
        self._wake()

    def hear(self) -> None:
        """The user's code has been told, by an exception in it, and may handle that.

        This uses up an interrupt; a deadline, an abort and a shutdown go on holding.
        """
        if self.stop_reason is StopReason.INTERRUPT:
            self.stop_reason = None

    def _wake(self) -> None:
        for wake in tuple(self._on_stop):
            wake()

    def cancel(self) -> None:
        """Cancel its innermost scope; in its own loop only.

        Only that one: a scope never catches a cancel that its parent shares, and what is
        around the innermost scope (IPython, say) has to go on and finish properly.
        """
        if self._scopes:
            self._scopes[-1].cancel()

    @property
    def abandoned(self) -> bool:
        """Whether the lane has gone on without its task: what that still says is for nobody."""
        return self.done is not None and self.done.is_set()

    def pump_lock(self) -> trio.Lock:
        """Held by the one task of this request that handles another one within it."""
        if self._pump is None:
            self._pump = trio.Lock()
        return self._pump

    def abandon(self) -> None:
        """Have the lane answer now and go on; what its task still does is discarded."""
        if self.done is not None:
            self.done.set()

    def on_stop(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Have `mark` and `finish` call ``wake``; the returned function takes that back."""
        self._on_stop.append(wake)
        return lambda: self._on_stop.remove(wake)

    def replace_deadline(self, withdraw: Callable[[], object]) -> None:
        """Withdraw the deadline of before; ``withdraw`` ends this one, at idle at the latest."""
        if self._deadline is not None:
            self._deadline()
        else:
            self.after_idle(lambda: self._deadline and self._deadline())
        self._deadline = withdraw

    def after_idle(self, function: Callable[[], object]) -> None:
        """Have ``function`` called once the reply and ``idle`` are out."""
        self._after_idle.append(function)

    def finish(self) -> None:
        """Its idle is out: call what waits for that."""
        self.finished = True
        self._wake()
        while self._after_idle:
            self._after_idle.pop(0)()


class RequestScope:
    """See `Request.open_scope`. A class, because every request opens one or two."""

    __slots__ = ("_request", "_scope")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        scope, request = self._scope.__enter__(), self._request
        if request.stop_reason is not None:
            scope.cancel()
        request._scopes.append(scope)
        return scope

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._request._scopes.remove(self._scope)
        return self._scope.__exit__(exc_type, exc, traceback)


current_request: ContextVar[Request | None] = ContextVar("current_request", default=None)

background_scope: ContextVar[trio.CancelScope | None] = ContextVar("background_scope", default=None)
"""What to cancel to end the background task that the current one is, or is a part of."""

is_served: ContextVar[bool] = ContextVar("is_served")
"""True in the tasks of a kernel. A host may have others in the same loop, and they are its own."""
