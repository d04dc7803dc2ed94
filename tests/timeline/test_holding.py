"""Who holds the loop, in real time: the line is found, and what looks for it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trikernel.timeline import Recorder, Timeline


def no_cell(file: str) -> None:
    return None


def in_real_time(function: Callable[[Recorder], Any]) -> Timeline:
    async def main() -> Timeline:
        recorder = Recorder(lambda task: False, no_cell, whole_loop=True)
        with recorder:
            await function(recorder)
        return recorder.timeline()

    return trio.run(main)


def hold(seconds: float) -> None:
    time.sleep(seconds)  # this line holds


async def _holding(recorder: Recorder) -> None:
    await trio.sleep(0.02)
    hold(0.4)
    await trio.sleep(0.01)


async def _holding_among_many(recorder: Recorder) -> None:
    async def switch() -> None:
        for _ in range(5_000):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(switch)
        nursery.start_soon(switch)
        await trio.lowlevel.checkpoint()
        while not recorder.timeline().tasks:
            await trio.lowlevel.checkpoint()
        for _ in range(500):
            await trio.lowlevel.checkpoint()
        hold(0.4)


def hold_the_lock(seconds: float) -> None:
    until, exponent = time.perf_counter() + seconds, 200_000
    while time.perf_counter() < until:
        pow(7, exponent)  # this line holds, and keeps other threads from looking
        exponent *= 4


async def _holding_the_interpreter_lock(recorder: Recorder) -> None:
    await trio.sleep(0.02)
    hold_the_lock(0.1)
    await trio.sleep(0.01)


def test_who_holds_the_interpreter_lock_is_told_with_the_line() -> None:
    held = max(in_real_time(_holding_the_interpreter_lock).held, key=lambda one: one.end)
    assert f"{__file__}, line {hold_the_lock.__code__.co_firstlineno + 3}" in held.line


@pytest.mark.parametrize("function", [_holding, _holding_among_many])
def test_who_holds_the_loop_is_told_with_the_line(function: Callable[[Recorder], Any]) -> None:
    timeline = in_real_time(function)
    held = max(timeline.held, key=lambda one: one.end - one.start)
    assert held.end - held.start > 0.3
    assert f"{__file__}, line {hold.__code__.co_firstlineno + 1}" in held.line
    assert "# this line holds" in held.line


def test_steps_that_are_not_seen_one_by_one_are_counted() -> None:
    async def switch(recorder: Recorder) -> None:
        for _ in range(20_000):
            await trio.lowlevel.checkpoint()

    timeline = in_real_time(switch)
    (task,) = timeline.tasks
    assert sum(span.steps for span in task.spans) == pytest.approx(20_000, abs=5)
    assert len(task.spans) < 5_000


def test_after_the_end_nothing_looks_on() -> None:
    before = set(threading.enumerate())
    in_real_time(_holding)
    assert [one for one in threading.enumerate() if "timeline" in one.name] == []
    assert set(threading.enumerate()) <= before
