"""A foreign event loop gets its turns while no message waits."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ..cells import served, until_input
from ..conftest import Serving
from .kernels import Recorder

pytestmark = pytest.mark.seed(24)


class Looping(Recorder):
    """``set`` sets an event loop from inside a handler."""

    turns = 0

    def advance(self, kernel: Any) -> None:
        assert kernel is self
        self.turns += 1

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "set":
            self.eventloop = self.advance
            return None
        return await super().do_execute(code, silent, **options)


async def until(condition: Any) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # what is awaited has no event to offer
            await trio.sleep(0.001)


async def test_it_is_advanced_every_poll_interval_once_a_handler_sets_it(
    autojump_clock: Any,
) -> None:
    kernel = Looping(poll_interval=0.5)
    async with served(kernel) as client:
        await trio.sleep(10)
        assert kernel.turns == 0
        await client.execute("set")
        await trio.sleep(10)
        assert 19 <= kernel.turns <= 21


async def test_it_stands_still_while_a_cell_runs_and_messages_come_through(
    serving: Serving,
) -> None:
    kernel = Looping(poll_interval=0.001)
    async with serving(kernel) as client:
        await client.execute("set")
        await until(lambda: kernel.turns > 2)
        waiting = client.start("wait")
        await until_input(waiting)
        turns = kernel.turns
        await trio.sleep(0.02)
        assert kernel.turns == turns
        kernel.released.set()
        await waiting.wait()
        await until(lambda: kernel.turns > turns)
        for number in range(5):
            assert (await client.execute(f"say {number}")).stdout == str(number)


async def test_it_can_be_swapped_and_cleared_while_it_runs(serving: Serving) -> None:
    kernel = Looping(poll_interval=0.001)
    other: list[Any] = []
    async with serving(kernel) as client:
        kernel.eventloop = kernel.advance
        await until(lambda: kernel.turns > 2)
        kernel.eventloop = other.append
        await until(lambda: len(other) > 2)
        turns = kernel.turns
        kernel.eventloop = None
        count = len(other)
        await trio.sleep(0.02)
        assert len(other) <= count + 1
        assert kernel.turns == turns
        assert (await client.execute("say x")).stdout == "x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
async def test_what_it_raises_does_not_stop_the_kernel(
    serving: Serving, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kernel = Looping(poll_interval=0.001)
    calls: list[Any] = []

    def fail(kernel: Any) -> None:
        calls.append(kernel)
        raise error("in the loop")

    async with serving(kernel) as client:
        kernel.eventloop = fail
        await until(lambda: len(calls) > 0)
        assert (await client.execute("say x")).stdout == "x"
    assert (kernel.eventloop is None) == (error is ValueError)
    assert "event loop" in caplog.text
