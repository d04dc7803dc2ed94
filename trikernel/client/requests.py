"""Requests out, replies and iopub messages in, matched by message id.

The lower half of a client: it knows channels and messages, not what the messages mean to a
kernel's user. What cannot be decoded is counted and dropped, as a kernel does.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from ..errors import KernelDied, WireError
from ..transport import Channel, ClientTransport, receive
from ..wire import Codec, Message
from .execution import Execution

__all__ = ["Requests"]

LAST_WORDS = 0.5  # seconds that replies may take to arrive after what followed them on iopub
BATCH = 32  # messages of one channel, after which other tasks have their turn


class Requests:
    """Sends requests over a transport and gathers what comes back. Used in one Trio loop.

    ``rejected`` counts what could not be read, by the kind of `WireError`. What is in
    ``diverting`` hears iopub messages first; where one returns true, the message is not put to its
    execution.
    """

    def __init__(self, transport: ClientTransport, name: str = "the kernel") -> None:
        self.name = name
        self.rejected: Counter[str] = Counter()
        self.diverting: list[Callable[[Message], bool]] = []
        self._transport = transport
        self._codec = Codec(transport.key, transport.signature_scheme)
        self._unfinished: dict[str, Execution] = {}
        # Weak: who has its answer hears what comes late for as long as somebody holds it.
        self._known: weakref.WeakValueDictionary[str, Execution] = weakref.WeakValueDictionary()
        self._subscribers: set[trio.MemorySendChannel[Message]] = set()
        self._death: Callable[[], KernelDied] | None = None

    # Out

    def send(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        channel: str = "shell",
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
    ) -> Execution:
        """Send a request now; what comes about it gathers in the returned `Execution`.

        Raises `KernelDied` when the kernel is known to have ended.
        """
        if self._death is not None:
            raise self._death()
        frames = self._codec.encode(msg_type, content, metadata=metadata, buffers=buffers)
        msg_id = self._codec.decode_header(frames[2]).msg_id
        execution = Execution(msg_id, msg_type, content)
        self._known[execution.msg_id] = execution
        if execution.has_reply:
            self._unfinished[execution.msg_id] = execution
        chosen: Channel = getattr(self._transport, channel)
        try:
            chosen.send_nowait(frames)
        except trio.ClosedResourceError:
            raise KernelDied(f"{self.name}: this client is closed") from None
        return execution

    async def request(
        self,
        msg_type: str,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str = "shell",
        **options: Any,
    ) -> Message:
        """The reply to a request, once it and ``idle`` are in.

        An error reply is returned like any other: look at ``reply.content["status"]``. Raises
        `KernelDied`. Cancelled, the answer is dropped as it comes.
        """
        execution = self.send(msg_type, content or {}, channel=channel, **options)
        return await (await execution.wait()).wait_reply()

    # In

    @contextmanager
    def subscribe(self) -> Iterator[trio.MemoryReceiveChannel[Message]]:
        """Every iopub message from now on, whatever it is about; not bounded while it is open.

        It ends when the kernel has ended.

        ::

            with client.subscribe() as messages:
                async for message in messages: ...
        """
        send, receiving = trio.open_memory_channel[Message](float("inf"))
        self._subscribers.add(send)
        with send, receiving:
            try:
                yield receiving
            finally:
                self._subscribers.discard(send)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled, or until the transport is closed."""
        transport = self._transport
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, transport.shell, self._take_reply)
            nursery.start_soon(self._receive, transport.control, self._take_reply)
            nursery.start_soon(self._receive, transport.stdin, self._take_question)
            nursery.start_soon(self._receive, transport.iopub, self._take)
            task_status.started()

    async def _receive(self, channel: Channel, take: Callable[[Message], None]) -> None:
        for number in itertools.count(1):
            try:
                if number % BATCH == 0:  # a kernel that floods must not keep other tasks waiting
                    await trio.lowlevel.checkpoint()
                frames = await receive(channel)
            except trio.ClosedResourceError:
                return
            try:
                message = self._codec.decode(frames)
            except WireError as error:
                self.rejected[error.kind] += 1
                continue
            take(message)

    def _take_reply(self, message: Message) -> None:
        if execution := self._known.get(message.parent_id or ""):
            execution.take_reply(message)
            self._tidy(execution)

    def _take(self, message: Message) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber.send_nowait(message)
        taken = any([divert(message) for divert in self.diverting])  # a list: each has to hear it
        if (execution := self._known.get(message.parent_id or "")) and not taken:
            execution.take(message)
            self._tidy(execution)
        if message.msg_type == "update_display_data":
            for other in tuple(self._known.values()):
                if other is not execution:
                    other.update_display(message)

    def _take_question(self, message: Message) -> None:
        """An ``input_request``; answered by whoever knows how."""

    def _waiting(self) -> list[Execution]:
        """What was sent and is not finished, in the order it was sent."""
        return list(self._unfinished.values())

    def _tidy(self, execution: Execution) -> None:
        if execution.done:
            self._unfinished.pop(execution.msg_id, None)

    # The kernel's end

    def die(self, why: str, *, tell_shutdown: bool = True) -> None:
        """The kernel has ended: every waiter raises `KernelDied`, and so does every request.

        With ``tell_shutdown`` off, who asked for the shutdown still waits for its reply.
        """
        text = f"{self.name} {why}"
        if self._death is None:
            self._death = lambda: KernelDied(text)
        for execution in self._waiting():
            if tell_shutdown or execution.msg_type != "shutdown_request":
                execution.fail(lambda: KernelDied(text))
                self._unfinished.pop(execution.msg_id, None)
        for execution in tuple(self._known.values()):
            if not execution.has_reply:
                execution.fail(lambda: KernelDied(text))
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers.clear()

    @property
    def is_dead(self) -> bool:
        """Whether the kernel is known to have ended."""
        return self._death is not None
