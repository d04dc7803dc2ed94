"""A kernel served for one test, and a plain client of it that keeps everything it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import trio

import trikernel
from trikernel.core import Server
from trikernel.transport import (
    ClientTransport,
    ConnectionInfo,
    MemoryTransport,
    Transport,
    ZmqClientTransport,
    ZmqTransport,
    receive,
)
from trikernel.wire import Codec, Message

KEY = b"test-key"
TIMEOUT = 30  # seconds; far more than any test needs

Medium = Literal["memory", "tcp"]


class Heard:
    """What one request brought: its reply, and what iopub said about it, in order."""

    def __init__(self, reply: Message | None, iopub: list[Message]) -> None:
        self.message = reply
        self.iopub = iopub

    @property
    def reply(self) -> dict[str, Any]:
        assert self.message is not None
        return dict(self.message.content)

    @property
    def types(self) -> list[str]:
        """``status:busy``, ``stream``, ..."""
        return [
            f"status:{one.content['execution_state']}" if one.msg_type == "status" else one.msg_type
            for one in self.iopub
        ]

    def contents(self, msg_type: str) -> list[dict[str, Any]]:
        return [dict(one.content) for one in self.iopub if one.msg_type == msg_type]

    def text(self, name: str = "stdout") -> str:
        return "".join(one["text"] for one in self.contents("stream") if one["name"] == name)


class Peer:
    """A client that sends and receives; it takes no part in anything else."""

    def __init__(self, transport: ClientTransport, server: Server) -> None:
        self.transport = transport
        self.server = server
        self.codec = Codec(transport.key)
        self.iopub: list[Message] = []

    def send(
        self,
        msg_type: str,
        content: dict[str, Any] | None = None,
        *,
        channel: str = "shell",
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
        parent: Any = None,
    ) -> str:
        """Send one message; its id."""
        frames = self.codec.encode(
            msg_type, content or {}, metadata=metadata, buffers=buffers, parent=parent
        )
        self.send_frames(frames, channel=channel)
        return self.codec.decode_header(frames[2]).msg_id

    def send_frames(self, frames: Sequence[bytes], *, channel: str = "shell") -> None:
        getattr(self.transport, channel).send_nowait(frames)

    async def receive(self, channel: str = "shell") -> Message:
        with trio.fail_after(TIMEOUT):
            return self.codec.decode(await receive(getattr(self.transport, channel)))

    async def hear(self) -> Message:
        """The next message on iopub."""
        message = await self.receive("iopub")
        self.iopub.append(message)
        return message

    async def ask(
        self,
        msg_type: str,
        content: dict[str, Any] | None = None,
        *,
        channel: str = "shell",
        **options: Any,
    ) -> Heard:
        """Send a request, wait for its reply and its idle."""
        msg_id = self.send(msg_type, content, channel=channel, **options)
        reply = await self.receive(channel)
        assert reply.parent_id == msg_id, (reply.msg_type, reply.content)
        return Heard(reply, await self.until_idle(msg_id))

    async def until_idle(self, msg_id: str) -> list[Message]:
        """What iopub says about a request, up to its idle; what it said about others is kept."""
        about = [one for one in self.iopub if one.parent_id == msg_id]
        while not about or about[-1].content.get("execution_state") != "idle":
            message = await self.hear()
            if message.parent_id == msg_id:
                about.append(message)
        return about

    async def execute(self, code: str, **options: Any) -> Heard:
        return await self.ask("execute_request", {"code": code, **options})

    async def until_subscribed(self) -> None:
        """Wait until the kernel has seen this client's subscription."""
        while (await self.hear()).msg_type != "iopub_welcome":
            continue


def open_transport(medium: Medium, **options: Any) -> MemoryTransport | ZmqTransport:
    if medium == "memory":
        return MemoryTransport(key=KEY, **options)
    return ZmqTransport(ConnectionInfo(key=KEY.decode()), **options)


def connect(transport: Transport, identity: bytes, shell: int = 0) -> ClientTransport:
    if isinstance(transport, MemoryTransport):
        return transport.connect(identity=identity, shell=shell)
    assert isinstance(transport, ZmqTransport)
    info = transport.info
    if shell:
        import attrs

        info = attrs.evolve(info, shell_port=transport.ports[f"shell_{shell}_port"])
    return ZmqClientTransport(info, identity=identity)


@asynccontextmanager
async def open_peers(
    kernel: trikernel.Kernel,
    medium: Medium,
    *,
    count: int = 1,
    shells: Sequence[int] | None = None,
    shell_channels: int = 1,
    services: Literal["thread", "inline"] | None = None,
) -> AsyncIterator[list[Peer]]:
    """Serve ``kernel`` and connect clients, each on the shell channel that ``shells`` names."""
    transport = open_transport(medium, shell_channels=shell_channels)
    clients = []
    try:
        async with trio.open_nursery() as nursery:
            serving = partial(
                trikernel.serve,
                kernel,
                transport,
                services=services or ("inline" if medium == "memory" else "thread"),
            )
            server: Server = await nursery.start(serving)
            for number, shell in enumerate(shells or [0] * count):
                clients.append(connect(transport, b"peer-%d" % number, shell))
            peers = [Peer(client, server) for client in clients]
            for peer in peers:
                await peer.until_subscribed()
            yield peers
            server.stop()
    finally:
        for client in clients:
            client.close()
        transport.close()


@asynccontextmanager
async def open_peer(
    kernel: trikernel.Kernel, medium: Medium = "memory", **options: Any
) -> AsyncIterator[Peer]:
    """Serve ``kernel`` and connect one client."""
    async with open_peers(kernel, medium, **options) as peers:
        yield peers[0]
