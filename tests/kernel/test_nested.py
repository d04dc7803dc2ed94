"""`process_one` and `do_one_iteration`, above all from inside a running cell."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trikernel.testing import CheckedClient, message_types

from ..cells import Cells, ask, reply_of, until_input
from ..conftest import Serving
from .kernels import Recorder

pytestmark = pytest.mark.seed(6)


class Pumping(Recorder):
    """``pump``: one iteration; ``one``: one request without waiting; ``await``: one, waiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.handled: list[int | None] = []

    def do_clear(self) -> None:
        self.ran.append("clear")

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        verb = code.partition(" ")[0]
        if verb in ("pump", "one", "await"):
            self.ran.append(code)
            await self.released.wait()
            if verb == "pump":
                await self.do_one_iteration()
            else:
                self.handled.append(await self.process_one(wait=verb == "await"))
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "outer"})
            self.ran.append(f"{verb} done")
            return {"status": "ok"}
        return await super().do_execute(code, silent, **options)


async def started(client: CheckedClient, *codes: str) -> Cells:
    """Send cells at once; the first of them runs."""
    cells = Cells(client, *codes)
    await until_input(cells.sent[0])
    return cells


async def test_process_one_returns_the_priority_or_none(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        kernel.released.set()
        assert await (await started(client, "one")).statuses() == ["ok"]
        kernel.released = trio.Event()
        cells = await started(client, "one", "say inner")
        cells.add(client.send("is_complete_request", {"code": ""}))
        await ask(client, "kernel_info_request", channel="control")
        kernel.released.set()
        await cells.wait()
        assert [one.msg_type for one in cells.answered] == [
            "execute_request",
            "execute_request",
            "is_complete_request",
        ]
    assert kernel.handled == [None, 10]
    assert kernel.ran == ["one", "one done", "one", "say inner", "one done"]


async def test_process_one_waits_when_told_to(serving: Serving) -> None:
    kernel = Pumping()
    kernel.released.set()
    async with serving(kernel) as client:
        outer = await started(client, "await")
        await trio.sleep(0.01)
        assert kernel.handled == []
        await client.execute("say inner")
        await outer.wait()
    assert kernel.handled == [10]


async def test_an_iteration_drains_what_is_urgent_and_one_shell_request(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await started(client, "pump", "say 1", "say 2")
        clearing = [client.send("clear_request", {}, channel="control") for _ in range(2)]
        await ask(client, "kernel_info_request", channel="control")
        assert [one.reply for one in clearing] == [None, None]
        kernel.released.set()
        await cells.wait()
    assert kernel.ran == ["pump", "clear", "clear", "say 1", "pump done", "say 2"]


async def test_a_nested_request_has_its_own_parent_and_the_outer_ones_comes_back(
    serving: Serving,
) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await started(client, "pump", "say inner")
        outer, inner = cells.sent
        kernel.released.set()
        await cells.wait()
        assert cells.answered == [inner, outer]
    assert inner.stdout == "inner"
    assert outer.stdout == "outer"
    assert message_types(inner) == ["status:busy", "execute_input", "stream", "status:idle"]


async def test_an_error_inside_aborts_the_queue_never_the_outer_cell(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await started(client, "pump", "fail", "say queued")
        outer, failing, queued = cells.sent
        kernel.released.set()
        await cells.wait()
    assert cells.answered == [failing, outer, queued]
    assert [one.status for one in cells.answered] == ["error", "ok", "aborted"]
    assert kernel.ran == ["pump", "fail", "pump done"]


async def test_an_interrupt_goes_to_the_innermost(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await started(client, "pump", "sleep 1000")
        outer, inner = cells.sent
        kernel.released.set()
        await until_input(inner)
        await ask(client, "interrupt_request", channel="control")
        await cells.wait()
    assert cells.answered == [inner, outer]
    assert [one.status for one in cells.answered] == ["error", "ok"]
    assert reply_of(inner)["ename"] == "KeyboardInterrupt"


async def test_two_pumps_of_one_cell_take_turns(serving: Serving) -> None:
    class Twice(Recorder):
        inside = 0

        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            if code == "twice":
                await self.released.wait()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.do_one_iteration)
                    nursery.start_soon(self.do_one_iteration)
                return None
            self.inside += 1
            assert self.inside == 1
            await trio.sleep(0.001)
            self.inside -= 1
            return await super().do_execute(code, silent, **options)

    kernel = Twice()
    async with serving(kernel) as client:
        cells = await started(client, "twice", "say a", "say b")
        kernel.released.set()
        await cells.wait()
    assert [one.status for one in cells.sent] == ["ok"] * 3
    assert kernel.ran == ["say a", "say b"]


async def test_outside_a_cell_the_turn_is_shared_with_the_lane(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client, trio.open_nursery() as nursery:
        nursery.start_soon(kernel.process_one)
        await trio.sleep(0.01)
        for number in range(10):
            assert (await client.execute(f"say {number}")).stdout == str(number)
        nursery.cancel_scope.cancel()
