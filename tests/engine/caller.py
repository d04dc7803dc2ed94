"""An engine in memory, and who calls it as a scheduler would: packed functions, signed frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from ipyparallel.serialize import deserialize_object, pack_apply_message

from trikernel.core import Server
from trikernel.core import serve as serve_application
from trikernel.engine.application import EngineApplication
from trikernel.engine.registrar import Registered
from trikernel.python import PythonKernel
from trikernel.transport import MemoryTransport
from trikernel.wire import Message

from ..harness import KEY, Peer

ENGINE = "e7f1-the-engine"


class Caller(Peer):
    """Sends calls; `replies` are those that have come, by the id of their call."""

    server: Server
    kernel: PythonKernel
    application: EngineApplication

    def call(
        self,
        f: Callable[..., Any],
        *args: Any,
        metadata: dict[str, Any] | None = None,
        identities: tuple[bytes, ...] = (),
    ) -> str:
        """Send a call; its id."""
        buffers = [bytes(one) for one in pack_apply_message(f, args, {})]
        header = self.codec.header("apply_request")
        frames = self.codec.encode(
            "apply_request",
            {},
            header=header,
            buffers=buffers,
            metadata=metadata,
            identities=identities,
        )
        self.send_frames(frames)
        return self.codec.decode_header(header).msg_id

    async def reply_to(self, msg_id: str, channel: str = "shell") -> Message:
        """The reply to a call; those to others that come before it are kept."""
        while msg_id not in self.replies:
            reply = await self.receive(channel)
            assert reply.parent_id not in self.replies  # each is answered once
            self.replies[reply.parent_id or ""] = reply
        return self.replies[msg_id]

    async def result_of(self, msg_id: str) -> Any:
        """What a call returned."""
        reply = await self.reply_to(msg_id)
        assert reply.content["status"] == "ok", reply.content
        return deserialize_object(list(reply.buffers))[0]

    async def result(self, f: Callable[..., Any], *args: Any) -> Any:
        """Call, and wait for what it returns."""
        return await self.result_of(self.call(f, *args))

    async def ask(self, msg_type: str, content: dict[str, Any]) -> Message:
        """Ask over control."""
        return await self.reply_to(self.send(msg_type, content, channel="control"), "control")

    replies: dict[str, Message]


@asynccontextmanager
async def open_engine() -> AsyncIterator[Caller]:
    """Serve an engine in memory."""
    kernel, transport = PythonKernel(), MemoryTransport(key=KEY)
    application = EngineApplication(kernel, Registered(3, ENGINE, 3.0, []))
    async with trio.open_nursery() as nursery:
        serving = partial(serve_application, application, transport, services="inline")
        server = await nursery.start(serving)
        caller = Caller(transport.connect(identity=b"client"))
        caller.replies, caller.server, caller.kernel = {}, server, kernel
        caller.application = application
        yield caller
        server.stop()
