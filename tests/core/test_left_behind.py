"""Code that was left behind ends, also if it swallows its cancels; what cleans up may finish."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trikernel
from trikernel.core.stop_signals import TURN_TIMEOUT
from trikernel.testing import CheckedClient

MOST = 1_000_000  # turns; a few hundred after it was left behind are what it takes


class Stubborn(trikernel.Kernel):
    """Runs one of the loops below, and notes when that has ended."""

    turns = 0

    def __init__(self) -> None:
        super().__init__()
        self.has_ended = trio.Event()

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        if code in LOOPS:
            try:
                await LOOPS[code](self)
            finally:
                self.has_ended.set()
        return {"status": "ok"}

    def turn(self) -> None:
        self.turns += 1
        if self.turns > MOST:
            raise AssertionError("it turns on and on")


async def swallow(kernel: Stubborn) -> None:
    while True:
        try:
            await trio.sleep(1000)
        except BaseException:
            kernel.turn()


async def swallow_twice(kernel: Stubborn) -> None:
    while True:
        try:
            try:
                await trio.sleep(1000)
            except BaseException:
                kernel.turn()
            await trio.lowlevel.checkpoint()
        except BaseException:
            kernel.turn()


async def swallow_in_children(kernel: Stubborn) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swallow, kernel)
        nursery.start_soon(swallow_twice, kernel)


async def clean_up(kernel: Stubborn) -> None:
    try:
        await trio.sleep(1000)
    finally:
        with trio.CancelScope(shield=True):
            for _ in range(500):
                await trio.sleep(0.1)
                kernel.turn()


LOOPS: dict[str, Callable[[Stubborn], Awaitable[None]]] = {
    "swallow": swallow,
    "swallow twice": swallow_twice,
    "swallow in children": swallow_in_children,
    "clean up": clean_up,
}


@pytest.fixture
def kernel() -> Stubborn:
    return Stubborn()


async def leave_behind(client: CheckedClient, code: str) -> None:
    execution = await client.start(code).wait_started()
    for _ in range(2):
        await client.interrupt()
        await trio.sleep(2 * TURN_TIMEOUT)  # those that follow at once are one
    await execution.wait()


@pytest.mark.parametrize("code", ["swallow", "swallow twice", "swallow in children"])
async def test_a_loop_that_swallows_its_cancel_is_ended(
    kernel: Stubborn, kernel_client: CheckedClient, code: str
) -> None:
    tracer = sys.gettrace()
    await leave_behind(kernel_client, code)
    await kernel_client.expect("anything")
    with trio.fail_after(20):
        await kernel.has_ended.wait()
    assert 100 <= kernel.turns < MOST
    assert sys.gettrace() is tracer


async def test_what_cleans_up_in_a_shield_may_finish(
    kernel: Stubborn, kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    await leave_behind(kernel_client, "clean up")
    assert not kernel.has_ended.is_set()
    await trio.sleep(100)
    assert kernel.has_ended.is_set()
    assert kernel.turns == 500


async def test_nothing_watches_the_tasks_once_all_have_ended(
    kernel: Stubborn, kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    def instruments() -> int:
        hooks = trio._core._run.GLOBAL_RUN_CONTEXT.runner.instruments.get("task_exited", {})
        return sum(type(one).__name__ == "LeftBehind" for one in hooks)

    await leave_behind(kernel_client, "clean up")
    assert instruments() == 1
    await trio.sleep(100)
    assert instruments() == 0
