"""Code of other event loops in a cell: each brings its own, and Trio's goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..processes import TIMEOUT, KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import asyncio, trio")
        yield kernel


@pytest.mark.promise(2)
def test_asyncio_run_works_in_a_cell_again_and_again(kernel: KernelProcess) -> None:
    code = (
        "async def answer():\n    await asyncio.sleep(0.01)\n    return 42\n"
        "print(asyncio.run(answer()))\nawait trio.sleep(0)\nprint(asyncio.run(answer()))"
    )
    for _ in range(3):
        assert kernel.text(code) == "42\n42\n"


@pytest.mark.promise(2)
def test_no_queued_cell_is_lost_behind_asyncio_run(kernel: KernelProcess) -> None:
    ids = [kernel.send("asyncio.run(asyncio.sleep(0.02))") for _ in range(20)]
    replies = [kernel.client.get_shell_msg(timeout=TIMEOUT) for _ in ids]
    assert [one["parent_header"]["msg_id"] for one in replies] == ids
    assert {one["content"]["status"] for one in replies} == {"ok"}


@pytest.mark.promise(2)
def test_asyncio_runs_in_a_thread_beside_trio(kernel: KernelProcess) -> None:
    code = (
        "async def work():\n    await asyncio.sleep(0.05)\n    print('done')\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(trio.to_thread.run_sync, asyncio.run, work())\n"
        "    await trio.sleep(0.01)\n    print('meanwhile')"
    )
    assert kernel.text(code) == "meanwhile\ndone\n"


LEFT = {
    "awaits as it cleans up": (
        "    try:\n"
        "        await asyncio.sleep(100)\n"
        "    finally:\n"
        "        print('told', flush=True)\n"
        "        await asyncio.sleep(100)\n"
    ),
    "swallows everything": (
        "    told = False\n"
        "    while len(closed) < 3:\n"
        "        try:\n"
        "            await asyncio.sleep(100)\n"
        "        except asyncio.CancelledError:\n"
        "            print('told', flush=True)\n"
        "        except BaseException as error:\n"
        "            closed.append(error)\n"
    ),
    "has another task that fails": (
        "    task = asyncio.create_task(fail())\n"
        "    try:\n"
        "        await asyncio.sleep(100)\n"
        "    finally:\n"
        "        print('told', flush=True)\n"
        "        await asyncio.sleep(100)\n"
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("left", LEFT)
def test_what_a_stopped_loop_leaves_behind_is_not_the_next_cells(
    kernel: KernelProcess, left: str
) -> None:
    kernel.execute("import gc\nclosed = []\nasync def fail(): raise ValueError('of a task')")
    begin = "async def main():\n    print('begun', flush=True)\n"
    msg_id = kernel.send(f"{begin}{LEFT[left]}asyncio.run(main())")
    for _ in ("begun", "told"):  # a second interrupt is what breaks off the loop's own end
        kernel.until("stream")
        kernel.interrupt()
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.execute("1/0")[0]["ename"] == "ZeroDivisionError"  # lets go of the traceback
    assert kernel.text("kept = gc.collect()\nprint('next')") == "next\n"
