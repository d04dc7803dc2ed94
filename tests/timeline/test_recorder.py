"""What is recorded of a loop: spans and what they waited on, nurseries, cancels, errors, bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing

from trikernel.timeline import Kind, Limits, Recorder, Timeline
from trikernel.timeline.model import TaskLine
from trikernel.timeline.records import Records

pytestmark = pytest.mark.usefixtures("autojump_clock")


def no_root(task: trio.lowlevel.Task) -> bool:
    return task.name.startswith("<test ")


def no_cell(file: str) -> None:
    return None


def new(**options: Any) -> Recorder:
    return Recorder(no_root, no_cell, **options)


def find(timeline: Timeline, name: str) -> TaskLine:
    (task,) = (one for one in timeline.tasks if one.name.rpartition(".")[2] == name)
    return task


def waits(task: TaskLine) -> list[tuple[Kind, float]]:
    return [
        (one.kind, round(one.end - one.start, 6)) for one in task.spans if one.kind is not Kind.RUN
    ]


async def sleeper() -> None:
    await trio.sleep(1)
    await trio.sleep(2)


async def test_a_task_ran_and_waited_from_when_to_when() -> None:
    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
    task = find(recorder.timeline(), "sleeper")
    assert waits(task) == [(Kind.SLEEP, 1.0), (Kind.SLEEP, 2.0)]
    assert [one.start for one in task.spans if one.kind is Kind.RUN] == [0, 1, 3]
    assert (task.start, task.end) == (0, 3)
    line = sleeper.__code__.co_firstlineno + 1
    assert task.spans[1].text == f"sleep, {__file__}, line {line}"


SETUP: dict[Kind, Callable[[], Any]] = {
    Kind.SLEEP: partial(trio.sleep, 5),
    Kind.CHANNEL: lambda: trio.open_memory_channel[int](0)[1].receive(),
    Kind.EVENT: lambda: trio.Event().wait(),
    Kind.CHILDREN: lambda: _with_child(),
    Kind.LOCK: lambda: trio.Semaphore(0).acquire(),
}


async def _with_child() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 5)


async def _receive_from_socket() -> None:
    one, other = trio.socket.socketpair()
    with one, other:
        await one.recv(1)


@pytest.mark.parametrize("kind", SETUP)
async def test_it_is_known_what_a_task_waits_on(kind: Kind) -> None:
    keep: list[Any] = []

    async def waiter() -> None:
        if kind is Kind.CHANNEL:  # both ends live
            keep.extend(trio.open_memory_channel[int](0))
            await keep[1].receive()
        else:
            await SETUP[kind]()

    with new() as recorder, trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
    assert waits(find(recorder.timeline(), "waiter"))[0] == (kind, 1.0)


async def test_a_socket_and_a_thread_are_told_too() -> None:
    go = threading.Event()
    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_receive_from_socket)
            nursery.start_soon(partial(trio.to_thread.run_sync, go.wait), name="worker")
            await trio.sleep(1)
            now = recorder.timeline()
            go.set()
            nursery.cancel_scope.cancel()
    assert {span.kind for span in find(now, "_receive_from_socket").spans} >= {Kind.SOCKET}
    assert {span.kind for span in find(now, "worker").spans} >= {Kind.THREAD}


async def test_nurseries_are_nested_as_they_are() -> None:
    async def inner() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 2, name="leaf")
            await trio.sleep(1)

    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)
            await trio.sleep(4)
    rows = list(recorder.timeline().rows())
    named = [row.task.name.rpartition(".")[2] if row.task else "nursery" for row in rows]
    assert named[1:] == ["nursery", "inner", "nursery", "leaf"]
    assert [row.depth for row in rows] == [0, 1, 2, 3, 4]
    bars = [row.nursery for row in rows if row.nursery is not None]
    assert [(bar.start, bar.end) for bar in bars] == [(0, 4), (0, 2)]


async def test_a_cancel_says_who_and_why() -> None:
    async def victim() -> None:
        await trio.sleep_forever()

    async def killer(scope: trio.CancelScope) -> None:
        await trio.sleep(3)
        scope.cancel("too slow")

    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim)
            nursery.start_soon(killer, nursery.cancel_scope, name="killer")
    (mark,) = find(recorder.timeline(), "victim").marks
    assert (mark.at, mark.kind, mark.text) == (3, "cancel", "cancelled by killer: too slow")


async def test_a_task_that_catches_its_deadline_is_marked_and_a_sleep_is_not() -> None:
    async def task() -> None:
        with trio.move_on_after(2):
            await trio.sleep(7)
        await trio.sleep(1)

    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
    (mark,) = find(recorder.timeline(), "task").marks
    assert (mark.at, mark.kind) == (2, "deadline")


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("a\x1b[2J\nb"), r"ValueError: a\x1b[2J\nb"), (Wordless(), "Wordless")],
)
async def test_an_error_is_told_of_the_task_that_raised_it(error: Exception, text: str) -> None:
    async def bad() -> None:
        await trio.sleep(1)
        raise error

    async def sibling() -> None:
        await trio.sleep_forever()

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bad, name="bad")
            nursery.start_soon(sibling)

    with new() as recorder, pytest.raises(ExceptionGroup):
        await both()
    timeline = recorder.timeline()
    (mark,) = find(timeline, "bad").marks
    assert (mark.at, mark.kind, mark.text) == (1, "error", text)
    (mark,) = find(timeline, "sibling").marks
    assert mark.kind == "cancel"
    assert mark.text.startswith("cancelled by bad: child task raised exception")


async def test_tasks_that_are_not_the_users_are_not_in_it() -> None:
    with Recorder(lambda task: False, no_cell) as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
    assert recorder.timeline().tasks == ()


async def test_off_there_is_no_instrument_and_no_thread() -> None:
    before = threading.active_count()
    with new():
        pass
    spawned: list[object] = []

    class Counting(Recorder):
        def note_error(self, error: BaseException) -> None:
            spawned.append(error)

    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="recorded already"), new() as recorder:
        recorder.start()


# Bounds


async def test_the_oldest_stretches_are_dropped_first_and_it_says_so() -> None:
    async def busy() -> None:
        for _ in range(100):
            await trio.sleep(1)

    with new(limits=Limits(stretches=30)) as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
    timeline = recorder.timeline()
    assert timeline.dropped > 60
    assert timeline.complete_from > 60
    first = min(span.start for span in find(timeline, "busy").spans)
    assert first >= timeline.complete_from
    assert "the oldest" in str(timeline)


async def test_five_thousand_tasks_are_bounded_and_counted() -> None:
    with new(limits=Limits(tasks=500)) as recorder:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(1_000):
                    nursery.start_soon(trio.lowlevel.checkpoint)
    timeline = recorder.timeline()
    assert len(timeline.tasks) <= 500
    assert timeline.unseen + len(timeline.tasks) == 5_001
    assert "more tasks are not in the picture" in str(timeline)
    assert len(timeline.svg()) < 500_000


async def test_a_task_of_which_no_step_was_seen_is_a_bar_all_the_same() -> None:
    records, task = Records(Limits()), cast(trio.lowlevel.Task, object())
    records.add(task, "short", "", None, 1.0)
    records.end(task, 3.0)
    (line,) = records.timeline(0.0, 4.0).tasks
    assert [(one.kind, one.start, one.end) for one in line.spans] == [(Kind.OTHER, 1.0, 3.0)]


async def test_an_hour_of_a_ticker_is_a_picture_of_reasonable_size() -> None:
    async def ticker() -> None:
        for _ in range(1_200):
            await trio.sleep(3)

    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker)
    timeline = recorder.timeline()
    assert timeline.seconds == pytest.approx(3_600)
    task = find(timeline, "ticker")
    assert sum(span.steps for span in task.spans) == 1_201
    assert len(timeline.svg()) < 1_000_000


async def test_a_name_of_10_kb_is_clipped() -> None:
    with new() as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1, name="<x>" * 4_000)
    timeline = recorder.timeline()
    assert max(len(task.name) for task in timeline.tasks) <= 200
    assert "<x><x>" not in timeline.svg()
