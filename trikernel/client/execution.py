"""One request that was sent: the messages about it, its outputs, its reply, and waiting for them.

An `Execution` is filled by the client's receivers and read by the code that sent the request.
Waiting consumes nothing, so a wait that is cancelled loses nothing and can be repeated. This module
does not know channels.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
import trio

from ..errors import CellFailed, KernelDied
from ..wire import Message, reply_type
from .outputs import OUTPUT_TYPES, Fields, Output, OutputArea, as_output

__all__ = ["CellError", "Execution", "InputHandler", "first_of"]

TURN = 32  # messages that an iterator takes before it lets other tasks run
FAILED = ("error", "aborted", "abort")  # statuses; old kernels say "abort" for "aborted"
FAULTS = 20  # faults of a kernel that one execution keeps at most

_log = logging.getLogger("trikernel.client")

InputHandler = Callable[[str, bool], str | Awaitable[str]]
"""Answers a cell's question: called with the prompt, and whether a password is asked for."""


class _Outputs:
    """An iterator over an execution's outputs, from the first one on. There may be several."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._position = 0

    def __aiter__(self) -> _Outputs:
        return self

    async def __anext__(self) -> Output:
        while (message := await self._next_message()) is not None:
            if message.msg_type in OUTPUT_TYPES:
                return as_output(message)
        raise StopAsyncIteration

    async def _next_message(self) -> Message | None:
        """Wait for the next iopub message; None if the request is idle and there is no more."""
        one, position = self._execution, self._position
        if position % TURN == TURN - 1:  # thousands may be there already: let other tasks run
            await trio.lowlevel.checkpoint()
        await one.waiters.until(lambda: one.idle or len(one.messages) > position)
        if len(one.messages) == position:
            return None
        self._position += 1
        return one.messages[position]


@attrs.frozen
class CellError:
    """The error that a cell ended with, as the kernel sent it."""

    ename: str
    evalue: str
    traceback: list[str] = attrs.field(factory=list, repr=False)

    def __str__(self) -> str:
        return f"{self.ename}: {self.evalue}" if self.evalue else self.ename


class Waiters:
    """Tasks that wait until a condition about a request is true.

    They check it again after each `wake`. A wait that is cancelled loses nothing.
    """

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()
        self._failure: Callable[[], Exception] | None = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true. Raises the error of `fail` if it is still false."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not condition():
            if self._failure is not None:
                raise self._failure()
            await self._lot.park()

    def wake(self) -> None:
        """Have all waiting tasks check their conditions again."""
        self._lot.unpark_all()

    def fail(self, error: Callable[[], Exception]) -> None:
        """No more messages will come: waiting tasks raise what ``error`` returns."""
        if self._failure is None:
            self._failure = error
            self.wake()


class _Read:
    """What was read from the contents of messages about one request, and the faults in them."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.error: CellError | None = None
        self.faults: list[str] = []

    def input(self, message: Message) -> None:
        """Read an ``execute_input``."""
        self._note_count(Fields("execute_input", message.content, self.note))

    def reply(self, message: Message, status: str, is_cell: bool) -> None:
        """Read the reply. The number in an aborted one is ignored, because no cell has run."""
        fields = Fields(message.msg_type, message.content, self.note)
        if status in FAILED:
            ename = fields.text("ename") or status
            self.error = CellError(ename, fields.text("evalue"), fields.lines("traceback"))
        if is_cell and status in ("ok", "error"):
            self._note_count(fields)
        elif is_cell and status not in FAILED:
            self.note(
                "the kernel's execute_reply has a field 'status' that must be "
                f"ok, error or aborted, not {status!r:.80}"
            )

    def note(self, fault: str) -> None:
        """Note and log that the kernel sent something unusable: each fault once, and `FAULTS` at
        most.
        """
        if fault not in self.faults and len(self.faults) < FAULTS:
            self.faults.append(fault)
            _log.warning("%s", fault)

    def _note_count(self, fields: Fields) -> None:
        count = fields.count("execution_count")
        self.count = self.count if count is None else count


class Execution:
    """A request and all messages about it.

    ============  ==========================================================================
    state         reached when
    ============  ==========================================================================
    sent          the request was sent; nothing has come yet
    ``started``   the kernel's ``busy`` has come
    ``idle``      its ``idle`` has come: only tasks that the cell left behind may still print
    ``done``      ``idle`` and the reply have come (in either order, because they use different
                  channels), or it is clear that no reply will come
    ============  ==========================================================================

    ``msg_id`` is the request's id; ``code`` and ``silent`` are fields of its content. ``messages``
    are all iopub messages about it up to idle, in order. ``reply`` is the reply `Message`
    (``reply.content`` is the dictionary on the wire), None until it comes; ``replies`` counts them:
    more than one is a fault of the kernel. ``late`` are messages that came after idle, from tasks
    that outlive the cell; they are in `outputs` too. ``on_change`` may be set to a function that is
    called whenever something changes. ``interrupted`` is set when this client has interrupted the
    request; some kernels then go idle without a reply, and it counts as aborted. ``faults`` are
    sentences about fields that the kernel sent with a value of a wrong type (each is also a warning
    in the log ``trikernel.client``); such fields count as missing. ``stuck`` is set when the cell
    was told to stop and did not; ``stands_in`` is the place where its code is then, if the kernel
    has told it, and ``restarted`` is set if the kernel was restarted because of it. ``subshell_id``
    is the subshell that the request was sent to, None for the main shell.
    """

    def __init__(self, msg_id: str, msg_type: str, content: Mapping[str, Any]) -> None:
        self.msg_id = msg_id
        self.msg_type = msg_type
        self.code = str(content.get("code", ""))
        self.silent = bool(content.get("silent"))
        self.has_reply = reply_type(msg_type) is not None
        self.messages: list[Message] = []
        self.late: list[Message] = []
        self.reply: Message | None = None
        self.replies = 0
        self.started = False
        self.idle = False
        self.interrupted = False
        self.being_stopped = False
        self.stuck = False
        self.restarted = False
        self.stands_in = ""
        self.subshell_id: str | None = None
        self.interrupting: trio.Event | None = None
        self.on_change: Callable[[], object] | None = None
        self.on_input: InputHandler | None = None
        self.answering: trio.CancelScope | None = None
        self.handler_error: Exception | None = None
        self.waiters = Waiters()
        self._unanswered = False
        self._read = _Read()
        self.faults = self._read.faults
        self._area = OutputArea(note=self._read.note)

    def __repr__(self) -> str:
        state = self.status or ("running" if self.started else "sent")
        return f"<{self.msg_type.partition('_')[0]} {self.msg_id}: {state}>"

    # Results

    @property
    def status(self) -> str:
        """``ok``, ``error`` or ``aborted``; empty before the reply has come."""
        if self.reply is None:
            return "aborted" if self._unanswered else ""
        return str(self.reply.content.get("status", ""))

    @property
    def outputs(self) -> list[Output]:
        """The outputs as a notebook keeps them: dictionaries in the shapes of nbformat 4."""
        return self._area.outputs

    @property
    def stdout(self) -> str:
        """The text written to stdout."""
        return self._area.text("stdout")

    @property
    def stderr(self) -> str:
        """The text written to stderr."""
        return self._area.text("stderr")

    @property
    def result(self) -> dict[str, Any] | None:
        """The MIME bundle of the ``execute_result``, or None: ``{"text/plain": "42"}``."""
        for output in reversed(self.outputs):
            if output["output_type"] == "execute_result":
                data: dict[str, Any] = output["data"]
                return data
        return None

    @property
    def error(self) -> CellError | None:
        """The error in the reply; None if its status is ``ok`` or it has not come yet."""
        if self.status not in FAILED:
            return None
        return self._read.error or CellError(self.status, "")

    @property
    def execution_count(self) -> int | None:
        """The number in ``In [n]``, from the reply, or before that from ``execute_input``.

        None for a cell that was aborted before it began, whatever its reply says.
        """
        return self._read.count

    @property
    def done(self) -> bool:
        """Whether reply and idle have come, or idle has come and no reply will."""
        return self.idle and (self.reply is not None or not self.has_reply or self._unanswered)

    def raise_for_error(self) -> Execution:
        """Returns itself. Raises `CellFailed` if there is an `error`."""
        if self.error is not None:
            raise CellFailed(str(self.error), self)
        return self

    # Waiting

    async def wait(self) -> Execution:
        """Wait until reply and idle have come. Returns itself.

        Raises `KernelDied` if the kernel ends before, and what ``on_input`` has raised. If it is
        cancelled nothing is lost: it can be called again.
        """
        await self.waiters.until(lambda: self.done or self.handler_error is not None)
        if self.handler_error is not None:
            raise self.handler_error
        return self

    async def wait_ended(self) -> None:
        """As `wait`, but does not raise the error of ``on_input``. Raises `KernelDied`."""
        await self.waiters.until(lambda: self.done)

    async def wait_started(self) -> Execution:
        """Wait until the kernel is busy with it; returns itself. Raises `KernelDied`. If it is
        cancelled nothing is lost.
        """
        await self.waiters.until(lambda: self.started)
        return self

    async def wait_reply(self) -> Message:
        """Wait for the reply; outputs may still follow. Raises `KernelDied`. If it is cancelled
        nothing is lost.
        """
        await self.waiters.until(lambda: self.reply is not None)
        assert self.reply is not None
        return self.reply

    def __aiter__(self) -> AsyncIterator[Output]:
        """Each output as it comes, from the first one on; ends with idle.

        Text comes in the pieces in which the kernel sent it. Raises `KernelDied`.
        """
        return _Outputs(self)

    # What the client's receivers call

    def take_reply(self, message: Message) -> None:
        """Take the reply; a second one is only counted."""
        self.replies += 1
        if self.reply is None:
            self.reply = message
            self._read.reply(message, self.status, self.msg_type == "execute_request")
            self._changed()

    def take(self, message: Message) -> None:
        """Take an iopub message about this request."""
        (self.late if self.idle else self.messages).append(message)
        self._area.take(message)
        if message.msg_type == "execute_input":
            self._read.input(message)
        if message.msg_type == "status":
            state = message.content.get("execution_state")
            self.started = self.started or state == "busy"
            self.idle = self.idle or state == "idle"
        if self.idle and self.answering is not None:
            self.answering.cancel()
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
        self.waiters.wake()

    def give_up_reply(self) -> None:
        """Note that no reply will come: the request counts as aborted."""
        if self.reply is None:
            self._unanswered = True
            self.waiters.wake()

    def update_display(self, message: Message) -> None:
        """Take another request's ``update_display_data``: it may change a display of this one."""
        if self._area.update(message.content):
            self._changed()


async def first_of(functions: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Wait until one of the functions returns or raises `KernelDied`, and cancel the others."""
    died: list[KernelDied] = []

    async def wait_for(function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except KernelDied as error:
            died.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(wait_for, function)
    if died:
        raise died[0]
