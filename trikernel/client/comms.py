"""The client's side of comms: named conversations between a frontend and code in the kernel.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from ..wire import Message
from .connection import Connection
from .execution import Execution

__all__ = ["INBOX", "Comm", "Comms"]

INBOX = 10_000  # messages that a comm keeps for its reader; older ones are dropped


class Comm:
    """One open comm. Iterate over it for the kernel's messages; the last `INBOX` are kept.

    ``opening`` is the kernel's ``comm_open`` if the kernel opened it, ``opened`` the client's own
    request if the client opened it: wait for that to know that the kernel has handled it.
    """

    opened: Execution | None = None

    def __init__(
        self, connection: Connection, comm_id: str, target_name: str, opening: Message | None = None
    ) -> None:
        self.comm_id = comm_id
        self.target_name = target_name
        self.opening = opening
        self.closed = False
        self._connection = connection
        self._inbox: deque[Message] = deque(maxlen=INBOX)
        self._failure: Callable[[], Exception] | None = None
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
        """Send a ``comm_msg`` now. `Execution.wait` of the result waits until it is handled."""
        content = {"comm_id": self.comm_id, "data": dict(data or {})}
        return self._connection.send("comm_msg", content, buffers=buffers, metadata=metadata)

    def close(self, data: Mapping[str, Any] | None = None) -> Execution:
        """Send a ``comm_close`` now; the iterator ends."""
        self.end()
        content = {"comm_id": self.comm_id, "data": dict(data or {})}
        return self._connection.send("comm_close", content)

    async def receive(self) -> Message:
        """The kernel's next ``comm_msg``.

        Raises `trio.EndOfChannel` once the comm is closed, `KernelDied` once the kernel has ended.
        If it is cancelled, no message is lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._inbox:
            if self._failure is not None:
                raise self._failure()
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
        """Take a message of the kernel for this comm. Called by the client's receiver."""
        if message.msg_type == "comm_close":
            self.end()
        else:
            self._inbox.append(message)
            self._news.unpark_all()

    def end(self, failure: Callable[[], Exception] | None = None) -> None:
        """The comm is closed, or the kernel has ended: then readers raise ``failure()``."""
        self.closed, self._failure = True, failure
        self._news.unpark_all()


class Comms:
    """The open comms by their ids, also those that the kernel has opened."""

    def __init__(self, connection: Connection) -> None:
        self._comms: dict[str, Comm] = {}
        self._connection = connection

    def add(self, comm_id: str, target_name: str, opening: Message | None = None) -> Comm:
        """Make a comm and keep it."""
        comm = self._comms[comm_id] = Comm(self._connection, comm_id, target_name, opening)
        return comm

    def take(self, message: Message) -> None:
        """Take a ``comm_*`` message of the kernel; one for an unknown comm is ignored."""
        content = message.content
        comm_id = content.get("comm_id")
        if not isinstance(comm_id, str):
            return
        if message.msg_type == "comm_open":
            self.add(comm_id, str(content.get("target_name", "")), message)
        elif comm := self.open.get(comm_id):
            comm.take(message)

    @property
    def open(self) -> dict[str, Comm]:
        """The comms that are open; closed ones are removed here."""
        for comm_id in [name for name, comm in self._comms.items() if comm.closed]:
            del self._comms[comm_id]
        return self._comms

    def fail(self, failure: Callable[[], Exception]) -> None:
        """The kernel has ended: end all comms, whose readers raise what ``failure`` returns."""
        for comm in self.open.values():
            comm.end(failure)
