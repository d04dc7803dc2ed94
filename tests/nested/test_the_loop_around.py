"""A nested run changes nothing of the loop around it, whatever becomes of it; in memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sniffio
import trio
import trio.testing

from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient

from ..cells import contents, reply_of, served

SET_UP = """
import gc, threading, trio, trio.testing
from trikernel.notebook import nursery

async def say(what):
    print(what)
    await trio.sleep(0)
    return what
"""


@pytest.fixture
async def client(autojump_clock: trio.testing.MockClock) -> AsyncIterator[CheckedClient]:
    async with served(PythonKernel()) as client:
        heard = await client.execute(SET_UP)
        assert heard.status == "ok"
        yield client


def state() -> dict[str, Any]:
    """What this thread's loop is to others."""
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    return {
        "loop": trio.lowlevel.current_trio_token(),
        "task": trio.lowlevel.current_task(),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "wakeup": wakeup_fd,
        "generators": sys.get_asyncgen_hooks(),
        "library": sniffio.current_async_library(),
    }


def value(heard: Execution) -> str:
    (result,) = contents(heard, "execute_result")
    return str(result["data"]["text/plain"])


async def test_output_of_all_inner_tasks_is_the_cells(client: CheckedClient) -> None:
    code = """
async def main():
    async with trio.open_nursery() as own:
        own.start_soon(say, 1)
    await trio.to_thread.run_sync(print, 2)
trio.run(main)
"""
    heard = await client.execute(code)
    assert heard.stdout == "1\n2\n"
    assert heard.status == "ok"


async def test_the_person_is_told_once_that_a_cell_can_await(client: CheckedClient) -> None:
    first = await client.execute("trio.run(say, 'x')")
    (line,) = first.stderr.splitlines()
    assert "a cell can simply `await say(...)`" in line
    assert line.startswith("\x1b[2m")
    second = await client.execute("trio.run(say, 'x')")
    assert second.stderr == ""
    assert value(first) == value(second) == "'x'"


async def test_a_library_that_runs_trio_says_nothing_of_it(client: CheckedClient) -> None:
    code = "import anyio\nanyio.run(say, 'x', backend='trio')"
    assert (await client.execute(code)).stderr == ""


ENDS = {
    "returns": "trio.run(say, 1)",
    "raises": "async def main(): 1 / 0\ntrio.run(main)",
    "never begins": "trio.run(None)",
    "is called wrongly": "trio.run(say, 1, clok=None)",
    "exits": "async def main(): raise SystemExit\ntrio.run(main)",
    "crashes": (
        "async def crash(): raise ValueError('crash')\n"
        "async def main():\n"
        "    trio.lowlevel.spawn_system_task(crash)\n"
        "    await trio.sleep(1)\n"
        "trio.run(main)"
    ),
    "crashes with tasks that it leaves": (
        "tasks = []\n"
        "async def child():\n"
        "    tasks.append(trio.lowlevel.current_task())\n"
        "    try:\n"
        "        with trio.CancelScope(): await trio.sleep_forever()\n"
        "    finally: await trio.sleep(0)\n"
        "async def main():\n"
        "    async with trio.open_nursery() as own:\n"
        "        own.start_soon(child)\n"
        "        own.cancel_scope.deadline = trio.current_time() + 0.01\n"
        "        await trio.lowlevel.wait_task_rescheduled(lambda raise_cancel: 1 / 0)\n"
        "trio.run(main)"
    ),
    "is nested again": "async def main(): return trio.run(say, 2)\ntrio.run(main)",
    "has an instrument that fails": (
        "class Bad(trio.abc.Instrument):\n"
        "    def before_run(self): 1 / 0\n"
        "trio.run(say, 1, instruments=[Bad()])"
    ),
}


@pytest.mark.parametrize("name", ENDS)
async def test_everything_is_put_back_however_a_run_ends(client: CheckedClient, name: str) -> None:
    before = state()
    heard = await client.execute(ENDS[name], stop_on_error=False)
    failed = name not in ("returns", "is nested again", "has an instrument that fails")
    assert heard.status == ("error" if failed else "ok"), reply_of(heard)
    assert state() == before
    after = await client.execute(
        "gc.collect()\nawait trio.sleep(1)\ntrio.run(say, 'on')\n"
        "with trio.CancelScope(): await say(0)"
    )
    assert after.status == "ok", reply_of(after)
    assert after.stdout == "on\n0\n"


async def test_a_crash_is_told_as_trios_own_error(client: CheckedClient) -> None:
    heard = await client.execute(ENDS["crashes"])
    assert reply_of(heard)["ename"] == "TrioInternalError"
    assert "ValueError: crash" in "".join(reply_of(heard)["traceback"])


async def test_what_a_crash_leaves_has_ended_when_the_kernels_loop_goes_on(
    client: CheckedClient,
) -> None:
    """Collected later, its scopes would be left in the name of a task of the kernel's loop."""
    await client.execute(ENDS["crashes with tasks that it leaves"], stop_on_error=False)
    heard = await client.execute("import inspect\ninspect.getcoroutinestate(tasks[0].coro)")
    assert value(heard) == "'CORO_CLOSED'"


async def test_async_generators_are_closed_by_the_loop_they_were_begun_in(
    client: CheckedClient,
) -> None:
    code = """
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        print("closed in", "the run" if inside else "the kernel")
begun = numbers()
await begun.__anext__()
kept = []
async def main():
    kept.append(numbers())
    await kept[0].__anext__()
inside = True
trio.run(main)
inside = False
await begun.aclose()
"""
    assert (await client.execute(code)).stdout == "closed in the run\nclosed in the kernel\n"


async def test_tasks_of_the_kernels_loop_are_woken_and_started_from_inside(
    client: CheckedClient,
) -> None:
    heard = await client.execute(
        """
got, event, (send, receive) = [], trio.Event(), trio.open_memory_channel(0)
outer = trio.lowlevel.current_trio_token()
def here(): return trio.lowlevel.current_trio_token() is outer
async def wait():
    await event.wait(); got.append(("woken", here()))
async def hear():
    got.append((await receive.receive(), here()))
async def later():
    got.append(("started", here()))
nursery.start_soon(wait); nursery.start_soon(hear)
await trio.testing.wait_all_tasks_blocked()
async def main():
    event.set()
    send.send_nowait("heard")
    nursery.start_soon(later)
    await trio.sleep(0.01)
    got.append(("inside", here()))
trio.run(main)
await trio.sleep(1)
got[0], sorted(got[1:])
"""
    )
    assert value(heard) == (
        "(('inside', False), [('heard', True), ('started', True), ('woken', True)])"
    )


async def test_a_lock_that_the_background_holds_stays_held(client: CheckedClient) -> None:
    code = """
lock = trio.Lock()
async def hold():
    async with lock: await trio.sleep(5)
nursery.start_soon(hold)
await trio.sleep(1)
async def main():
    try: lock.acquire_nowait()
    except trio.WouldBlock: print("held")
    with trio.move_on_after(0.01): await lock.acquire()
trio.run(main)
async with lock: print("free")
"""
    assert (await client.execute(code)).stdout == "held\nfree\n"


async def test_to_wait_for_a_background_task_to_start_is_refused(client: CheckedClient) -> None:
    heard = await client.execute("trio.run(nursery.start, say)", stop_on_error=False)
    assert "use start_soon()" in reply_of(heard)["evalue"]
    assert (await client.execute("trio.run(say, 1)")).status == "ok"


async def test_a_background_task_may_run_one(client: CheckedClient) -> None:
    code = """
async def work():
    await trio.sleep(1)
    done.append(trio.run(say, "nested"))
done = []
nursery.start_soon(work)
await trio.sleep(2)
done
"""
    heard = await client.execute(code)
    assert value(heard) == "['nested']"
    assert heard.stdout == "nested\n"


async def test_a_hosts_own_task_is_refused_as_ever(client: CheckedClient) -> None:
    with pytest.raises(RuntimeError, match="from inside a run"):
        trio.run(trio.sleep, 0)
    import anyio

    with pytest.raises(RuntimeError, match="Already running trio"):
        anyio.run(anyio.sleep, 0, backend="trio")
    assert (await client.execute("trio.run(say, 1)")).status == "ok"


async def test_a_hosts_ctrl_c_ends_the_run_in_a_cell_that_waits(client: CheckedClient) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are for the main thread")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    heard = await client.execute("trio.run(trio.sleep, 100)", stop_on_error=False)
    timer.join()
    assert reply_of(heard)["ename"] == "KeyboardInterrupt"
    assert value(await client.execute("await say(3)")) == "3"
