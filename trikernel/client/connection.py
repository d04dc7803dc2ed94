"""Requests out, replies and iopub messages in, matched by message id.

The lower half of a client: it knows channels and messages, not what the messages mean to the
client's user. Messages that cannot be decoded are counted and dropped, as by a kernel: one bad
message must not end a session. A client holds it, and gives `Connection.run` its callbacks.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from ..errors import KernelDied, WireError
from ..transport import Channel, ClientTransport, receive
from ..wire import Codec, Message
from .execution import Execution

__all__ = ["Connection"]

UNREAD = 20  # messages that could not be decoded and are kept, for whoever looks for the reason
BATCH = 32  # messages of one channel that are received before other tasks run


class Connection:
    """Sends requests over a transport and gathers what comes back. Used in one Trio loop.

    ``rejected`` counts the messages that could not be decoded, by the kind of `WireError`, and
    ``unread`` keeps the last ones: the channel's name, the error, the frames. Functions in
    ``diverting`` are called first with each iopub message; if one returns true, neither the
    message's execution nor its comm gets it.
    """

    def __init__(self, transport: ClientTransport, name: str) -> None:
        self.name = name
        self.rejected: Counter[str] = Counter()
        self.unread: deque[tuple[str, WireError, Sequence[bytes]]] = deque(maxlen=UNREAD)
        self.diverting: list[Callable[[Message], bool]] = []
        self.transport = transport
        self._codec = Codec(transport.key, transport.signature_scheme)
        self._unfinished: dict[str, Execution] = {}
        # Weak: messages that come after its end still reach an execution that somebody holds.
        self._known: weakref.WeakValueDictionary[str, Execution] = weakref.WeakValueDictionary()
        self._subscribers: set[trio.MemorySendChannel[Message]] = set()
        self._death: Callable[[], KernelDied] | None = None
        self._nursery: trio.Nursery | None = None
        self._receiving = trio.CancelScope()
        self._left = trio.Event()

    # Out

    def send(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        channel: str = "shell",
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
        subshell_id: str | None = None,
    ) -> Execution:
        """Send a request now; what comes about it gathers in the returned `Execution`.

        Raises `KernelDied` when the kernel is known to have ended.
        """
        header = self._codec.header(msg_type, subshell_id=subshell_id) if subshell_id else None
        frames = self._codec.encode(
            msg_type, content, metadata=metadata, buffers=buffers, header=header
        )
        execution = self.post(frames, msg_type, content, channel)
        execution.subshell_id = subshell_id
        return execution

    def post(
        self, frames: Sequence[bytes], msg_type: str, content: Mapping[str, Any], channel: str
    ) -> Execution:
        """The same for a request that is frames already: the delimiter, its signature, its header
        and so on. Only its header has to be one that can be read. Raises as `send`.
        """
        if self._death is not None:
            raise self._death()
        execution = Execution(self._codec.decode_header(frames[2]).msg_id, msg_type, content)
        self._known[execution.msg_id] = execution
        if execution.has_reply:
            self._unfinished[execution.msg_id] = execution
        chosen: Channel = getattr(self.transport, channel)
        try:
            chosen.send_nowait(frames)
        except trio.ClosedResourceError:
            raise KernelDied(f"{self.name}: this client is closed") from None
        return execution

    def answer(self, question: Message, value: str) -> None:
        """Send the ``input_reply`` to an ``input_request``."""
        frames = self._codec.encode("input_reply", {"value": value}, parent=question.header)
        self.transport.stdin.send_nowait(frames)

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

    async def run(
        self,
        hear: Callable[[Message], None],
        ask: Callable[[Message, Execution], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Receive until cancelled, or until the transport is closed.

        ``hear`` is called with each iopub message once its execution has it, but not with a comm's
        that was diverted, ``ask`` with each ``input_request`` and the execution that it belongs to.
        Neither may raise.
        """

        def take(message: Message) -> None:
            is_diverted = self._take(message)
            if not (is_diverted and message.msg_type.startswith("comm_")):
                hear(message)

        def take_question(message: Message) -> None:
            execution = self.find(message.parent_id)
            if execution is not None and message.msg_type == "input_request":
                ask(message, execution)

        async with trio.open_nursery() as self._nursery:
            transport: ClientTransport | None = None
            while self.transport is not transport:  # it was replaced
                self._left.set()
                transport, self._left = self.transport, trio.Event()
                async with trio.open_nursery() as nursery:
                    self._receiving = nursery.cancel_scope
                    nursery.start_soon(self._receive, transport.shell, self._take_reply)
                    nursery.start_soon(self._receive, transport.control, self._take_reply)
                    nursery.start_soon(self._receive, transport.stdin, take_question)
                    nursery.start_soon(self._receive, transport.iopub, take)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED

    async def replace(self, transport: ClientTransport, why: str) -> None:
        """Go on over another transport, to a kernel that was started anew: every wait raises
        `KernelDied`. When this returns, the old transport may be closed.
        """
        self.transport = transport
        self._codec = Codec(transport.key, transport.signature_scheme)
        text = f"{self.name} {why}"
        for execution in tuple(self._known.values()):
            if not execution.done:
                execution.waiters.fail(lambda: KernelDied(text))
        self._unfinished.clear()
        left = self._left
        self._receiving.cancel()
        await left.wait()

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run something for as long as it receives."""
        assert self._nursery is not None, "a client receives only while it runs"
        self._nursery.start_soon(function, *args)

    async def _receive(self, channel: Channel, take: Callable[[Message], None]) -> None:
        codec = self._codec  # another kernel has another key
        for number in itertools.count(1):
            try:
                if number % BATCH == 0:  # a kernel that floods must not keep other tasks waiting
                    await trio.lowlevel.checkpoint()
                frames = await receive(channel)
            except trio.ClosedResourceError:
                return
            try:
                message = codec.decode(frames)
            except WireError as error:
                self.rejected[error.kind] += 1
                self.unread.append((channel.name, error, frames))
                continue
            take(message)

    def _take_reply(self, message: Message) -> None:
        if execution := self.find(message.parent_id):
            execution.take_reply(message)
            self.tidy(execution)

    def _take(self, message: Message) -> bool:
        """Give an iopub message to its execution, unless it is diverted; whether it is."""
        for subscriber in tuple(self._subscribers):
            subscriber.send_nowait(message)
        # a list, because each of them has to be called
        is_diverted = any([divert(message) for divert in self.diverting])
        if (execution := self.find(message.parent_id)) and not is_diverted:
            execution.take(message)
            self.tidy(execution)
        if message.msg_type == "update_display_data":
            for other in tuple(self._known.values()):
                if other is not execution:
                    other.update_display(message)
        return is_diverted

    def find(self, msg_id: str | None) -> Execution | None:
        """The request of that id, if anybody still holds it."""
        return self._known.get(msg_id or "")

    def waiting(self) -> list[Execution]:
        """What was sent and is not finished, in the order it was sent."""
        return list(self._unfinished.values())

    def tidy(self, execution: Execution) -> None:
        """Hold a request no longer, if it is finished."""
        if execution.done:
            self._unfinished.pop(execution.msg_id, None)

    # The kernel's end

    def fail(self, why: str, *, tell_shutdown: bool = True) -> Callable[[], KernelDied]:
        """The kernel has ended: every waiter raises `KernelDied`, and so does every request.

        Returns a function that makes that error, for other waits. With ``tell_shutdown`` off, a
        task that asked for the shutdown still waits for its reply.
        """
        text = f"{self.name} {why}"
        if self._death is None:
            self._death = lambda: KernelDied(text)
        for execution in self.waiting():
            if tell_shutdown or execution.msg_type != "shutdown_request":
                execution.waiters.fail(lambda: KernelDied(text))
                self._unfinished.pop(execution.msg_id, None)
        for execution in tuple(self._known.values()):
            if not execution.has_reply:
                execution.waiters.fail(lambda: KernelDied(text))
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers.clear()
        return self._death

    @property
    def is_dead(self) -> bool:
        """Whether the kernel is known to have ended."""
        return self._death is not None
