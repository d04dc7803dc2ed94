"""One request as a value: what came, where the answer goes, how far it is, how it is stopped.

States, and what each event makes of them. An event that the table does not allow in a state is a
mistake in this package, and raises `RuntimeError`:

=========  =======  ========  =========  ========
state      START    ANSWER    ABANDON    FINISH
=========  =======  ========  =========  ========
QUEUED     RUNNING  ANSWERED             FINISHED
RUNNING             ANSWERED  ABANDONED  FINISHED
ANSWERED                      ABANDONED  FINISHED
ABANDONED                                FINISHED
FINISHED
=========  =======  ========  =========  ========

``START``: its lane begins to handle it. ``ANSWER``: its one reply is sent; a request that is
refused or aborted in the queue is answered without having started. ``FINISH``: ``idle`` is sent; a
comm message has no reply and finishes without. ``ABANDON``: reply and ``idle`` are sent although
its code still runs. The result of that code is dropped, and ``FINISH`` comes when it returns.

`Request.stop_reason` is independent of the state: why the request is to stop, or None. The first
reason stays. An interrupt is used up once `KeyboardInterrupt` was raised in the request's code,
which may handle it (`Request.consume_interrupt`); a deadline, an abort and a shutdown stay.

The context variable `current_request` is for code that can take no argument, `print` and
`display` above all; everything else is handed its `Request`.
"""

from __future__ import annotations

import enum
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from types import TracebackType
from typing import Any
from weakref import ref

import attrs
import trio

from ..errors import AbortedError, DeadlineExceeded
from ..system import cancel_for
from ..transport import Channel
from ..wire import Message, MessageType, reply_type

__all__ = [
    "TRANSITIONS",
    "Event",
    "Outcome",
    "Reply",
    "Request",
    "RequestBudget",
    "RequestScope",
    "State",
    "StopReason",
    "background_scope",
    "current_request",
    "is_served",
    "request_of",
]


FORGOTTEN_AFTER = 10.0  # seconds after which another interrupt counts as a first one again
SAME_WITHIN = 0.05  # seconds within which two interrupts count as one: a key that is held down


class State(enum.Enum):
    """How far a request is."""

    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"
    ABANDONED = "abandoned"
    FINISHED = "finished"


class Event(enum.Enum):
    """What happens to a request."""

    START = "start"
    ANSWER = "answer"
    ABANDON = "abandon"
    FINISH = "finish"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.QUEUED: {
        Event.START: State.RUNNING,
        Event.ANSWER: State.ANSWERED,
        Event.FINISH: State.FINISHED,
    },
    State.RUNNING: {
        Event.ANSWER: State.ANSWERED,
        Event.ABANDON: State.ABANDONED,
        Event.FINISH: State.FINISHED,
    },
    State.ANSWERED: {Event.ABANDON: State.ABANDONED, Event.FINISH: State.FINISHED},
    State.ABANDONED: {Event.FINISH: State.FINISHED},
    State.FINISHED: {},
}


class StopReason(enum.Enum):
    """Why a request was stopped; the first reason wins."""

    INTERRUPT = "interrupt"
    TIMEOUT = "timeout"
    ABORT = "abort"
    SHUTDOWN = "shutdown"
    DELETION = "deletion"  # of its subshell
    TERMINATION = "termination"  # by a signal: it gets no reply


_STOP_ERRORS: dict[StopReason, tuple[type[BaseException], str]] = {
    StopReason.INTERRUPT: (KeyboardInterrupt, ""),
    StopReason.TIMEOUT: (DeadlineExceeded, "the cell was stopped at its deadline"),
    StopReason.ABORT: (AbortedError, "aborted by an abort_request"),
    StopReason.SHUTDOWN: (AbortedError, "the kernel is shutting down"),
    StopReason.DELETION: (AbortedError, "its subshell was deleted"),
    StopReason.TERMINATION: (AbortedError, "the kernel was told to end by a signal"),
}


@attrs.frozen
class Reply:
    """What a handler answers: the content, and where they matter metadata and buffers.

    ``frames`` are further buffers, which are sent without a copy. The handler has to make sure that
    each is `bytes` or a `memoryview` of bytes in one dimension.
    """

    content: Mapping[str, Any]
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    buffers: Sequence[bytes] = ()
    frames: Sequence[Any] = ()

    @property
    def failed(self) -> bool:
        """True for ``status: error``."""
        return self.content.get("status") == "error"


@attrs.frozen
class Outcome:
    """How a handler ended: with a reply (None where none is due), or with an error."""

    reply: Reply | None = None
    error: BaseException | None = None


def _no_kernel() -> None:
    return None


@attrs.define(eq=False)
class Request:
    """A message that a client sent, from its admission to its end.

    What came: ``message``; ``msg_type`` (``execute_request`` and so on) and ``msg_id`` (by which an
    ``abort_request`` names it) from its header; ``channel``, where it came from and where the reply
    goes; ``type``, its row in the kernel's table, None for an unknown one.

    How it is handled: ``priority`` is its place in the queue (smaller goes first), ``size`` the
    bytes that it takes there. ``content`` is the typed content once a handler has parsed it,
    ``metadata`` what the reply's metadata begins with, ``number`` the execution count of an execute
    request that counts, else None. ``stop_on_error`` says that a failure of it aborts the queued
    ones, ``beside`` that the lane goes on to the next request while this one awaits. ``task`` is
    the Trio task that handles it, once it has started, and ``within`` the request whose code has
    that done.

    How it is stopped: ``stop_reason`` and ``stopped_at``, when its scope was first cancelled, by
    its loop's clock. By `time.monotonic`: ``last_stop``, when it was last told to stop, after
    ``stops`` times in all, and ``ended_at``, when its code has ended by that. ``stood`` is the
    stack of its code when it was cancelled, as a traceback, for error messages.
    """

    message: Message
    channel: Channel
    type: MessageType | None
    priority: int
    msg_type: str = attrs.field(init=False)
    msg_id: str = attrs.field(init=False)
    _kernel: Callable[[], Any] | ref[Any] = _no_kernel
    content: Any = None
    number: int | None = None
    size: int = 0
    beside: bool = False
    metadata: dict[str, Any] = attrs.field(factory=dict)
    stop_on_error: bool = False
    state: State = State.QUEUED
    stop_reason: StopReason | None = None
    stopped_at: float | None = None
    stops: int = 0
    last_stop: float = -math.inf
    ended_at: float = -math.inf
    task: trio.lowlevel.Task | None = None
    within: Request | None = None
    stood: TracebackType | None = None
    _deadline: Callable[[], object] | None = None
    _nested_lock: trio.Lock | None = None
    _scopes: list[trio.CancelScope] = attrs.field(factory=list)
    _on_stop: list[Callable[[], object]] = attrs.field(factory=list)
    _after_idle: list[Callable[[], object]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        header = self.message.header
        self.msg_type, self.msg_id = header.msg_type, header.msg_id

    # What it is

    @property
    def kernel(self) -> Any:
        """The kernel that it came to; None when that is gone."""
        return self._kernel()

    @property
    def runs_user_code(self) -> bool:
        """Whether it runs code of the user's: then earlier comm messages start before it."""
        return self.type is not None and self.type.runs_user_code

    @property
    def wants_reply(self) -> bool:
        """Whether a reply is due: comm messages have none."""
        return reply_type(self.message.header.msg_type) is not None

    # How far it is

    def advance(self, event: Event) -> None:
        """Go to the next state. Raises `RuntimeError` for what the table does not allow."""
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            raise RuntimeError(f"a request that is {self.state.value} cannot {event.value}")
        self.state = following

    @property
    def answered(self) -> bool:
        """Whether its reply is out; there is only one."""
        return self.state not in (State.QUEUED, State.RUNNING)

    @property
    def finished(self) -> bool:
        """Whether its ``idle`` is out."""
        return self.state is State.FINISHED or self.state is State.ABANDONED

    @property
    def abandoned(self) -> bool:
        """Whether the lane has gone on without its code: what that returns is for nobody."""
        return self.state is State.ABANDONED

    def after_idle(self, function: Callable[[], object]) -> None:
        """Have ``function`` called once the reply and ``idle`` are out."""
        self._after_idle.append(function)

    def run_after_idle(self) -> None:
        """Its ``idle`` is sent: call what was given to `after_idle`, and wake a thread that blocks
        for it, in `input` for example.
        """
        if self._on_stop:
            self._wake()
        while self._after_idle:
            self._after_idle.pop(0)()
        self.within = None
        self.stood = None  # whatever has the request in its context would keep all frames alive

    def again(self) -> Request:
        """The same message as a new request, which takes this one's place in the queue."""
        size, self.size = self.size, 0
        again = Request(
            self.message, self.channel, self.type, self.priority, self._kernel, size=size
        )
        again.stop_reason = self.stop_reason
        return again

    def replace_deadline(self, withdraw: Callable[[], object]) -> None:
        """Withdraw the earlier deadline. ``withdraw`` is called for the new one, when that is
        replaced or the request is idle.
        """
        if self._deadline is not None:
            self._deadline()
        else:
            self.after_idle(lambda: self._deadline and self._deadline())
        self._deadline = withdraw

    def nested_lock(self) -> trio.Lock:
        """Held by the one task of this request that handles another one within it."""
        if self._nested_lock is None:
            self._nested_lock = trio.Lock()
        return self._nested_lock

    # How it is stopped

    def mark(self, reason: StopReason) -> None:
        """Note that it is to stop, and wake a thread that blocks for it; from any thread.

        A queued request that is marked never starts. A running one goes on until `cancel`.
        """
        self.note_stop(reason)
        self._wake()

    def note_stop(self, reason: StopReason) -> None:
        """Only note that it is to stop, as a signal handler may; the first reason stays."""
        if self.stop_reason is None:
            self.stop_reason = reason

    def count_stop(self, now: float) -> None:
        """Count that it is told to stop. Long after the last time the count starts again, and just
        after it nothing is counted. ``now`` is by `time.monotonic`.
        """
        since = now - self.last_stop
        if since > FORGOTTEN_AFTER:
            self.stops = 1
        elif since > SAME_WITHIN:
            self.stops += 1
        self.last_stop = now

    def cancel(self) -> None:
        """Cancel its innermost scope; in its own loop only.

        Only that one: a scope never catches a cancel that its parent shares, and what is
        around the innermost scope (IPython, say) has to go on and finish properly.
        """
        if self._scopes:
            cancel_for(self._scopes[-1], _reason(self.stop_reason))

    def is_scope(self, scope: object) -> bool:
        """Whether that is one of the scopes that `cancel` may cancel."""
        return scope in self._scopes

    def consume_interrupt(self) -> None:
        """An exception was raised in the user's code, which may handle it.

        This uses up an interrupt; a deadline, an abort and a shutdown stay.
        """
        if self.stop_reason is StopReason.INTERRUPT:
            self.stop_reason = None

    def stop_error(self, *, has_ended: bool = True) -> BaseException:
        """The exception that says why it was stopped, with the stack of its code, if known.

        With ``has_ended`` its code has ended: while it is being answered, it is not stopped again.
        """
        if has_ended:
            self.ended_at = time.monotonic()
        kind, text = _STOP_ERRORS[self.stop_reason or StopReason.INTERRUPT]
        error = kind(text) if text else kind()
        return error.with_traceback(self.stood)

    def on_stop(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Have ``wake`` called when it is to stop, and when it ends; the returned function
        takes that back.
        """
        self._on_stop.append(wake)
        return lambda: self._on_stop.remove(wake)

    def _wake(self) -> None:
        for wake in tuple(self._on_stop):
            wake()


@attrs.define(eq=False)
class RequestScope:
    """A context manager: a cancel scope that `Request.cancel` cancels while it is the request's
    innermost one. It is cancelled from the start if the request is to stop already.
    """

    _request: Request
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def __enter__(self) -> trio.CancelScope:
        scope, request = self._scope.__enter__(), self._request
        if request.stop_reason is not None:
            cancel_for(scope, _reason(request.stop_reason))
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


def _reason(why: StopReason | None) -> str:
    """The reason that Trio puts into `trio.Cancelled`."""
    return "" if why is None else why.value


current_request: ContextVar[Request | None] = ContextVar("current_request", default=None)

background_scope: ContextVar[trio.CancelScope | None] = ContextVar("background_scope", default=None)
"""What to cancel to end the background task that the current one is, or is a part of."""

is_served: ContextVar[bool] = ContextVar("is_served")
"""True in the tasks of a kernel. A host may have others in the same loop, and they are its own."""


class RequestBudget:
    """How many bytes of requests may wait, on all lanes together. From any thread."""

    def __init__(self) -> None:
        self._used = 0
        self._lock = threading.Lock()

    def take(self, request: Request, limit: int) -> bool:
        """Count a request's size; whether the limit is kept."""
        with self._lock:
            self._used += request.size
            return self._used <= limit

    def give_back(self, request: Request) -> None:
        """Count no longer a request that leaves the queue, to be handled or refused."""
        with self._lock:
            self._used -= request.size
        request.size = 0


def request_of(context: Context | None) -> Request | None:
    """The request that a context belongs to; None for that of a background task."""
    if context is None or context.get(background_scope) is not None:
        return None
    return context.get(current_request)
