"""Lines drawn by lot: only in the frames that are meant, only while it is wanted, and over then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from trikernel.core.line_lot import LineLot, users_frames
from trikernel.errors import CellStopped

MOST = 2000  # lots; a few are what it takes


@pytest.fixture
def lot() -> Iterator[LineLot]:
    lot = LineLot()
    yield lot
    lot.end()


def test_code_that_swallows_everything_is_left_at_an_uncovered_line(lot: LineLot) -> None:
    turns = 0

    def swallow() -> None:
        nonlocal turns
        while True:
            try:
                turns += 1
                if turns > MOST:
                    return
                lot.draw([sys._getframe()])
                sum([1])
                sum([2])
            except BaseException:
                pass

    with pytest.raises(CellStopped):
        swallow()
    assert turns < MOST


def test_frames_that_were_not_told_of_are_not_hit(lot: LineLot) -> None:
    ends = 0

    def callee() -> int:
        nonlocal ends
        total = 0
        for number in range(100):
            total += number
        ends += 1
        return total

    def caller() -> int:
        lot.draw([sys._getframe()])
        return callee()

    for _ in range(20):  # lots, of which some are further than the lines of the caller
        with suppress(CellStopped):
            assert caller() == 4950
    assert ends > 0
    lot.end()
    assert callee() == 4950


def test_nothing_is_hit_that_is_not_wanted_any_more(lot: LineLot) -> None:
    wanted = True
    reached = 0
    lot.draw([sys._getframe()], lambda: wanted)
    wanted = False
    for _ in range(100):
        reached += 1
    assert reached == 100


def test_who_traced_before_goes_on(lot: LineLot) -> None:
    def tracer(frame: FrameType, event: str, arg: object) -> Any:
        return None

    def hit() -> None:
        lot.draw([sys._getframe()])
        for _ in range(1000):
            pass

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        for _ in range(2):
            with pytest.raises(CellStopped):
                hit()
        lot.end()
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is tracer


def test_ours_and_trios_are_none_of_the_users_frames(lot: LineLot) -> None:
    def ours() -> None:
        exec(compile("call()", lot.draw.__code__.co_filename, "exec"), {"call": theirs})

    def theirs() -> None:
        found.extend(users_frames(_outwards(sys._getframe())))

    found: list[FrameType] = []
    ours()
    assert [frame.f_code.co_name for frame in found] == ["theirs"]


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
