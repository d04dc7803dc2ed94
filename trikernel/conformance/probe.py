"""A kernel under test, and what a check may do with it: ask, send frames, look at what came.

What it turns into what: a requirement's check into messages, and what came into evidence. It does
not know how a kernel is started; who runs the checks hands it what it may use.
"""

from __future__ import annotations

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

ANSWER = 20  # seconds in which anything at all must come
NO_REPLY = 2  # seconds after idle in which a reply must come
ALIVE = 10  # seconds in which a kernel that lives says who it is

Unread = tuple[str, WireError, Sequence[bytes]]
Start = Callable[..., AbstractAsyncContextManager["Started"]]


@attrs.frozen
class Subject:
    """A kernel that is there. ``spec`` is its kernelspec, ``start`` starts another of it, where
    that is possible; ``info`` says where it listens, None in memory. ``is_apart`` is false where it
    shares this very loop, so that code which blocks would keep the check waiting too.
    """

    client: Client
    info: ConnectionInfo | None = None
    spec: Mapping[str, Any] | None = None
    start: Start | None = None
    is_apart: bool = True


@attrs.define(eq=False)
class Log:
    """What was asked and what came until now, of all kernels that were under test."""

    finished: list[Execution] = attrs.field(factory=list)
    iopub: list[Message] = attrs.field(factory=list)
    unread: deque[Unread] = attrs.field(factory=lambda: deque(maxlen=1000))

    kernels: int = 0

    def listen(self, client: Client) -> None:
        """Keep what a client hears from now on."""
        if self._hear not in client.diverting:
            self.kernels += 1
            client.diverting.append(self._hear)
            client.connection.unread = self.unread

    def _hear(self, message: Message) -> bool:
        self.iopub.append(message)
        return False


class Probe:
    """What a check has. ``asked`` are its requests, from which the evidence is made."""

    def __init__(self, subject: Subject, samples: Samples, log: Log) -> None:
        self.subject = subject
        self.client = subject.client
        self.log = log
        self.asked: list[Execution] = []
        self.seen: list[Message] = []  # more evidence, of what nobody asked for
        self.unread: list[Unread] = []  # and of frames that are no message
        self.samples = samples
        transport = self.transport
        self.codec = Codec(transport.key, transport.signature_scheme)

    @property
    def transport(self) -> ClientTransport:
        """The client's: frames that no client would send go out there."""
        return self.client.connection.transport

    # Asking

    async def ask(
        self, msg_type: str, content: Mapping[str, Any] | None = None, channel: str = "shell"
    ) -> Execution:
        """A request, and all that came of it. Raises `AssertionError` if no answer comes."""
        return await self.answer(self.client.send(msg_type, content or {}, channel=channel))

    async def execute(self, code: str, **fields: Any) -> Execution:
        """Run code; a failure aborts nothing unless ``fields`` say so."""
        return await self.ask("execute_request", {"code": code, "stop_on_error": False, **fields})

    async def answer(
        self, execution: Execution, seconds: float = ANSWER, patience: float = NO_REPLY
    ) -> Execution:
        """The same execution, once it is done. Raises `AssertionError` if that does not come within
        so many seconds, or no reply with so much ``patience`` after idle.
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
        """The reply's content, whether or not idle is in."""
        self.asked.append(execution)
        with trio.move_on_after(seconds) as scope:
            message = await execution.wait_reply()
        words = f"{execution.msg_type}: no reply in {seconds:g} seconds{' ' * bool(why)}{why}"
        require(not scope.cancelled_caught, words)
        return message.content

    async def begun(self, execution: Execution) -> Execution:
        """The same execution, once its cell runs, as far as one can tell."""
        self.asked.append(execution)
        with trio.move_on_after(ANSWER):
            await execution.waiters.until(
                lambda: any(one.msg_type == "execute_input" for one in execution.messages)
            )
            return execution
        raise AssertionError("the cell has not begun")

    async def is_alive(self) -> bool:
        """Whether it says on shell and on control who it is."""
        try:
            with trio.move_on_after(ALIVE):
                for channel in ("shell", "control"):
                    await self.client.send("kernel_info_request", {}, channel=channel).wait()
                return True
        except KernelDied:
            pass
        return False

    async def lives_on(self, why: str) -> None:
        """It must still answer on shell and on control after what it was sent."""
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
        """Send frames that begin at the delimiter; what comes about them gathers there."""
        return self.client.connection.post(frames, msg_type, {}, channel)

    def send_frames(self, frames: Sequence[bytes], channel: str) -> None:
        """Send frames that are no message."""
        getattr(self.transport, channel).send_nowait(frames)

    # What it needs

    def sample(self, name: str) -> str:
        """A sample. Raises `NotChecked` if there is none."""
        code: str | None = getattr(self.samples, name)
        if code is None:
            raise NotChecked(f"there is no sample {name!r} for its language")
        return code

    def needs_apart(self) -> None:
        """Raises `NotChecked` for a kernel in this very loop."""
        if not self.subject.is_apart:
            raise NotChecked("it needs a kernel in a process of its own")

    @property
    def info(self) -> ConnectionInfo:
        """Where it listens. Raises `NotChecked` in memory."""
        if self.subject.info is None:
            raise NotChecked("it needs a kernel with real sockets")
        return self.subject.info

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its kernelspec. Raises `NotChecked` where that is not known."""
        if self.subject.spec is None:
            raise NotChecked("it needs the kernelspec's name")
        return self.subject.spec

    @property
    def start(self) -> Start:
        """Starts another kernel of the same kernelspec. Raises `NotChecked`."""
        if self.subject.start is None:
            raise NotChecked("it needs a kernel that can be started anew: a kernelspec's name")
        return self.subject.start

    @asynccontextmanager
    async def another_client(self, **options: Any) -> AsyncIterator[Client]:
        """A second client over sockets of its own. ``options`` are the transport's."""
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
        """Every request until now that got an answer."""
        return [one for one in self.log.finished if one.idle and (one.reply or not one.has_reply)]

    @property
    def iopub(self) -> list[Message]:
        """Everything that came on iopub until now, whatever it was about."""
        return self.log.iopub

    async def some_traffic(self) -> None:
        """For those that look at what came: see that something came."""
        if not self.log.finished:
            await self.ask("kernel_info_request")
            if self.samples.code is not None:
                await self.execute(self.samples.code)


def ok(execution: Execution) -> dict[str, Any]:
    """The content of a reply that must be ok."""
    assert execution.reply is not None
    require(execution.status == "ok", f"the reply is {dict(execution.reply.content)!s:.200}")
    return dict(execution.reply.content)


def is_error(execution: Execution) -> None:
    """The reply must be a whole error reply."""
    assert execution.reply is not None
    content = execution.reply.content
    what = execution.msg_type
    require(content.get("status") == "error", f"{what}: the reply is {dict(content)!s:.120}")
    missing = {"ename", "evalue", "traceback"} - set(content)
    require(not missing, f"{what}: the error reply has no {', '.join(sorted(missing))}")
