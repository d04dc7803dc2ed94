"""What comes in over shell and control: read in turns, decoded, put on the lane where it belongs.

`Intake.deliver` is the one place that decides that. Nobody who sends much, with the key or
without it, keeps the loop that reads, or fills the memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import QueueFull, WireError
from ..transport import Channel, Transport
from ..wire import Codec, LaneName, Priority
from .application import Application
from .lane import ShellLane
from .rejections import Rejections
from .request import Request
from .sidelanes import CommLane, ControlLane

__all__ = ["Intake"]

TURN = 64  # messages that are read before other tasks have their turn
SWEEP = 50_000  # messages that an abort reads, to abort them with the rest
BAD = 16  # what refusing a message counts for: whoever floods us with them is read slowly
OVERHEAD = 2048  # bytes that a queued request takes beside its frames


class Intake:
    """The receiving side of a server. ``refuse`` answers a request that finds no room."""

    def __init__(
        self,
        application: Application,
        transport: Transport,
        codec: Codec,
        lanes: tuple[ShellLane, CommLane, ControlLane],
        refuse: Callable[[Request, BaseException], None],
        *,
        inline: bool,
    ) -> None:
        self.rejected = Rejections(application.log)
        self._application = application
        self._transport = transport
        self._codec = codec
        self._shell, self._comm, self._control = lanes
        self._refuse = refuse
        self._inline = inline
        self._queued = 0
        self._lock = threading.Lock()

    @enable_ki_protection
    async def receive(self, channel: Channel) -> None:
        """Deliver what arrives on a channel, forever; nothing is lost when cancelled."""
        while True:
            await channel.wait_readable()
            self.drain(channel, TURN)

    def drain(self, channel: Channel, budget: int = SWEEP) -> None:
        """Deliver what has arrived on a channel, within the budget; in its receiver's loop."""
        while budget > 0:
            try:
                frames = channel.receive_nowait()
            except (trio.WouldBlock, trio.ClosedResourceError):
                return
            budget -= 1 if self.deliver(channel, frames) else BAD

    def sweep(self) -> None:
        """Admit what has already arrived for the shell lane; in the user loop."""
        for channel in self._transport.shell:
            self.drain(channel)

    def deliver(self, channel: Channel, frames: Sequence[bytes]) -> bool:
        """Decode one message and put it on its lane. False if it cannot be decoded."""
        try:
            message = self._codec.decode(frames)
        except WireError as error:
            self.rejected.note(channel.name, error)
            return False
        on_control = channel is self._transport.control
        row = self._application.find(message.header.msg_type)
        if on_control and row is not None and row.lane is LaneName.SHELL and not row.beside:
            priority: int = Priority.CONTROL
        else:
            priority = row.priority if row is not None else Priority.SHELL
        size = sum(map(len, frames)) + OVERHEAD
        request = Request(message, channel, row, priority, self._application, size=size)
        if not self._has_room(size):
            words = "bytes of requests wait already: ask again when some of them have run"
            self._refuse(request, QueueFull(f"{self._application.max_queue_bytes} {words}"))
        elif on_control and (row is None or row.beside):
            self._control.admit(request)
        else:
            lane = self._comm if row is not None and row.lane is LaneName.COMM else self._shell
            if on_control and not self._inline:
                self._shell.post(partial(lane.admit, request))
            else:
                lane.admit(request)
        return True

    def leave(self, request: Request) -> None:
        """A request is no longer queued: it is handled, or refused."""
        with self._lock:
            self._queued -= request.size
        request.size = 0

    def _has_room(self, size: int) -> bool:
        with self._lock:
            self._queued += size
            return self._queued <= self._application.max_queue_bytes
