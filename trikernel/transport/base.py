"""What the rest of trikernel sees of a network: channels that carry lists of frames.

Receiving takes two calls, so that a cancel cannot come when a message is taken and not returned:
`Channel.receive_nowait` takes a message or raises `trio.WouldBlock`, without waiting;
`Channel.wait_readable` waits, without taking. Sending never waits and works from any thread.
Knows nothing of what the frames mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

__all__ = [
    "BroadcastChannel",
    "Channel",
    "ClientTransport",
    "Transport",
    "receive",
]

Frames = list[bytes]


class Channel(Protocol):
    """One channel's end: a ROUTER at the kernel, a DEALER at the client.

    At the kernel the first frame is the peer's identity, received and sent.
    """

    @property
    def name(self) -> str:
        """``shell``, ``control``, ``stdin`` or ``iopub``; further shell channels are ``shell_1``
        and so on.
        """

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send one message now; from any thread.

        Raises `trio.WouldBlock` when the peer's queue is full; `PeerGone` when no peer has that
        identity (of a ROUTER with ROUTER_MANDATORY); `trio.ClosedResourceError` after `close`.
        """

    def receive_nowait(self) -> Frames:
        """Take the next message; `trio.WouldBlock` when there is none.

        `trio.ClosedResourceError` after `close`. Only in the thread of the one receiver.
        """

    async def wait_readable(self) -> None:
        """Wait until `receive_nowait` may have a message. It may also return when there is none.

        Cancelled while waiting it loses no message. `trio.ClosedResourceError` when the channel
        is closed, before or meanwhile. One waiter at a time.
        """

    async def service_connections(self) -> None:
        """Handle the peers that connect and disconnect while nobody receives. Runs until cancelled.

        May run beside a receiver, in any loop, and takes no message.
        """

    def check_blocking(self) -> None:
        """Raise `StdinUnavailable` where `wait_readable_blocking` is not possible."""

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Block this thread until a message may be there or ``wake_fd`` is readable.

        `StdinUnavailable` for channels in memory.
        """

    def close(self) -> None:
        """Close; a receiver that waits gets `trio.ClosedResourceError`. May be called twice."""


class BroadcastChannel(Channel, Protocol):
    """The kernel's iopub: an XPUB. It sends messages whose first frame is the topic, and receives
    subscriptions.

    While the queue of any subscriber is full, `send_nowait` raises `trio.WouldBlock` and sends the
    message to nobody. A queue is bounded by a number of messages.
    """

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """Send to every subscriber whose queue is not full; the others lose this message.

        They get no further messages until they have read some of those that are queued for them.
        """

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """Send with room for one message more in each queue, so that subscribers whose queue is
        full get this message, too.

        Raises `trio.WouldBlock` where even that is not possible.
        """

    def wait_writable_blocking(self, seconds: float) -> None:
        """Block this thread until a full queue may have room again, at most ``seconds``.

        From any thread. Signal handlers run meanwhile, and what they raise passes through. No lock
        is held while it waits. It may return while the queue is still full.
        """


class Endpoint(Protocol):
    """What both sides of a connection have."""

    @property
    def key(self) -> bytes:
        """The key that messages are signed with; empty for none."""

    @property
    def signature_scheme(self) -> str:
        """How messages are signed, ``hmac-sha256`` by default."""

    @property
    def control(self) -> Channel:
        """Requests that have to be answered while the kernel is busy."""

    @property
    def stdin(self) -> Channel:
        """The kernel's questions to the person at the frontend, and the answers."""

    def close(self) -> None:
        """Close every channel. Messages that are still queued for peers are sent, within a limited
        time.
        """


class Transport(Endpoint, Protocol):
    """The kernel's side: every channel but the heartbeat, which needs no loop."""

    @property
    def shell(self) -> Sequence[Channel]:
        """The shell channels, at least one."""

    @property
    def iopub(self) -> BroadcastChannel:
        """What the kernel broadcasts to all clients."""

    @property
    def ports(self) -> Mapping[str, int]:
        """What a ``connect_reply`` lists: ``shell_port``, ``iopub_port`` ..."""


class ClientTransport(Endpoint, Protocol):
    """The client's side of the same."""

    @property
    def shell(self) -> Channel:
        """Requests and their replies."""

    @property
    def iopub(self) -> Channel:
        """What the kernel broadcasts; the first frame is the topic."""

    def resubscribe(self) -> None:
        """Connect `iopub` anew: for a client that gets replies, but no messages on iopub."""


async def receive(channel: Channel) -> Frames:
    """The next message, waiting for it. Cancelled, it loses none."""
    await trio.lowlevel.checkpoint_if_cancelled()
    while True:
        try:
            return channel.receive_nowait()
        except trio.WouldBlock:
            await channel.wait_readable()
