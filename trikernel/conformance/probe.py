"""A kernel under test, and what a check can do with it: send requests or raw frames, and look at
the messages that were received.

`Probe` sends the messages of a check, and keeps what was received as evidence. It does not know how
a kernel is started: the caller who runs the checks passes a `Subject`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..client import Client, Execution, open_client
from ..errors import KernelDied, WireError
from ..transport import ClientTransport, ConnectionInfo, ZmqClientTransport
from ..wire import Codec, Message
from .manifest import NotChecked
from .samples import Samples
from .schema import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .starting import Started

__all__ = ["Log", "Probe", "Subject", "Unread", "is_error", "ok"]

ANSWER = 20  # seconds within which idle, or a reply, must come
NO_REPLY = 2  # seconds after idle within which a reply must come
ALIVE = 10  # seconds within which a living kernel answers a kernel_info_request

Unread = tuple[str, WireError, Sequence[bytes]]
Start = Callable[..., AbstractAsyncContextManager["Started"]]


@attrs.frozen
class Subject:
    """A running kernel. ``info`` says where it listens, None if it is connected in memory. ``spec``
    is its kernelspec, and ``start`` starts another kernel of that; both are None if there is none.
    ``is_apart`` is false if the kernel runs in the loop of the check, so that code which blocks
    would block the check too.
    """

    client: Client
    info: ConnectionInfo | None = None
    spec: Mapping[str, Any] | None = None
    start: Start | None = None
    is_apart: bool = True


@attrs.define(eq=False)
class Log:
    """The requests to all kernels under test, and the messages that were received from them.

    ``unread`` are the last ones that could not be decoded.
    """

    finished: list[Execution] = attrs.field(factory=list)
    iopub: list[Message] = attrs.field(factory=list)
    unread: deque[Unread] = attrs.field(factory=lambda: deque(maxlen=1000))

    kernels: int = 0

    def listen(self, client: Client) -> None:
        """Keep what a client receives on iopub from now on, and what it cannot decode."""
        if self._hear not in client.diverting:
            self.kernels += 1
            client.diverting.append(self._hear)
            client.connection.unread = self.unread

    def unread_after(self, last: Unread | None) -> list[Unread]:
        """What could not be decoded after the message ``last``, which was the last one then; all of
        it for None. Not counted from the first one: ``unread`` drops those in front.
        """
        found = list(itertools.takewhile(lambda one: one is not last, reversed(self.unread)))
        return found[::-1]

    @property
    def last_unread(self) -> Unread | None:
        """The last message that could not be decoded."""
        return self.unread[-1] if self.unread else None

    def _hear(self, message: Message) -> bool:
        self.iopub.append(message)
        return False


class Probe:
    """What a check works with. ``asked`` are its requests, from which the evidence is made."""

    def __init__(self, subject: Subject, samples: Samples, log: Log) -> None:
        self.subject = subject
        self.client = subject.client
        self.log = log
        self.asked: list[Execution] = []
        self.seen: list[Message] = []  # more evidence: messages that belong to none of `asked`
        self.unread: list[Unread] = []  # more evidence: frames that cannot be decoded
        self.samples = samples
        transport = self.transport
        self.codec = Codec(transport.key, transport.signature_scheme)

    @property
    def transport(self) -> ClientTransport:
        """The client's transport, on which checks send frames that no client would send."""
        return self.client.connection.transport

    # Asking

    async def ask(
        self, msg_type: str, content: Mapping[str, Any] | None = None, channel: str = "shell"
    ) -> Execution:
        """Send a request; it is returned when it is done. Raises as `answer` does."""
        return await self.answer(self.client.send(msg_type, content or {}, channel=channel))

    async def execute(self, code: str, **fields: Any) -> Execution:
        """Run code. If it fails, that aborts no other cell, unless ``fields`` say otherwise."""
        return await self.ask("execute_request", {"code": code, "stop_on_error": False, **fields})

    async def answer(
        self, execution: Execution, seconds: float = ANSWER, patience: float = NO_REPLY
    ) -> Execution:
        """Wait until an execution has its idle and its reply; returns the same execution. Raises
        `AssertionError` if no idle comes within ``seconds``, or no reply within ``patience``
        seconds after it.
        """
        self.asked.append(execution)
        self.log.finished.append(execution)
        with trio.move_on_after(seconds) as scope:
            await execution.waiters.until(lambda: execution.idle)
        require(not scope.cancelled_caught, f"{execution.msg_type}: no idle in {seconds:g} seconds")
        if execution.has_reply:
            with trio.move_on_after(patience) as scope:
                await execution.waiters.until(lambda: execution.reply is not None)
            require(
                not scope.cancelled_caught, f"{execution.msg_type}: busy and idle, but no reply"
            )
        return execution

    async def reply(
        self, execution: Execution, seconds: float = ANSWER, why: str = ""
    ) -> Mapping[str, Any]:
        """The reply's content, whether or not idle has come. Raises `AssertionError` if no reply
        comes within ``seconds``; ``why`` is a part of its text.
        """
        self.asked.append(execution)
        with trio.move_on_after(seconds) as scope:
            message = await execution.wait_reply()
        words = f"{execution.msg_type}: no reply in {seconds:g} seconds{' ' * bool(why)}{why}"
        require(not scope.cancelled_caught, words)
        return message.content

    async def begun(self, execution: Execution) -> Execution:
        """Wait for a cell's ``execute_input``, by which one can see that it runs; returns the same
        execution. Raises `AssertionError` if none comes.
        """
        self.asked.append(execution)
        with trio.move_on_after(ANSWER):
            await execution.waiters.until(
                lambda: any(one.msg_type == "execute_input" for one in execution.messages)
            )
            return execution
        raise AssertionError("the cell has not begun")

    async def is_alive(self, *channels: str) -> bool:
        """Whether the kernel answers a kernel_info_request on these channels, by default on shell
        and on control.
        """
        try:
            with trio.move_on_after(ALIVE):
                for channel in channels or ("shell", "control"):
                    await self.client.send("kernel_info_request", {}, channel=channel).wait()
                return True
        except KernelDied:
            pass
        return False

    async def lives_on(self, why: str) -> None:
        """Raise `AssertionError` unless the kernel still answers on shell and on control."""
        for channel in ("shell", "control"):
            execution = self.client.send("kernel_info_request", {}, channel=channel)
            await self.reply(execution, ALIVE, f"on {channel} after {why}")

    # Frames

    def frames(
        self, msg_type: str, content: Any = None, header: Mapping[str, Any] | None = None
    ) -> list[bytes]:
        """A signed message with further fields in its header."""
        from ..wire import json

        fields = {**json.loads(self.codec.header(msg_type)), **(header or {})}
        raw = json.dumps(fields)
        body = content if isinstance(content, bytes) else json.dumps(content or {})
        return self.codec.encode(msg_type, body, header=raw)

    def post(
        self, frames: Sequence[bytes], msg_type: str = "kernel_info_request", channel: str = "shell"
    ) -> Execution:
        """Send the frames of a request, from the delimiter on. The execution that is returned
        collects what comes with it as parent.
        """
        return self.client.connection.post(frames, msg_type, {}, channel)

    def send_frames(self, frames: Sequence[bytes], channel: str) -> None:
        """Send frames as they are, and expect nothing."""
        getattr(self.transport, channel).send_nowait(frames)

    # What it needs

    def sample(self, name: str) -> str:
        """The code of a sample. Raises `NotChecked` if there is none for the kernel's language."""
        code: str | None = getattr(self.samples, name)
        if code is None:
            raise NotChecked(f"there is no sample {name!r} for its language")
        return code

    def needs_apart(self) -> None:
        """Raise `NotChecked` if the kernel runs in the loop of the check."""
        if not self.subject.is_apart:
            raise NotChecked("it needs a kernel in a process of its own")

    @property
    def info(self) -> ConnectionInfo:
        """Where the kernel listens. Raises `NotChecked` if it is connected in memory."""
        if self.subject.info is None:
            raise NotChecked("it needs a kernel with real sockets")
        return self.subject.info

    @property
    def spec(self) -> Mapping[str, Any]:
        """The kernel's kernelspec. Raises `NotChecked` if that is not known."""
        if self.subject.spec is None:
            raise NotChecked("it needs the kernelspec's name")
        return self.subject.spec

    @property
    def start(self) -> Start:
        """Starts another kernel of the same kernelspec. Raises `NotChecked` if there is none."""
        if self.subject.start is None:
            raise NotChecked("it needs a kernel that can be started anew: a kernelspec's name")
        return self.subject.start

    @asynccontextmanager
    async def another_client(self, **options: Any) -> AsyncIterator[Client]:
        """A second client over its own sockets. ``options`` are those of `ZmqClientTransport`."""
        transport = ZmqClientTransport(self.info, **options)
        try:
            async with open_client(transport) as client:
                yield client
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(transport.close)

    # What came

    @property
    def finished(self) -> list[Execution]:
        """Every request until now that has its idle, and its reply if it gets one."""
        return [one for one in self.log.finished if one.idle and (one.reply or not one.has_reply)]

    @property
    def iopub(self) -> list[Message]:
        """Every message that was received on iopub until now, of any parent."""
        return self.log.iopub

    async def some_traffic(self) -> None:
        """Send some requests, if no check has sent any: for checks that only look at messages.
        Raises `NotChecked` if that is no longer possible.
        """
        if not self.log.finished:
            if self.client.is_dead:
                raise NotChecked("the kernel has ended, and was asked nothing before")
            await self.ask("kernel_info_request")
            if self.samples.code is not None:
                await self.execute(self.samples.code)


def ok(execution: Execution) -> dict[str, Any]:
    """The content of a reply. Raises `AssertionError` unless its status is ok."""
    assert execution.reply is not None
    require(execution.status == "ok", f"the reply is {dict(execution.reply.content)!s:.200}")
    return dict(execution.reply.content)


def is_error(execution: Execution) -> None:
    """Raise `AssertionError` unless the reply is an error reply with all its fields."""
    assert execution.reply is not None
    content = execution.reply.content
    what = execution.msg_type
    require(content.get("status") == "error", f"{what}: the reply is {dict(content)!s:.120}")
    missing = {"ename", "evalue", "traceback"} - set(content)
    require(not missing, f"{what}: the error reply has no {', '.join(sorted(missing))}")
