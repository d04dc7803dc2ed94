"""A transport without sockets: deques that carry frames between a kernel and its clients.

Made for tests under a virtual clock and for embedding. It routes as ROUTER and XPUB do: by
the first frame, and by subscription. Sending works from any thread, as with sockets.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import trio

from ..errors import PeerGone, StdinUnavailable
from ..system import run_in, runs_here
from .base import Frames

__all__ = ["MemoryClient", "MemoryTransport"]


class _Parking:
    """The place where one receiver parks, and from where any thread may wake it."""

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()
        self._task: trio.lowlevel.Task | None = None
        self.token: trio.lowlevel.TrioToken | None = None  # while somebody parks

    async def park(self, is_due: Callable[[], object]) -> None:
        """Wait for `wake`, unless it is due already. Always a checkpoint.

        ``is_due`` is asked at a moment from which on no `wake` is missed. A second task that
        parks gets `trio.BusyResourceError`.
        """
        if self.token is not None:
            raise trio.BusyResourceError("another task already receives from this channel")
        self._task = trio.lowlevel.current_task()
        self.token = trio.lowlevel.current_trio_token()
        try:
            if is_due():
                await trio.lowlevel.checkpoint()
            else:
                await self._lot.park()
        finally:
            self.token = None

    def wake(self) -> None:
        """Wake the receiver if one is parked; from any thread, and from a finalizer."""
        token = self.token
        if token is None:
            return
        if runs_here(token) and trio.lowlevel.current_task() is not self._task:
            self._lot.unpark_all()
        else:  # from elsewhere, or from a finalizer that hits it as it is about to park
            run_in(token, self._lot.unpark_all)


class MemoryChannel:
    """One end of one channel: an inbox, and a function that delivers what is sent."""

    def __init__(self, name: str, deliver: Callable[[Frames], None]) -> None:
        self.name = name
        self._deliver = deliver
        self._inbox: deque[Frames] = deque()
        self._parking = _Parking()
        self._closed = False

    def put(self, frames: Frames) -> None:
        """Deliver to this end; what comes after `close` is dropped."""
        if not self._closed:
            self._inbox.append(frames)
            if self._parking.token is not None:
                self._parking.wake()

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Deliver to the other end at once."""
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")
        self._deliver([bytes(frame) for frame in frames])

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """The same as `send_nowait`: no queue in memory is ever full."""
        self.send_nowait(frames)

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """The same as `send_nowait`."""
        self.send_nowait(frames)

    def wait_writable_blocking(self, seconds: float) -> None:
        """Return at once: no queue in memory is ever full."""

    def receive_nowait(self) -> Frames:
        """Take the next message from the inbox."""
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")
        try:
            return self._inbox.popleft()
        except IndexError:
            raise trio.WouldBlock from None

    async def wait_readable(self) -> None:
        """Wait until the inbox has something."""
        await self._parking.park(lambda: self._inbox or self._closed)
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")

    async def service_connections(self) -> None:
        """There is nothing to see to."""
        await trio.sleep_forever()

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Not possible here."""
        self.check_blocking()

    def check_blocking(self) -> None:
        """Refuse: the client that should answer may live in this very loop."""
        raise StdinUnavailable(
            "input() in synchronous code needs a kernel with real sockets; "
            "in memory, await the asynchronous input instead"
        )

    def close(self) -> None:
        """Wake the receiver with `trio.ClosedResourceError`."""
        self._closed = True
        self._inbox.clear()
        self._parking.wake()


class MemoryClient:
    """The client's side: the channels of one connection."""

    def __init__(
        self, server: MemoryTransport, identity: bytes, shell: int, topics: Sequence[bytes]
    ) -> None:
        self.key = server.key
        self.signature_scheme = server.signature_scheme
        self.identity = identity
        self._server = server
        self._topics = set(topics)
        self.shell = self._channel(server.shell[shell])
        self.control = self._channel(server.control)
        self.stdin = self._channel(server.stdin)
        self.iopub = MemoryChannel("iopub", self._subscribe)

    def _channel(self, remote: MemoryChannel) -> MemoryChannel:
        return MemoryChannel(remote.name, lambda frames: remote.put([self.identity, *frames]))

    def _subscribe(self, frames: Frames) -> None:
        """What a SUB sends: ``\\x01topic`` subscribes, ``\\x00topic`` unsubscribes."""
        event = frames[0]
        (self._topics.add if event[:1] == b"\x01" else self._topics.discard)(event[1:])
        self._server.iopub.put([event])

    def wants(self, topic: bytes) -> bool:
        """Whether a subscription matches."""
        return b"" in self._topics or topic.startswith(tuple(self._topics))

    def close(self) -> None:
        """Disconnect from the kernel."""
        self._server.forget(self)
        for channel in (self.shell, self.control, self.stdin, self.iopub):
            channel.close()


class MemoryTransport:
    """The kernel's side. ``key`` signs messages as over sockets; empty by default."""

    def __init__(
        self, *, key: bytes = b"", signature_scheme: str = "hmac-sha256", shell_channels: int = 1
    ) -> None:
        self.key = key
        self.signature_scheme = signature_scheme
        self._clients: dict[bytes, MemoryClient] = {}
        self._names = itertools.count(1)
        self.shell = tuple(
            self._router("shell", "shell" if number == 0 else f"shell_{number}")
            for number in range(shell_channels)
        )
        self.control = self._router("control", "control")
        self.stdin = self._router("stdin", "stdin")
        self.iopub = MemoryChannel("iopub", self._broadcast)

    @property
    def ports(self) -> Mapping[str, int]:
        """Nothing listens in memory: every port is 0."""
        names = ("shell", "iopub", "stdin", "control", "hb")
        return {f"{name}_port": 0 for name in names}

    def connect(
        self, *, identity: bytes | None = None, shell: int = 0, topics: Sequence[bytes] = (b"",)
    ) -> MemoryClient:
        """A new client, or (with a known ``identity``) one that takes over from the old one.

        ``shell`` says which shell channel it uses, ``topics`` what it subscribes to.
        """
        identity = identity if identity is not None else b"client-%d" % next(self._names)
        client = MemoryClient(self, identity, shell, topics)
        self._clients[identity] = client
        for topic in topics:
            self.iopub.put([b"\x01" + topic])
        return client

    def forget(self, client: MemoryClient) -> None:
        """Drop a client that disconnected, unless another one took over its identity."""
        if self._clients.get(client.identity) is client:
            del self._clients[client.identity]

    def close(self) -> None:
        """Close the kernel's ends; clients may still read what they were sent."""
        for channel in (*self.shell, self.control, self.stdin, self.iopub):
            channel.close()

    def _router(self, attribute: str, name: str) -> MemoryChannel:
        def deliver(frames: Frames) -> None:
            client = self._clients.get(frames[0])
            if client is None:
                raise PeerGone(f"no client {frames[0]!r} is connected")
            channel: MemoryChannel = getattr(client, attribute)
            channel.put(frames[1:])

        return MemoryChannel(name, deliver)

    def _broadcast(self, frames: Frames) -> None:
        for client in tuple(self._clients.values()):
            if client.wants(frames[0]):
                client.iopub.put(frames)
