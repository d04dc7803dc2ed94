"""What an interrupt leaves: the next cells, those beside it, the objects of the one it ended."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import trio

import trikernel
from trikernel.core import StopReason, current_request
from trikernel.testing import CheckedClient

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Big:
    """Whatever a cell has in its local variables."""


async def sleep_long() -> None:
    await trio.sleep(1000)


sleep_long.__code__ = sleep_long.__code__.replace(co_linetable=b"")


class Sleeper(trikernel.Kernel):
    """Waits in several ways."""

    big: weakref.ref[Big] | None = None

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        if code == "in a shield":
            with trio.CancelScope(shield=True):
                await trio.sleep(50)
        elif code == "with a big local":
            self.nursery.start_soon(trio.sleep_forever, name="has the cell's context")
            big = Big()
            self.big = weakref.ref(big)
            await trio.sleep_forever()
        elif code == "without lines":
            await sleep_long()
        elif code == "cancels its own nursery":
            nursery = trio.lowlevel.current_task().parent_nursery
            assert nursery is not None
            nursery.cancel_scope.cancel()
            await trio.sleep(1)
        elif code == "beside, and runs another":
            request = current_request.get()
            assert request is not None
            self.server.lane.let_go_on(request, self.server.cells)
            await trio.sleep(1)
            await self.process_one()
        elif code.startswith("sleeps"):
            await trio.sleep(float(code.split()[1]))
        return {"status": "ok"}


@pytest.fixture
def kernel() -> Sleeper:
    return Sleeper()


async def interrupt_twice(kernel: Sleeper) -> None:
    for _ in range(2):
        kernel.server.interrupt()
        await trio.sleep(2)


async def test_a_cell_after_one_that_was_left_behind_has_no_cell_around_it(
    kernel: Sleeper, kernel_client: CheckedClient
) -> None:
    """Whatever its own nursery's end does to it is its error; it is not aborted by another cell."""
    replies = [(await kernel_client.execute("cancels its own nursery")).reply]
    left = kernel_client.start("in a shield")
    await trio.sleep(1)
    await interrupt_twice(kernel)
    await left.wait()
    await trio.sleep(60)
    replies.append((await kernel_client.execute("cancels its own nursery")).reply)
    contents = [one.content for one in replies if one is not None]
    assert [one["status"] for one in contents] == ["error", "error"]
    assert [one["ename"] for one in contents] == ["Cancelled", "Cancelled"]


async def test_the_locals_of_an_interrupted_cell_are_not_kept(
    kernel: Sleeper, kernel_client: CheckedClient
) -> None:
    cell = kernel_client.start("with a big local")
    await trio.sleep(1)
    kernel.server.interrupt()
    await cell.wait()
    await kernel_client.execute("sleeps 1")
    gc.collect()
    assert kernel.big is not None
    assert kernel.big() is None


async def test_code_without_a_table_of_lines_is_interrupted_as_any(
    kernel: Sleeper, kernel_client: CheckedClient
) -> None:
    cell = kernel_client.start("without lines")
    await trio.sleep(1)
    kernel.server.interrupt()
    await cell.wait()
    assert cell.error is not None
    assert cell.error.ename == "KeyboardInterrupt"


async def test_who_is_left_behind_beside_the_lane_takes_no_other_cell_along(
    kernel: Sleeper, kernel_client: CheckedClient
) -> None:
    beside = kernel_client.start("beside, and runs another")
    await trio.sleep(0.1)
    first = kernel_client.start("sleeps 2")
    await trio.sleep(0.1)
    nested = kernel_client.start("in a shield")  # taken by the one beside
    await trio.sleep(1.5)
    innocent = kernel_client.start("sleeps 20")
    await first.wait()
    await trio.sleep(1)
    (request,) = [one for one in kernel.server.stopper.running if one.msg_id == nested.msg_id]
    for _ in range(2):
        kernel.server.stopper.stop(request, StopReason.ABORT)
        await trio.sleep(2)
    for ended, status in ((nested, "aborted"), (beside, "error")):
        await ended.wait()
        assert ended.reply is not None
        assert ended.reply.content["status"] == status
    assert (await innocent.wait()).error is None


async def test_a_deadline_for_a_cell_that_has_ended_is_none(
    kernel: Sleeper, kernel_client: CheckedClient
) -> None:
    cell = kernel_client.start("sleeps 1")
    await trio.sleep(0.5)
    (request,) = kernel.server.stopper.running
    await cell.wait()
    await trio.sleep(1)
    assert request.finished
    kernel.server.stopper.stop_after(request, 1)
    await trio.sleep(5)
    assert request.stop_reason is None
