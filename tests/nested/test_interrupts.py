"""What stops a cell stops a nested run, within a tenth of a second, as `KeyboardInterrupt`."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator

import pytest

from ..processes import KernelProcess, kernel_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

SOON = 0.1  # seconds
REPEAT = 3

CELLS = {
    "spins": "async def main():\n    print('begun', flush=True)\n    while True: pass",
    "sleeps": "async def main():\n    print('begun', flush=True)\n    await trio.sleep(100)",
    "blocks": "async def main():\n    print('begun', flush=True)\n    time.sleep(100)",
    "prints": "async def main():\n    while True: print('begun')",
    "goes round": (
        "async def main():\n    print('begun', flush=True)\n    while True: await trio.sleep(0)"
    ),
    "waits in a nursery": (
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(trio.sleep, 100)\n"
        "        nursery.start_soon(trio.sleep_forever)\n"
        "        print('begun', flush=True)"
    ),
    "has a child that spins": (
        "async def spin():\n"
        "    print('begun', flush=True)\n"
        "    while True: pass\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery: nursery.start_soon(spin)"
    ),
    "waits in a run of its own": (
        "async def inner():\n"
        "    print('begun', flush=True)\n"
        "    await trio.sleep_forever()\n"
        "async def main(): trio.run(inner)"
    ),
    "waits in asyncio": (
        "async def inner():\n"
        "    print('begun', flush=True)\n"
        "    await asyncio.sleep(100)\n"
        "async def main(): asyncio.run(inner())"
    ),
    "waits for a lock that the background holds": (
        "async def main():\n"
        "    print('begun', flush=True)\n"
        "    async with lock: pass"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute(
            "import asyncio, time, trio\n"
            "from trikernel.notebook import nursery\n"
            "lock = trio.Lock()\n"
            "async def hold():\n"
            "    async with lock: await trio.sleep_forever()\n"
            "nursery.start_soon(hold)\n"
            "await trio.sleep(0)"
        )
        yield kernel


def begin(kernel: KernelProcess, code: str) -> str:
    """Send a cell, and wait until it prints that it has begun."""
    msg_id = kernel.send(code)
    while (text := kernel.until("stream"))["parent_header"]["msg_id"] != msg_id:
        pass
    while "begun" not in text["content"]["text"]:
        text = kernel.until("stream")
    return msg_id


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("name", CELLS)
def test_a_nested_run_is_interrupted_at_once(kernel: KernelProcess, name: str, by: str) -> None:
    """Until the run has ended: what it takes to show a traceback is measured elsewhere."""
    took = []
    for _ in range(REPEAT):
        code = "\ntry: trio.run(main)\nfinally: ended = time.monotonic()"
        msg_id = begin(kernel, CELLS[name] + code)
        sent = time.monotonic()  # the same clock in all processes
        kernel.interrupt(by)
        reply, _ = kernel.finish(msg_id)
        assert reply["ename"] == "KeyboardInterrupt"
        took.append(float(kernel.text("await trio.sleep(0)\nprint(ended)")) - sent)
    assert min(took) < SOON, took


def test_the_interrupt_may_be_caught_around_the_run(kernel: KernelProcess) -> None:
    code = (
        "async def main():\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        await trio.sleep(100)\n"
        "    finally: print('cleaned up')\n"
        "try: trio.run(main)\n"
        "except KeyboardInterrupt: print('caught')\n"
        "await trio.sleep(0.01)\n"
        "print('goes on')"
    )
    msg_id = begin(kernel, code)
    kernel.interrupt()
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    text = "".join(one["content"]["text"] for one in outputs if one["msg_type"] == "stream")
    assert text == "cleaned up\ncaught\ngoes on\n"


@pytest.mark.parametrize("wait", ["await trio.sleep(100)", "time.sleep(100)"])
def test_a_nested_run_that_swallows_interrupts_is_stopped_by_the_third(
    kernel: KernelProcess, wait: str
) -> None:
    code = (
        "async def main():\n"
        "    while True:\n"
        "        try:\n"
        "            print('begun', flush=True)\n"
        f"            {wait}\n"
        "        except KeyboardInterrupt: pass\n"
        "trio.run(main)"
    )
    msg_id = begin(kernel, code)
    for _ in range(2):
        kernel.interrupt()
        assert "begun" in kernel.until("stream")["content"]["text"]
        time.sleep(0.1)  # what follows sooner is the same step
    kernel.interrupt()
    reply, _ = kernel.finish(msg_id)
    assert reply["status"] == "error"
    assert kernel.text("await trio.sleep(0)\nprint('on')") == "on\n"


@pytest.mark.parametrize("main", ["await trio.sleep(100)", "while True: pass"])
def test_a_deadline_ends_a_nested_run(kernel: KernelProcess, main: str) -> None:
    reply, _ = kernel.execute(f"%%timeout 0.2\nasync def main():\n    {main}\ntrio.run(main)")
    assert reply["ename"] == "DeadlineExceeded"
    assert kernel.text("await trio.sleep(0)\nprint('on')") == "on\n"


def test_the_next_cell_runs_after_an_interrupt_of_a_background_tasks_run(
    kernel: KernelProcess,
) -> None:
    kernel.execute(
        "async def work():\n"
        "    await trio.sleep(0.01)\n"
        "    print('begun', flush=True)\n"
        "    trio.run(trio.sleep, 100)\n"
        "nursery.start_soon(work, name='work')"
    )
    while "begun" not in kernel.until("stream")["content"]["text"]:
        pass
    msg_id = kernel.send("await trio.sleep(0)\nprint('on')")
    kernel.interrupt()
    reply, _ = kernel.finish(msg_id)
    assert reply["status"] == "ok"


@pytest.mark.slow
def test_signals_at_any_moment_of_short_runs_harm_nothing(kernel: KernelProcess) -> None:
    """The first step and the last one too: set-up and end are protected."""
    kernel.execute(
        "import trio.testing\n"
        "async def short():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        for _ in range(3): nursery.start_soon(trio.sleep, 0.0005)\n"
        "async def outer(): trio.run(short)\n"
        "def clock(): return trio.testing.MockClock(autojump_threshold=0)"
    )
    chance = random.Random(7)
    cells = ["for _ in range(4): trio.run(short)", "trio.run(outer)",
             "for _ in range(9): trio.run(trio.lowlevel.checkpoint)",
             "trio.run(short, clock=clock())"]  # fmt: skip
    for _ in range(100):
        msg_id = kernel.send(chance.choice(cells))
        for _ in range(chance.randrange(1, 4)):
            time.sleep(chance.random() * 0.008)  # the signals' own moments are what is tried
            kernel.interrupt()
        reply, _ = kernel.finish(msg_id)
        assert reply["status"] == "ok" or reply["ename"] == "KeyboardInterrupt", reply
    assert "on\n" in kernel.text("trio.run(short)\nawait trio.sleep(0)\nprint('on')")
