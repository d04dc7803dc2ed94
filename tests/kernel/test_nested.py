"""`process_one` and `do_one_iteration`, above all from inside a running cell."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ..conftest import Serving
from ..harness import Heard
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


async def started(peer: Any, *codes: str) -> list[str]:
    ids = [peer.send("execute_request", {"code": code}) for code in codes]
    while (await peer.hear()).msg_type != "execute_input":
        continue
    return ids


async def test_process_one_returns_the_priority_or_none(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as peer:
        kernel.released.set()
        await started(peer, "one")
        await peer.receive()
        kernel.released = trio.Event()
        await started(peer, "one", "say inner")
        peer.send("is_complete_request", {"code": ""})
        peer.send("kernel_info_request", channel="control")
        await peer.receive("control")
        kernel.released.set()
        assert [(await peer.receive()).msg_type for _ in range(3)] == [
            "execute_reply",
            "execute_reply",
            "is_complete_reply",
        ]
    assert kernel.handled == [None, 10]
    assert kernel.ran == ["one", "one done", "one", "say inner", "one done"]


async def test_process_one_waits_when_told_to(serving: Serving) -> None:
    kernel = Pumping()
    kernel.released.set()
    async with serving(kernel) as peer:
        await started(peer, "await")
        await trio.sleep(0.01)
        assert kernel.handled == []
        peer.send("execute_request", {"code": "say inner"})
        for _ in range(2):
            await peer.receive()
    assert kernel.handled == [10]


async def test_an_iteration_drains_what_is_urgent_and_one_shell_request(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as peer:
        await started(peer, "pump", "say 1", "say 2")
        for _ in range(2):
            peer.send("clear_request", channel="control")
        peer.send("kernel_info_request", channel="control")
        assert (await peer.receive("control")).msg_type == "kernel_info_reply"
        kernel.released.set()
        for _ in range(3):
            await peer.receive()
    assert kernel.ran == ["pump", "clear", "clear", "say 1", "pump done", "say 2"]


async def test_a_nested_request_has_its_own_parent_and_the_outer_ones_comes_back(
    serving: Serving,
) -> None:
    kernel = Pumping()
    async with serving(kernel) as peer:
        outer, inner = await started(peer, "pump", "say inner")
        kernel.released.set()
        replies = [await peer.receive(), await peer.receive()]
        assert [one.parent_id for one in replies] == [inner, outer]
        heard_inner = Heard(replies[0], await peer.until_idle(inner))
        heard_outer = Heard(replies[1], await peer.until_idle(outer))
    assert heard_inner.text() == "inner"
    assert heard_outer.text() == "outer"
    assert heard_inner.types == ["status:busy", "execute_input", "stream", "status:idle"]


async def test_an_error_inside_aborts_the_queue_never_the_outer_cell(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as peer:
        await started(peer, "pump", "fail", "say queued")
        kernel.released.set()
        replies = [await peer.receive() for _ in range(3)]
    assert [one.content["status"] for one in replies] == ["error", "ok", "aborted"]
    assert kernel.ran == ["pump", "fail", "pump done"]


async def test_an_interrupt_goes_to_the_innermost(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as peer:
        await started(peer, "pump", "sleep 1000")
        kernel.released.set()
        while (await peer.hear()).msg_type != "execute_input":
            continue
        await peer.ask("interrupt_request", channel="control")
        replies = [await peer.receive() for _ in range(2)]
    assert [one.content["status"] for one in replies] == ["error", "ok"]
    assert replies[0].content["ename"] == "KeyboardInterrupt"


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
    async with serving(kernel) as peer:
        await started(peer, "twice", "say a", "say b")
        kernel.released.set()
        statuses = [(await peer.receive()).content["status"] for _ in range(3)]
    assert statuses == ["ok"] * 3
    assert kernel.ran == ["say a", "say b"]


async def test_outside_a_cell_the_turn_is_shared_with_the_lane(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(kernel.process_one)
        await trio.sleep(0.01)
        for number in range(10):
            assert (await peer.execute(f"say {number}")).text() == str(number)
        nursery.cancel_scope.cancel()
