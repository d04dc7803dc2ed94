"""Raw frames to a kernel that is served, for what no proper client sends or sees.

Tests speak to kernels through `trikernel.testing`. This is for those of raw frames, which its
client neither can nor should handle: headers, dates and signatures made by hand, messages that are
answered by nothing, a peer that does not read or is suddenly gone; and for those of the order in
which messages come one by one, which a client that sorts them by their requests does not keep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import attrs
import trio

import trikernel
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

from .cells import Medium

KEY = b"test-key"
TIMEOUT = 30  # seconds; far more than any test needs


class Peer:
    """Sends and receives frames; it takes no part in anything else. ``iopub`` is what was heard."""

    def __init__(self, transport: ClientTransport) -> None:
        self.transport = transport
        self.codec = Codec(transport.key)
        self.iopub: list[Message] = []

    def send(
        self,
        msg_type: str,
        content: dict[str, Any] | None = None,
        *,
        channel: str = "shell",
        **options: Any,
    ) -> str:
        """Send one message; its id. ``options`` are those of `Codec.encode`."""
        frames = self.codec.encode(msg_type, content or {}, **options)
        self.send_frames(frames, channel=channel)
        return self.codec.decode_header(frames[2]).msg_id

    def send_frames(self, frames: Sequence[bytes], *, channel: str = "shell") -> None:
        getattr(self.transport, channel).send_nowait(frames)

    async def receive(self, channel: str = "shell") -> Message:
        """The next message on a channel."""
        with trio.fail_after(TIMEOUT):
            message = self.codec.decode(await receive(getattr(self.transport, channel)))
        if channel == "iopub":
            self.iopub.append(message)
        return message

    async def until_subscribed(self) -> None:
        """Wait until the kernel has seen this peer's subscription."""
        while (await self.receive("iopub")).msg_type != "iopub_welcome":
            continue

    async def until_idle(self, msg_id: str) -> list[Message]:
        """What iopub says about a request, up to its idle; what it said about others is kept."""
        about = [one for one in self.iopub if one.parent_id == msg_id]
        while not about or about[-1].content.get("execution_state") != "idle":
            message = await self.receive("iopub")
            if message.parent_id == msg_id:
                about.append(message)
        return about


def open_transport(medium: Medium, **options: Any) -> MemoryTransport | ZmqTransport:
    """A kernel's side."""
    if medium == "memory":
        return MemoryTransport(key=KEY, **options)
    return ZmqTransport(ConnectionInfo(key=KEY.decode()), **options)


def connect(transport: Transport, identity: bytes, shell: int = 0) -> ClientTransport:
    """A client's side of the same, on one of the shell channels."""
    if isinstance(transport, MemoryTransport):
        return transport.connect(identity=identity, shell=shell)
    assert isinstance(transport, ZmqTransport)
    info = transport.info
    if shell:
        info = attrs.evolve(info, shell_port=transport.ports[f"shell_{shell}_port"])
    return ZmqClientTransport(info, identity=identity)


@asynccontextmanager
async def served_on(
    transport: MemoryTransport | ZmqTransport, kernel: trikernel.Kernel, *, to_the_end: bool = False
) -> AsyncIterator[None]:
    """Serve over a transport until the block is left; or until the kernel ends by itself."""
    services: Literal["inline", "thread"]
    services = "inline" if isinstance(transport, MemoryTransport) else "thread"
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            serving = partial(trikernel.serve, kernel, transport, services=services)
            server = await nursery.start(serving)
            yield
            if not to_the_end:
                server.stop()


@asynccontextmanager
async def open_peer(
    kernel: trikernel.Kernel, identity: bytes = b"peer", shell: int = 0
) -> AsyncIterator[Peer]:
    """A peer of a kernel that is being served, by the kit or otherwise."""
    transport = connect(kernel.server.transport, identity, shell)
    try:
        peer = Peer(transport)
        await peer.until_subscribed()
        yield peer
    finally:
        transport.close()
