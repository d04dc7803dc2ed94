"""What a cancel does on the side of those who call, at a client that is played."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.engine import abort_on_cancel
from trikernel.engine.client import ABORT_TIMEOUT, ClusterView


class Result(Future[Any]):
    """What a view returns at once."""

    def get(self, timeout: float | None = None) -> Any:
        return self.result(timeout)


class View:
    """A view, and the client that it is of. ``answers``: whether engines do."""

    ids = (0,)

    def __init__(self, *, answers: bool = True, closed: bool = False) -> None:
        self.answers, self.closed = answers, closed
        self.results: list[Result] = []
        self.aborted: list[tuple[Any, bool]] = []

    def __getitem__(self, number: object) -> View:
        return self

    def apply_async(self, *args: object) -> Result:
        self.results.append(Result())
        return self.results[-1]

    def abort(self, jobs: Any, *, block: bool) -> Result:
        if self.closed:
            raise OSError("Connections have been closed.")
        self.aborted.append((jobs, block))
        word = Result()
        if self.answers:
            word.set_result([])
        return word


@pytest.mark.parametrize(
    ("view", "waits"),
    [(View(), 0), (View(answers=False), ABORT_TIMEOUT), (View(closed=True), 0)],
    ids=["says so", "stands still", "is gone"],
)
@pytest.mark.usefixtures("autojump_clock")
async def test_a_cancelled_call_tells_its_engine_and_waits_a_moment(
    view: View, waits: float
) -> None:
    began = trio.current_time()
    with trio.move_on_after(5) as scope:
        await ClusterView(view).apply(abs, -1)
    assert scope.cancelled_caught
    assert view.aborted == ([] if view.closed else [(view.results[0], False)])
    assert trio.current_time() - began == pytest.approx(5 + waits)


@pytest.mark.usefixtures("autojump_clock")
async def test_engines_that_stand_still_are_told_beside_each_other() -> None:
    view = View(answers=False)
    began = trio.current_time()
    with trio.move_on_after(5):
        await ClusterView(view).map(abs, range(100), limit=20)
    assert len(view.aborted) == 20
    assert trio.current_time() - began == pytest.approx(5 + ABORT_TIMEOUT)


def test_a_cancelled_result_is_aborted_without_waiting() -> None:
    view = View(answers=False)
    call = abort_on_cancel(view, view.apply_async(abs, -1))
    assert call.cancel()
    assert view.aborted == [(call, False)]


def test_a_result_that_comes_is_not_aborted() -> None:
    view = View()
    call = abort_on_cancel(view, view.apply_async(abs, -1))
    call.set_result(1)
    assert (call.cancel(), view.aborted) == (False, [])


def test_a_result_can_be_cancelled_when_its_client_is_closed() -> None:
    view = View(closed=True)
    assert abort_on_cancel(view, view.apply_async(abs, -1)).cancel()
