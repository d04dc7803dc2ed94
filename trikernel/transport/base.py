"""What the rest of trikernel sees of a network: channels that carry lists of frames.

Receiving is two calls, so that it cannot be half done when a cancel arrives:
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
        """``shell``, ``control``, ``stdin`` or ``iopub``; further shell channels count up."""

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send one message now; from any thread.

        Raises `trio.WouldBlock` when a peer's queue is full, `PeerGone` when there is no such
        peer (where the channel is told to mind), `trio.ClosedResourceError` after `close`.
        """

    def receive_nowait(self) -> Frames:
        """Take the next message; `trio.WouldBlock` when there is none.

        `trio.ClosedResourceError` after `close`. Only in the thread of the one receiver.
        """

    async def wait_readable(self) -> None:
        """Wait until `receive_nowait` may have something. It may also wake for nothing.

        Cancelled while waiting it loses no message. `trio.ClosedResourceError` when the channel
        is closed, before or meanwhile. One waiter at a time.
        """

    async def service_connections(self) -> None:
        """See to what comes and goes on a channel from which nobody receives, forever.

        Runs beside a receiver, in any loop, and takes no message.
        """

    def check_blocking(self) -> None:
        """Raise `StdinUnavailable` where `wait_readable_blocking` is not possible."""

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Block this thread until a message may be there or ``wake_fd`` is readable.

        `StdinUnavailable` for channels in memory.
        """

    def close(self) -> None:
        """Close; a parked receiver gets `trio.ClosedResourceError`. Twice does no harm."""


class BroadcastChannel(Channel, Protocol):
    """The kernel's iopub: an XPUB. The first frame is the topic; received are subscriptions.

    Here `send_nowait` raises `trio.WouldBlock`, and has sent it to nobody, while some subscriber's
    queue is full. A queue is bounded by a number of messages.
    """

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """Send to every subscriber that can take it; those whose queue is full lose it.

        They get nothing more until they have read some of what is queued for them.
        """

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """Send a message that a subscriber gets whose queue is full, too, as the last one.

        Raises `trio.WouldBlock` where even that is not possible.
        """

    def wait_writable_blocking(self, seconds: float) -> None:
        """Block this thread until a full queue may have room again, at most ``seconds``.

        From any thread. Signal handlers run meanwhile, and what they raise passes through; no lock
        is held while it waits. It may come back for nothing.
        """


class Endpoint(Protocol):
    """What both sides of a connection have."""

    @property
    def key(self) -> bytes:
        """The key that messages are signed with; empty for none."""

    @property
    def signature_scheme(self) -> str:
        """``hmac-sha256`` unless told otherwise."""

    @property
    def control(self) -> Channel:
        """What must be heard while the kernel is busy."""

    @property
    def stdin(self) -> Channel:
        """The kernel's questions to the person at the frontend."""

    def close(self) -> None:
        """Close every channel; what is still queued for peers goes out, within a bound."""


class Transport(Endpoint, Protocol):
    """The kernel's side: every channel but the heartbeat, which needs no care."""

    @property
    def shell(self) -> Sequence[Channel]:
        """The shell channels, at least one."""

    @property
    def iopub(self) -> BroadcastChannel:
        """What every client hears."""

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
        """Connect `iopub` anew, where the kernel replies and is not heard there."""


async def receive(channel: Channel) -> Frames:
    """The next message, waiting for it. Cancelled, it loses none."""
    await trio.lowlevel.checkpoint_if_cancelled()
    while True:
        try:
            return channel.receive_nowait()
        except trio.WouldBlock:
            await channel.wait_readable()
