"""A transport without sockets: deques that carry frames between a kernel and its clients.

Made for tests under a virtual clock and for embedding. It routes as ROUTER and XPUB do: by the
first frame, and by subscription. Sending works from any thread, as with sockets.

Each end of a channel reads from an `_Inbox`. The other side has a reference to this inbox only, so
neither side keeps the other one alive.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import attrs
import trio

from ..errors import PeerGone, StdinUnavailable
from ..system import run_in, runs_here
from .base import Frames

__all__ = ["MemoryClient", "MemoryTransport"]


@attrs.define(eq=False)
class _Inbox:
    """What arrives at one end of one channel; any thread may put something in."""

    name: str
    frames: deque[Frames] = attrs.field(factory=deque)
    is_closed: bool = False
    token: trio.lowlevel.TrioToken | None = None  # of the loop of a receiver that waits
    task: trio.lowlevel.Task | None = None
    lot: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def put(self, frames: Frames) -> None:
        """Add a message; it is dropped if this end is closed."""
        if not self.is_closed:
            self.frames.append(frames)
            if self.token is not None:
                self.wake()

    def wake(self) -> None:
        """Wake the receiver if one waits; from any thread, and from a finalizer."""
        token = self.token
        if token is None:
            return
        if runs_here(token) and trio.lowlevel.current_task() is not self.task:
            self.lot.unpark_all()
        else:  # from another thread, or from a finalizer that runs as the receiver is about to park
            run_in(token, self.lot.unpark_all)


class _MemoryChannel:
    """One end of one channel; subclasses send. The other side puts its messages into ``inbox``."""

    def __init__(self, inbox: _Inbox) -> None:
        self.name = inbox.name
        self.inbox = inbox

    def receive_nowait(self) -> Frames:
        """Take the next message from the inbox."""
        if self.inbox.is_closed:
            raise self._closed()
        try:
            return self.inbox.frames.popleft()
        except IndexError:
            raise trio.WouldBlock from None

    async def wait_readable(self) -> None:
        """Wait until the inbox has something."""
        inbox = self.inbox
        if inbox.token is not None:
            raise trio.BusyResourceError("another task already receives from this channel")
        inbox.task = trio.lowlevel.current_task()
        inbox.token = trio.lowlevel.current_trio_token()  # from here on each `put` wakes this task
        try:
            if inbox.frames or inbox.is_closed:
                await trio.lowlevel.checkpoint()
            else:
                await inbox.lot.park()
        finally:
            inbox.token = None
        if self.inbox.is_closed:
            raise self._closed()

    async def service_connections(self) -> None:
        """Nothing has to be done in memory."""
        await trio.sleep_forever()

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Raises `StdinUnavailable`."""
        self.check_blocking()

    def check_blocking(self) -> None:
        """Raises `StdinUnavailable`: the client that should answer may run in this same loop."""
        raise StdinUnavailable(
            "input() in synchronous code needs a kernel with real sockets; "
            "in memory, await the asynchronous input instead"
        )

    def close(self) -> None:
        """Close; a receiver that waits gets `trio.ClosedResourceError`."""
        self.inbox.is_closed = True
        self.inbox.frames.clear()
        self.inbox.wake()

    def _closed(self) -> trio.ClosedResourceError:
        return trio.ClosedResourceError(f"the {self.name} channel is closed")


class _Dealer(_MemoryChannel):
    """A client's end: what it sends goes to the kernel under its identity."""

    def __init__(self, inbox: _Inbox, identity: bytes, remote: _Inbox) -> None:
        super().__init__(inbox)
        self._identity = identity
        self._remote = remote

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Deliver to the kernel at once."""
        if self.inbox.is_closed:
            raise self._closed()
        self._remote.put([self._identity, *map(bytes, frames)])


class _Router(_MemoryChannel):
    """A kernel's end: the first frame says which client a message is for."""

    def __init__(self, name: str) -> None:
        super().__init__(_Inbox(name))
        self.routes: dict[bytes, _Inbox] = {}

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Deliver to that client at once. Raises `PeerGone`."""
        if self.inbox.is_closed:
            raise self._closed()
        client = self.routes.get(frames[0])
        if client is None:
            raise PeerGone(f"no client {frames[0]!r} is connected")
        client.put([bytes(frame) for frame in frames[1:]])


@attrs.frozen(eq=False)
class _Subscriber:
    inbox: _Inbox
    topics: set[bytes]


class _Publisher(_MemoryChannel):
    """A kernel's iopub: the first frame is the topic."""

    def __init__(self) -> None:
        super().__init__(_Inbox("iopub"))
        self.subscribers: dict[bytes, _Subscriber] = {}

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Deliver to each client that has subscribed to a beginning of the topic."""
        if self.inbox.is_closed:
            raise self._closed()
        topic = frames[0]
        for one in tuple(self.subscribers.values()):
            if b"" in one.topics or topic.startswith(tuple(one.topics)):
                one.inbox.put([bytes(frame) for frame in frames])

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """The same as `send_nowait`: no queue in memory is ever full."""
        self.send_nowait(frames)

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """The same as `send_nowait`."""
        self.send_nowait(frames)

    def wait_writable_blocking(self, seconds: float) -> None:
        """Return at once: no queue in memory is ever full."""


class _SubscriberEnd(_MemoryChannel):
    """A client's iopub: it receives what the kernel publishes, and sends subscriptions."""

    def __init__(self, subscriber: _Subscriber, remote: _Inbox) -> None:
        super().__init__(subscriber.inbox)
        self._topics = subscriber.topics
        self._remote = remote

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send what a SUB sends: ``\\x01topic`` subscribes, ``\\x00topic`` unsubscribes."""
        if self.inbox.is_closed:
            raise self._closed()
        event = bytes(frames[0])
        (self._topics.add if event[:1] == b"\x01" else self._topics.discard)(event[1:])
        self._remote.put([event])


class MemoryClient:
    """The client's side: the channels of one connection. `MemoryTransport.connect` makes it."""

    def __init__(
        self,
        key: bytes,
        signature_scheme: str,
        identity: bytes,
        routers: Mapping[str, _Router],
        publisher: _Publisher,
        topics: Sequence[bytes],
    ) -> None:
        self.key = key
        self.signature_scheme = signature_scheme
        self.identity = identity
        self._tables = [router.routes for router in routers.values()]
        self._subscribers = publisher.subscribers
        self.shell, self.control, self.stdin = (
            self._dealer(routers[name]) for name in ("shell", "control", "stdin")
        )
        self._subscriber = _Subscriber(_Inbox("iopub"), set(topics))
        self._subscribers[identity] = self._subscriber
        self.iopub = _SubscriberEnd(self._subscriber, publisher.inbox)

    def _dealer(self, router: _Router) -> _Dealer:
        inbox = router.routes[self.identity] = _Inbox(router.name)
        return _Dealer(inbox, self.identity, router.inbox)

    def resubscribe(self) -> None:
        """Does nothing: connections in memory do not get lost."""

    def close(self) -> None:
        """Close the channels, and disconnect from the kernel, unless another client has taken over
        this one's identity.
        """
        if self._subscribers.get(self.identity) is self._subscriber:
            del self._subscribers[self.identity]
            for routes in self._tables:
                del routes[self.identity]
        for channel in (self.shell, self.control, self.stdin, self.iopub):
            channel.close()


class MemoryTransport:
    """The kernel's side. ``key`` signs messages as over sockets; empty by default."""

    def __init__(
        self, *, key: bytes = b"", signature_scheme: str = "hmac-sha256", shell_channels: int = 1
    ) -> None:
        self.key = key
        self.signature_scheme = signature_scheme
        self._names = itertools.count(1)
        self.shell = tuple(
            _Router("shell" if number == 0 else f"shell_{number}")
            for number in range(shell_channels)
        )
        self.control = _Router("control")
        self.stdin = _Router("stdin")
        self.iopub = _Publisher()

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
        for router in (*self.shell, self.control, self.stdin):
            router.routes.pop(identity, None)
        routers = {"shell": self.shell[shell], "control": self.control, "stdin": self.stdin}
        client = MemoryClient(
            self.key, self.signature_scheme, identity, routers, self.iopub, topics
        )
        for topic in topics:
            self.iopub.inbox.put([b"\x01" + topic])
        return client

    def close(self) -> None:
        """Close the kernel's ends; clients may still read what they were sent."""
        for channel in (*self.shell, self.control, self.stdin, self.iopub):
            channel.close()
