"""An interrupt is not raised in the middle of what a scheduler does; it is raised all the same."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from trikernel.core import schedulers
from trikernel.core.schedulers import Scheduler

from ..processes import KernelProcess, kernel_process

ROUNDS = 60  # before, one of 10 to 100 was lost, depending on the cell
SETUP = """\
import asyncio, sys, time, trio
from trikernel.notebook import aio

async def many(sleep):
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(sleep, 99)

async def pass_on():
    sender, receiver = trio.open_memory_channel(0)
    async def send():
        while True: await sender.send(1)
    async def receive():
        async for value in receiver: pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)

async def gather():
    await asyncio.gather(*[asyncio.sleep(99) for _ in range(100)])

async def group():
    async with asyncio.TaskGroup() as tasks:
        for _ in range(100): tasks.create_task(asyncio.sleep(99))

async def turn():
    while True: await asyncio.sleep(0)

async def call(function, *args):
    asyncio.get_running_loop().call_soon(function, *args)
    await asyncio.sleep(99)
"""
CELLS = {
    "a nursery": "await many(trio.sleep)",
    "channels": "await pass_on()",
    "a loop of Trio's": "trio.run(many, trio.sleep)",
    "one loop of Trio's after the other": "while True: trio.run(trio.lowlevel.checkpoint)",
    "a loop that waits": "asyncio.run(asyncio.sleep(99))",
    "a loop that gathers": "asyncio.run(gather())",
    "a loop with a group": "asyncio.run(group())",
    "a loop that turns": "asyncio.run(turn())",
    "a cell that awaits asyncio": "while True: await aio(asyncio.sleep(0))",
    "a cell that calls in asyncio": "while True: await aio(int)",
    "an asyncio cell that gathers": "%%asyncio\n{say}await gather()",
    "an asyncio cell that turns": "%%asyncio\n{say}await turn()",
    "an asyncio cell and a loop": "%%asyncio\n{say}asyncio.run(gather())",
}
BLOCKS = {
    "Trio": "async with trio.open_nursery() as nursery: nursery.start_soon(time.sleep, 99)",
    "asyncio": "asyncio.run(call(time.sleep, 99))",
}
SAY = "print('begun', flush=True)\n"

posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is POSIX")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        kernel.execute("import warnings; warnings.simplefilter('ignore', RuntimeWarning)")
        yield kernel


@posix
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_interrupt_ends_its_cell(kernel: KernelProcess, cell: str) -> None:
    code = cell.format(say=SAY) if "{say}" in cell else SAY + cell
    for _ in range(ROUNDS):
        msg_id = kernel.send(code)
        kernel.until_begun(msg_id)
        kernel.interrupt()
        assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_interrupt_ends_the_cell_of_a_subshell(kernel: KernelProcess, cell: str) -> None:
    subshell = kernel.ask_control("create_subshell_request")["subshell_id"]
    code = cell.format(say=SAY) if "{say}" in cell else SAY + cell
    for _ in range(ROUNDS // 4):
        msg_id = kernel.send_to(subshell, code)
        kernel.until_begun(msg_id)
        kernel.interrupt("request")
        assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.ask_control("delete_subshell_request", subshell_id=subshell)["status"] == "ok"


@posix
def test_an_interrupted_import_keeps_no_lock() -> None:
    with kernel_process() as kernel:
        kernel.execute("import sys, json, threading")
        for _ in range(ROUNDS // 2):
            msg_id = kernel.send(f"{SAY}while True:\n    del sys.modules['json']; import json")
            kernel.until_begun(msg_id)
            kernel.interrupt()
            # importlib itself fails so if it is cut off before it has put the module in its place
            assert kernel.finish(msg_id)[0]["ename"] in ("KeyboardInterrupt", "KeyError")
        elsewhere = (
            "sys.modules.pop('json', None)\n"
            "thread = threading.Thread(target=__import__, args=('json',), daemon=True)\n"
            "thread.start(); thread.join(20); print(thread.is_alive())"
        )
        assert kernel.text(elsewhere) == "False\n"


@posix
@pytest.mark.parametrize("by", ["signal", "request"])
@pytest.mark.parametrize("cell", BLOCKS.values(), ids=BLOCKS)
def test_what_a_scheduler_calls_and_blocks_it_is_interrupted(
    kernel: KernelProcess, cell: str, by: str
) -> None:
    msg_id = kernel.send(SAY + cell)
    kernel.until_begun(msg_id)
    kernel.interrupt(by)
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("cell", ["trio.run(many, trio.sleep)", "asyncio.run(gather())"])
def test_a_deadline_ends_them_too(kernel: KernelProcess, cell: str) -> None:
    for _ in range(5):
        assert kernel.execute(f"%%timeout 0.05\n{cell}")[0]["ename"] == "DeadlineExceeded"


def test_a_loop_whose_method_is_replaced_is_none_that_can_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(schedulers, "_is_library", lambda name: True)

    def replaced(*args: Any) -> None:
        found.append(Scheduler.at(sys._getframe()))

    monkeypatch.setattr(asyncio.BaseEventLoop, "_run_once", replaced)
    replaced()
    assert found == [Scheduler(None)]
    found[0].have_called(found.clear)
    assert found


class Spawned(trio.abc.Instrument):
    def __init__(self) -> None:
        self.found: list[Scheduler | None] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.found.append(Scheduler.at(sys._getframe()))


@pytest.mark.parametrize("is_library", [False, True])
async def test_trio_is_at_work_as_it_starts_a_task(
    monkeypatch: pytest.MonkeyPatch, is_library: bool
) -> None:
    monkeypatch.setattr(schedulers, "_is_library", lambda name: is_library or "trio" in name)
    spawned = Spawned()
    trio.lowlevel.add_instrument(spawned)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
    trio.lowlevel.remove_instrument(spawned)
    assert spawned.found == [Scheduler(None) if is_library else None]
    assert Scheduler.at(sys._getframe()) is None


@pytest.mark.parametrize("is_library", [False, True])
def test_an_asyncio_loop_is_at_work_between_two_calls_and_calls_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch, is_library: bool
) -> None:
    if is_library:
        monkeypatch.setattr(schedulers, "_is_library", lambda name: True)
    found: list[Any] = []

    async def look() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: found.append(Scheduler.at(sys._getframe())))
        await asyncio.sleep(0)
        called = asyncio.Event()
        for one in filter(None, found):
            assert one.loop is loop
            one.have_called(called.set)
            await called.wait()

    asyncio.run(look())
    assert [one is not None for one in found] == [is_library]
