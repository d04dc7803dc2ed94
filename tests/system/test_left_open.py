"""What user code leaves open is closed in its own task, which then goes on as if nothing was."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.system import left_open
from trikernel.system.left_open import LeftOpen, close_what_was_left_open, is_anything_left_open

UserCode = Callable[[list[Any]], Awaitable[object]]


async def close_after(code: UserCode) -> list[LeftOpen]:
    """Run user code inside a scope of ours, twice in one task; what the first left open.

    Fails if Trio's state of the task is not as it was before.
    """
    kept: list[Any] = []
    before = trio.lowlevel.current_task().child_nurseries
    async with trio.open_nursery() as outer:
        with trio.CancelScope() as scope:
            try:
                await code(kept)
            except BaseException as raised:
                kept.append(raised)
            closed = await close_what_was_left_open(scope)
            assert not is_anything_left_open(scope)
        assert trio.lowlevel.current_task().child_nurseries == [*before, outer]
        with trio.CancelScope() as again, trio.CancelScope():
            again.cancel()
            await trio.sleep(1)
        assert again.cancelled_caught
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.lowlevel.checkpoint)
        outer.start_soon(trio.lowlevel.checkpoint)
    return closed


async def test_nothing_is_left_open() -> None:
    async def code(kept: list[Any]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)

    assert await close_after(code) == []


async def test_a_nursery_is_cancelled_and_its_tasks_are_waited_for() -> None:
    ended = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            ended.append("child")

    async def code(kept: list[Any]) -> None:
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(child)
        nursery.start_soon(child)
        await trio.testing.wait_all_tasks_blocked()

    assert await close_after(code) == [LeftOpen("nursery", 2)]
    assert ended == ["child", "child"]


async def test_what_the_tasks_of_the_nursery_raise_is_told() -> None:
    async def child() -> None:
        raise ValueError("child")

    async def code(kept: list[Any]) -> None:
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(child)
        await trio.sleep_forever()

    (closed,) = await close_after(code)
    assert closed.kind == "nursery"
    assert isinstance(closed.error, ExceptionGroup)
    assert [str(one) for one in closed.error.exceptions] == ["child"]


@pytest.mark.parametrize("shield", [False, True])
async def test_a_cancel_scope_is_left(shield: bool) -> None:
    async def code(kept: list[Any]) -> None:
        kept.append(trio.CancelScope(shield=shield).__enter__())

    assert await close_after(code) == [LeftOpen("cancel scope")]


async def test_a_deadline_of_a_scope_that_was_left_hits_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def code(kept: list[Any]) -> None:
        kept.append(trio.move_on_after(1).__enter__())

    with trio.CancelScope() as scope:
        await code([])
        assert len(await close_what_was_left_open(scope)) == 1
        await trio.sleep(5)
    assert not scope.cancelled_caught


async def test_the_innermost_is_closed_first() -> None:
    order = []

    async def child(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append(name)

    async def code(kept: list[Any]) -> None:
        outer = await trio.open_nursery().__aenter__()
        outer.start_soon(child, "outer")
        kept.append(trio.CancelScope().__enter__())
        inner = await trio.open_nursery().__aenter__()
        inner.start_soon(child, "inner")
        await trio.testing.wait_all_tasks_blocked()

    kinds = [(one.kind, one.tasks) for one in await close_after(code)]
    assert kinds == [("nursery", 1), ("cancel scope", 0), ("nursery", 1)]
    assert order == ["inner", "outer"]


async def test_an_error_of_the_code_does_not_keep_its_scopes_open() -> None:
    async def code(kept: list[Any]) -> None:
        kept.append(trio.CancelScope().__enter__())
        await trio.open_nursery().__aenter__()
        raise KeyError("code")

    assert [one.kind for one in await close_after(code)] == ["nursery", "cancel scope"]


async def test_an_async_generator_is_closed_where_it_stands() -> None:
    told = []

    async def numbers() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                yield 1
            finally:
                told.append("generator ends")

    async def code(kept: list[Any]) -> None:
        kept.append(numbers())
        assert await anext(kept[0]) == 1

    kept: list[Any] = []

    async def keeping(_: list[Any]) -> None:
        await code(kept)

    assert await close_after(keeping) == [LeftOpen("nursery", 1)]
    assert told == ["generator ends"]
    with pytest.raises(StopAsyncIteration):
        await anext(kept[0])


async def test_a_context_manager_made_from_a_generator_is_closed() -> None:
    told = []

    @asynccontextmanager
    async def service() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                yield 1
            finally:
                told.append("service ends")

    async def code(kept: list[Any]) -> None:
        kept.append(service())
        await kept[0].__aenter__()

    assert await close_after(code) == [LeftOpen("nursery", 1)]
    assert told == ["service ends"]


async def test_a_plain_generator_is_closed() -> None:
    told = []

    @contextmanager
    def limited() -> Iterator[None]:
        with trio.CancelScope():
            try:
                yield
            finally:
                told.append("generator ends")

    async def code(kept: list[Any]) -> None:
        kept.append(limited())
        kept[0].__enter__()

    assert await close_after(code) == [LeftOpen("cancel scope")]
    assert told == ["generator ends"]


async def test_a_generator_that_only_knows_the_scope_goes_on() -> None:
    scopes: list[trio.CancelScope] = []

    def watch(scope: trio.CancelScope) -> Iterator[bool]:
        while True:
            yield scope.cancel_called

    async def code(kept: list[Any]) -> None:
        scopes.append(trio.CancelScope().__enter__())

    with trio.CancelScope() as scope:
        await code([])
        watching = watch(scopes[0])
        assert next(watching) is False
        assert len(await close_what_was_left_open(scope)) == 1
        assert next(watching) is False


async def test_fail_after_is_closed_without_an_error_of_its_own() -> None:
    async def code(kept: list[Any]) -> None:
        kept.append(trio.fail_after(10))
        kept[0].__enter__()

    assert await close_after(code) == [LeftOpen("cancel scope")]


async def test_nurseries_left_in_the_wrong_order_are_closed() -> None:
    async def code(kept: list[Any]) -> None:
        first, second = trio.open_nursery(), trio.open_nursery()
        (await first.__aenter__()).start_soon(trio.sleep_forever)
        (await second.__aenter__()).start_soon(trio.sleep_forever)
        with trio.move_on_after(0):
            await first.__aexit__(KeyError, KeyError(), None)

    assert await close_after(code) != []


async def test_a_nursery_whose_manager_is_left_later_takes_no_other_for_itself() -> None:
    manager = trio.open_nursery()

    async def code(kept: list[Any]) -> None:
        await manager.__aenter__()

    assert await close_after(code) == [LeftOpen("nursery", 0)]
    async with trio.open_nursery() as nursery:
        with pytest.raises(RuntimeError, match="already been exited"):
            await manager.__aexit__(None, None, None)
        assert trio.lowlevel.current_task().child_nurseries[-1] is nursery
        nursery.start_soon(trio.lowlevel.checkpoint)


async def test_a_cancel_from_outside_comes_again_after_the_closing() -> None:
    with trio.CancelScope() as host:
        with trio.CancelScope() as scope:
            nursery = await trio.open_nursery().__aenter__()
            nursery.start_soon(trio.sleep_forever)
            host.cancel()
            closed = await close_what_was_left_open(scope)
        assert closed == [LeftOpen("nursery", 1)]
        await trio.lowlevel.checkpoint()
    assert host.cancelled_caught


async def test_a_cancel_of_the_scope_itself_is_still_there_after_the_closing() -> None:
    with trio.CancelScope() as scope:
        (await trio.open_nursery().__aenter__()).start_soon(trio.sleep_forever)
        scope.cancel()
        assert await close_what_was_left_open(scope) == [LeftOpen("nursery", 1)]
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_scopes_around_ours_stay_open() -> None:
    with trio.CancelScope():
        async with trio.open_nursery() as host:
            with trio.CancelScope() as scope:
                assert await close_what_was_left_open(scope) == []
            host.start_soon(trio.lowlevel.checkpoint)


async def test_without_the_private_names_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {**left_open.PRIVATE_NAMES, "trio._core._run.Task._no_such_name": ""}
    monkeypatch.setattr(left_open, "PRIVATE_NAMES", names)
    left_open._names_exist.cache_clear()
    try:
        with trio.CancelScope() as scope:
            inner = trio.CancelScope()
            inner.__enter__()
            assert await close_what_was_left_open(scope) == []
            inner.__exit__(None, None, None)
    finally:
        left_open._names_exist.cache_clear()


def test_this_trio_has_the_private_names() -> None:
    left_open._names_exist.cache_clear()
    assert left_open._names_exist(), sys.version
