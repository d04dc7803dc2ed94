"""The client's side of comms: named conversations between a frontend and code in the kernel.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from ..wire import Message
from .execution import Execution
from .requests import Requests

__all__ = ["Comm", "Comms"]


class Comm:
    """One open comm. Iterate over it for the kernel's messages.

    ``opening`` is the kernel's ``comm_open`` if the kernel opened it, ``opened`` the client's own
    request if the client did: wait for that one to know that the kernel has seen it.
    """

    opened: Execution | None = None

    def __init__(
        self, requests: Requests, comm_id: str, target_name: str, opening: Message | None = None
    ) -> None:
        self.comm_id = comm_id
        self.target_name = target_name
        self.opening = opening
        self.closed = False
        self._requests = requests
        self._inbox: deque[Message] = deque()
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<comm {self.comm_id} to {self.target_name!r}{', closed' * self.closed}>"

    def send(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        buffers: Sequence[bytes] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Send a ``comm_msg`` now. ``await`` the result's `Execution.wait` for its idle."""
        content = {"comm_id": self.comm_id, "data": dict(data or {})}
        return self._requests.send("comm_msg", content, buffers=buffers, metadata=metadata)

    def close(self, data: Mapping[str, Any] | None = None) -> Execution:
        """Send a ``comm_close`` now; the iterator ends."""
        self._end()
        content = {"comm_id": self.comm_id, "data": dict(data or {})}
        return self._requests.send("comm_close", content)

    async def receive(self) -> Message:
        """The kernel's next ``comm_msg``. Raises `trio.EndOfChannel` once it is closed.

        Cancelled, it loses none.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._inbox:
            if self.closed:
                raise trio.EndOfChannel
            await self._news.park()
        return self._inbox.popleft()

    def __aiter__(self) -> Comm:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def take(self, message: Message) -> None:
        """What the client's receiver calls."""
        if message.msg_type == "comm_close":
            self._end()
        else:
            self._inbox.append(message)
            self._news.unpark_all()

    def _end(self) -> None:
        self.closed = True
        self._news.unpark_all()


class Comms:
    """The open comms by id, those that the kernel opened too."""

    def __init__(self, requests: Requests) -> None:
        self.open: dict[str, Comm] = {}
        self._requests = requests

    def add(self, comm_id: str, target_name: str, opening: Message | None = None) -> Comm:
        """Remember a comm."""
        comm = self.open[comm_id] = Comm(self._requests, comm_id, target_name, opening)
        return comm

    def take(self, message: Message) -> None:
        """A ``comm_*`` message of the kernel; one that belongs to no comm is ignored."""
        content = message.content
        comm_id = content.get("comm_id")
        if not isinstance(comm_id, str):
            return
        if message.msg_type == "comm_open":
            self.add(comm_id, str(content.get("target_name", "")), message)
        elif comm := self.open.get(comm_id):
            comm.take(message)
            if comm.closed:
                del self.open[comm_id]
