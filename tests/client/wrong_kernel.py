"""A kernel that sends what no kernel should: whatever a test gives it, on the wire, unchecked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trikernel.client import Client, open_client
from trikernel.transport import Channel, MemoryTransport, receive
from trikernel.wire import Codec, Message

Contents = Sequence[tuple[str, dict[str, Any]]]
LANGUAGE = {"name": "wrong"}


class WrongKernel:
    """Answers each cell with ``messages`` on iopub and with ``reply``, as they are.

    ``info`` is the content of its ``kernel_info_reply``.
    """

    def __init__(
        self,
        messages: Contents = (),
        reply: dict[str, Any] | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        self._messages = messages
        self._replies = {
            "execute_request": {"status": "ok", "execution_count": 1} if reply is None else reply,
            "kernel_info_request": {"language_info": LANGUAGE} if info is None else info,
        }
        self._transport = MemoryTransport(key=b"test")
        self._codec = Codec(b"test")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Serve it, and have a client of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, self._transport.shell[0])
            nursery.start_soon(self._serve, self._transport.control)
            connection = self._transport.connect()
            async with open_client(connection) as client:
                yield client
            nursery.cancel_scope.cancel()

    async def _serve(self, channel: Channel) -> None:
        while True:
            identity, *frames = await receive(channel)
            request = self._codec.decode(frames)
            self._publish(request, "status", {"execution_state": "busy"})
            if request.msg_type == "execute_request":
                for msg_type, content in self._messages:
                    self._publish(request, msg_type, content)
            kind = request.msg_type.replace("_request", "_reply")
            frames = self._codec.encode(
                kind, self._replies[request.msg_type], parent=request.header
            )
            channel.send_nowait([identity, *frames])
            self._publish(request, "status", {"execution_state": "idle"})

    def _publish(self, request: Message, msg_type: str, content: dict[str, Any]) -> None:
        frames = self._codec.encode(msg_type, content, parent=request.header)
        self._transport.iopub.send_nowait([b"topic", *frames])
