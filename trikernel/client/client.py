"""A Trio client of one kernel: requests out, replies and outputs back, matched by message id.

Works the same over sockets and in memory. Knows nothing of kernels' insides, of processes, nor
of notebooks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from ..errors import WireError
from ..transport import Channel, ClientTransport, receive
from ..wire import Codec, Message

__all__ = ["Client", "Execution", "open_client"]


@attrs.define(eq=False)
class Execution:
    """One request on its way: what it has brought so far, and its reply."""

    msg_id: str
    on_message: Callable[[Message], object] | None = None
    messages: list[Message] = attrs.field(factory=list)
    reply: Message | None = None
    _replied: trio.Event = attrs.field(factory=trio.Event)
    _idle: trio.Event = attrs.field(factory=trio.Event)

    @property
    def status(self) -> str:
        """``ok``, ``error`` or ``aborted``; empty before the reply is there."""
        return str(self.reply.content.get("status", "")) if self.reply is not None else ""

    async def wait(self) -> Message:
        """The reply, once it and ``idle`` are in. Cancelled, nothing is lost: wait again."""
        await self._replied.wait()
        await self._idle.wait()
        assert self.reply is not None
        return self.reply

    def take_reply(self, message: Message) -> None:
        """The reply has come."""
        self.reply = message
        self._replied.set()

    def take(self, message: Message) -> None:
        """Something on iopub has come that is about this request."""
        self.messages.append(message)
        if self.on_message is not None:
            self.on_message(message)
        if message.content.get("execution_state") == "idle" and message.msg_type == "status":
            self._idle.set()


class Client:
    """Speaks to one kernel. Made by `open_client`."""

    def __init__(self, transport: ClientTransport) -> None:
        self._transport = transport
        self._codec = Codec(transport.key, transport.signature_scheme)
        self._pending: dict[str, Execution] = {}

    def send(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        channel: str = "shell",
        metadata: Mapping[str, Any] | None = None,
        on_message: Callable[[Message], object] | None = None,
    ) -> Execution:
        """Send a request now; what it brings gathers in the returned `Execution`."""
        frames = self._codec.encode(msg_type, content, metadata=metadata)
        execution = Execution(self._codec.decode_header(frames[2]).msg_id, on_message)
        self._pending[execution.msg_id] = execution
        chosen: Channel = getattr(self._transport, channel)
        chosen.send_nowait(frames)
        return execution

    async def request(
        self, msg_type: str, content: Mapping[str, Any] | None = None, *, channel: str = "shell"
    ) -> Message:
        """The reply to a request, once it and ``idle`` are in."""
        return await self.send(msg_type, content or {}, channel=channel).wait()

    async def execute(
        self,
        code: str,
        *,
        on_message: Callable[[Message], object] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Execution:
        """Run code; returns when reply and ``idle`` are in.

        ``options`` are fields of an ``execute_request``; ``on_message`` is called with what
        comes on iopub meanwhile.
        """
        content = {"code": code, "silent": False, "allow_stdin": False, **options}
        execution = self.send("execute_request", content, metadata=metadata, on_message=on_message)
        try:
            await execution.wait()
        finally:
            self._pending.pop(execution.msg_id, None)
        return execution

    async def shutdown(self, *, restart: bool = False) -> Message:
        """Ask the kernel to end; its reply."""
        return await self.request("shutdown_request", {"restart": restart}, channel="control")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_replies, self._transport.shell)
            nursery.start_soon(self._receive_replies, self._transport.control)
            nursery.start_soon(self._receive_iopub, self._transport.iopub)
            task_status.started()

    async def _receive_replies(self, channel: Channel) -> None:
        while True:
            message = self._decode(await receive(channel))
            execution = self._find(message)
            if execution is not None and message is not None:
                execution.take_reply(message)

    async def _receive_iopub(self, channel: Channel) -> None:
        while True:
            message = self._decode(await receive(channel))
            execution = self._find(message)
            if execution is not None and message is not None:
                execution.take(message)

    def _decode(self, frames: list[bytes]) -> Message | None:
        try:
            return self._codec.decode(frames)
        except WireError:
            return None

    def _find(self, message: Message | None) -> Execution | None:
        return self._pending.get(message.parent_id or "") if message is not None else None


@asynccontextmanager
async def open_client(transport: ClientTransport) -> AsyncIterator[Client]:
    """A client over ``transport``, receiving while the body runs."""
    client = Client(transport)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()
