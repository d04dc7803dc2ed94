"""A memory channel that hands out the most urgent item first, equals in order of arrival.

Built as Trio's own memory channels are used: a send end, a receive end, closing either.
A woken receiver reads the heap again, so that a more urgent item that came in the same tick
overtakes, and an item is never in the hands of a task that was just cancelled.
"""

from __future__ import annotations

import heapq
import itertools
from types import TracebackType
from typing import Generic, TypeVar

import trio

__all__ = ["PriorityReceiveChannel", "PrioritySendChannel", "open_priority_channel"]

T = TypeVar("T")


class _State(Generic[T]):
    def __init__(self) -> None:
        self.heap: list[tuple[int, int, T]] = []
        self.counter = itertools.count()
        self.receivers = trio.lowlevel.ParkingLot()
        self.send_closed = False
        self.receive_closed = False


class PrioritySendChannel(Generic[T]):
    """The end that puts items in."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def send_nowait(self, item: T, *, priority: int) -> None:
        """Queue ``item``; a smaller ``priority`` is more urgent.

        Raises `trio.ClosedResourceError` after `close`, `trio.BrokenResourceError` when the
        receive end is closed.
        """
        state = self._state
        if state.send_closed:
            raise trio.ClosedResourceError
        if state.receive_closed:
            raise trio.BrokenResourceError
        heapq.heappush(state.heap, (priority, next(state.counter), item))
        state.receivers.unpark_all()  # one alone may be about to be cancelled

    async def send(self, item: T, *, priority: int) -> None:
        """As `send_nowait`, and a checkpoint; cancelled there, the item was not queued."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.send_nowait(item, priority=priority)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def close(self) -> None:
        """No more items; receivers that wait in vain get `trio.EndOfChannel`."""
        self._state.send_closed = True
        self._state.receivers.unpark_all()

    def __enter__(self) -> PrioritySendChannel[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PriorityReceiveChannel(Generic[T]):
    """The end that takes items out. Several tasks may receive at once."""

    def __init__(self, state: _State[T]) -> None:
        self._state = state

    def __len__(self) -> int:
        """How many items are queued."""
        return len(self._state.heap)

    def receive_nowait(self) -> tuple[int, T]:
        """The most urgent item, as ``(priority, item)``.

        Raises `trio.WouldBlock` when there is none, `trio.EndOfChannel` when there will be
        none, `trio.ClosedResourceError` after `close`.
        """
        state = self._state
        if state.receive_closed:
            raise trio.ClosedResourceError
        if state.heap:
            priority, _, item = heapq.heappop(state.heap)
            return priority, item
        if state.send_closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def wait_nonempty(self) -> None:
        """Wait until there is something to take, without taking it. Always a checkpoint.

        Raises as `receive` does.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        state = self._state
        if state.heap:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not state.heap:
            if state.receive_closed:
                raise trio.ClosedResourceError
            if state.send_closed:
                raise trio.EndOfChannel
            await state.receivers.park()

    async def receive(self) -> tuple[int, T]:
        """The most urgent item, waiting for one. Cancelled, it takes none.

        Raises as `receive_nowait` does, `trio.WouldBlock` apart.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                item = self.receive_nowait()
            except trio.WouldBlock:
                await self._state.receivers.park()
                waited = True
            else:
                break
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return item

    def close(self) -> None:
        """Drop what is queued; waiting receivers get `trio.ClosedResourceError`."""
        self._state.receive_closed = True
        self._state.heap.clear()
        self._state.receivers.unpark_all()

    def __aiter__(self) -> PriorityReceiveChannel[T]:
        return self

    async def __anext__(self) -> tuple[int, T]:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> PriorityReceiveChannel[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class open_priority_channel(tuple["PrioritySendChannel[T]", "PriorityReceiveChannel[T]"]):
    """A new channel's two ends: ``send, receive = open_priority_channel[Item]()``.

    It has no bound, so sending never waits. Most urgent (smallest number) first, first come first
    served among equals. Closing the send end lets receivers take what is left, then raises
    `trio.EndOfChannel` at them; closing the receive end raises `trio.BrokenResourceError` at
    senders. Use it in one Trio loop only.
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]  # a class only so that it takes a type in brackets
        cls,
    ) -> tuple[PrioritySendChannel[T], PriorityReceiveChannel[T]]:
        state: _State[T] = _State()
        return PrioritySendChannel(state), PriorityReceiveChannel(state)
