"""A transport that notes, at the kernel's side, all that the kernel took and all that it sent.

What must hold is then counted from the record, whatever became of the clients meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import trio

from trikernel.errors import WireError
from trikernel.transport import BroadcastChannel, Channel, MemoryTransport
from trikernel.wire import Codec, Limits, Message

__all__ = ["Event", "RecordingTransport"]

LATE = {
    "stream",
    "error",
    "display_data",
    "shutdown_reply",
    "comm_msg",
    "comm_close",
    "debug_event",
}
"""What may be said about a request after its idle: by its background tasks; the last word; a
debugger, which hears of a cell over a connection of its own.
"""


@attrs.frozen(eq=False)
class Event:
    """One message that the kernel took from a channel, or sent there."""

    kind: Literal["taken", "sent"]
    channel: str
    message: Message


class _RecordingChannel:
    """A channel that passes everything on, and notes it."""

    def __init__(self, channel: Channel, recording: RecordingTransport) -> None:
        self._channel = channel
        self._recording = recording
        self.name = channel.name
        self.wait_readable = channel.wait_readable
        self.check_blocking = channel.check_blocking
        self.service_connections = channel.service_connections
        self.wait_readable_blocking = channel.wait_readable_blocking
        self.close = channel.close

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        if self.name == "iopub" and self._recording.stalled:
            raise trio.WouldBlock
        self._recording.note("sent", self.name, frames)
        self._channel.send_nowait(frames)

    def receive_nowait(self) -> list[bytes]:
        frames = self._channel.receive_nowait()
        if self.name != "iopub":
            self._recording.note("taken", self.name, frames)
        return frames


class _RecordingBroadcast(_RecordingChannel):
    """The same for iopub."""

    def __init__(self, channel: BroadcastChannel, recording: RecordingTransport) -> None:
        super().__init__(channel, recording)
        self._broadcast = channel
        self.wait_writable_blocking = channel.wait_writable_blocking

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        self._recording.note("sent", self.name, frames)
        self._broadcast.send_dropping(frames)

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        self._recording.note("sent", self.name, frames)
        self._broadcast.send_beyond(frames)


class RecordingTransport:
    """Wraps a transport; `events` has all of it in order, `assert_kept` says what must hold."""

    def __init__(self, transport: MemoryTransport, limits: Limits) -> None:
        self.key = transport.key
        self.signature_scheme = transport.signature_scheme
        self.transport = transport
        self.events: list[Event] = []
        self._stalled = self._has_stalled = False
        self._taken = Codec(self.key, limits=limits)
        self._sent = Codec(self.key, limits=Limits(replay_window=1 << 24))
        self.shell: Sequence[Channel] = [_RecordingChannel(one, self) for one in transport.shell]
        self.control: Channel = _RecordingChannel(transport.control, self)
        self.stdin: Channel = _RecordingChannel(transport.stdin, self)
        self.iopub: BroadcastChannel = _RecordingBroadcast(transport.iopub, self)

    @property
    def stalled(self) -> bool:
        """Whether a subscriber does not read. Then iopub and replies are no longer in one order."""
        return self._stalled

    @stalled.setter
    def stalled(self, value: bool) -> None:
        self._stalled = value
        self._has_stalled |= value

    @property
    def ports(self) -> Mapping[str, int]:
        return self.transport.ports

    def close(self) -> None:
        self.transport.close()

    def note(self, kind: Literal["taken", "sent"], channel: str, frames: Sequence[bytes]) -> None:
        if kind == "sent":  # a message that is sent twice is a replay, and raises here
            self.events.append(Event(kind, channel, self._sent.decode(frames)))
            return
        try:
            self.events.append(Event(kind, channel, self._taken.decode(frames)))
        except WireError:
            return  # the kernel has to refuse it, too

    def assert_kept(self) -> None:
        """Each request that was taken: busy, output, one reply, idle, in this order; nothing else.

        Comm messages have no reply. Nothing is said about a request that nobody sent.
        """
        taken = [one for one in self.events if one.kind == "taken" and one.channel != "stdin"]
        ids = Counter(one.message.msg_id for one in taken)
        for event in self.events:
            about = event.message.parent_id
            if event.kind == "sent" and about is not None:
                assert about in ids, f"{self._line(event)} answers nobody"
        for event in taken:
            assert ids[event.message.msg_id] == 1, f"{event.message.msg_id} was taken twice"
            self._assert_whole(event)

    def _assert_whole(self, request: Event) -> None:
        message = request.message
        about = [one for one in self.events if one.message.parent_id == message.msg_id]
        about = [one for one in about if one.kind == "sent" and one.channel != "stdin"]
        words = [self._word(one) for one in about]
        text = f"{message.msg_type} {message.content}: {words}"
        assert words.count("busy") == words.count("idle") == 1, text
        assert self.events.index(request) < self.events.index(about[0]), text
        busy, idle = words.index("busy"), words.index("idle")
        assert busy < idle, text
        if not self._has_stalled:
            assert busy == 0, text
            assert set(words[idle + 1 :]) <= LATE, text
        replies = [one for one in about if one.channel == request.channel]
        if message.msg_type.endswith("_request"):
            assert len(replies) == 1, text
            (reply,) = replies
            expected = message.msg_type.removesuffix("_request") + "_reply"
            assert reply.message.msg_type == expected, text
            assert reply.message.identities == message.identities, text
            at = about.index(reply)
            assert self._has_stalled or (at < idle and set(words[at + 1 : idle]) <= LATE), text
        else:
            assert not replies, text

    def requests(self) -> int:
        """How many were taken."""
        return sum(one.kind == "taken" and one.channel != "stdin" for one in self.events)

    def as_text(self) -> str:
        """All of it, a line each, for who has to find out what went wrong."""
        return "\n".join(map(self._line, self.events))

    def _line(self, event: Event) -> str:
        message = event.message
        about = (message.parent_id or "-")[-4:]
        said = str(message.content.get("code", message.content.get("text", "")))[:40]
        arrow = "->" if event.kind == "taken" else "<-"
        return (
            f"{arrow} {event.channel:8} {message.msg_id[-4:]} of {about} {self._word(event)} {said}"
        )

    def _word(self, event: Event) -> str:
        if event.message.msg_type == "status":
            return str(event.message.content["execution_state"])
        return event.message.msg_type
