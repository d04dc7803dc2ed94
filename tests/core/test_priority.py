"""The priority channel: most urgent first, first come first served, safe to cancel."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from trikernel import open_priority_channel

pytestmark = pytest.mark.seed(4)


async def test_the_most_urgent_comes_first_and_equals_in_order_of_arrival() -> None:
    send, receive = open_priority_channel[str]()
    for priority, item in [(10, "a"), (20, "z"), (10, "b"), (1, "c"), (10, "d"), (1, "e")]:
        send.send_nowait(item, priority=priority)
    send.close()
    assert [item async for _, item in receive] == ["c", "e", "a", "b", "d", "z"]


async def test_a_more_urgent_item_of_the_same_tick_overtakes() -> None:
    send, receive = open_priority_channel[str]()
    got: list[str] = []

    async def take() -> None:
        got.append((await receive.receive())[1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        send.send_nowait("cell", priority=10)
        send.send_nowait("control", priority=1)
    assert got == ["control"]
    assert len(receive) == 1


async def test_a_cancelled_receiver_takes_nothing_with_it() -> None:
    chance = random.Random(1)
    send, receive = open_priority_channel[int]()
    got: list[int] = []

    async def put() -> None:
        for number in range(500):
            await send.send(number, priority=10)
            if chance.random() < 0.5:
                await trio.lowlevel.checkpoint()
        send.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        ended = False
        while not ended:
            with trio.CancelScope() as scope:
                if chance.random() < 0.3:
                    nursery.start_soon(_cancel_soon, scope, chance.randrange(3))
                try:
                    while True:
                        got.append((await receive.receive())[1])
                except trio.EndOfChannel:
                    ended = True
    assert got == list(range(500))


async def _cancel_soon(scope: trio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_several_receivers_share_without_loss_or_doubling() -> None:
    send, receive = open_priority_channel[int]()
    got: list[int] = []

    async def take() -> None:
        async for _, item in receive:
            got.append(item)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(take)
        for number in range(100):
            await send.send(number, priority=number % 3)
        send.close()
    assert sorted(got) == list(range(100))


async def test_closing_the_send_end_ends_waiting_receivers() -> None:
    send, receive = open_priority_channel[int]()

    async def take() -> None:
        with pytest.raises(trio.EndOfChannel):
            await receive.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        send.close()
    with pytest.raises(trio.ClosedResourceError):
        send.send_nowait(1, priority=1)


async def test_closing_the_receive_end_breaks_the_send_end() -> None:
    send, receive = open_priority_channel[int]()
    send.send_nowait(1, priority=1)
    with receive:
        assert receive.receive_nowait() == (1, 1)
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(1, priority=1)
    with pytest.raises(trio.ClosedResourceError):
        receive.receive_nowait()


async def test_every_call_is_a_checkpoint() -> None:
    send, receive = open_priority_channel[int]()
    with trio.testing.assert_checkpoints():
        await send.send(1, priority=1)
    with trio.testing.assert_checkpoints():
        await receive.receive()
    with trio.move_on_after(0) as scope:
        await send.send(2, priority=1)
    assert scope.cancelled_caught
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
