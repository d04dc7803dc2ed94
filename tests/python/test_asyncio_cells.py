"""Cells in asyncio, in memory under a virtual clock: both loops in one thread, tasks that go on."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import trio
import trio.testing

import trikernel
from trikernel.client import Execution
from trikernel.errors import UsageError
from trikernel.loops import cell_loop
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, open_memory_client

from ..test_docs import EXAMPLES

# a cell that fails has made it, and a later one collects it
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited:RuntimeWarning")

SETUP = """\
import asyncio, trio
from trikernel.notebook import aio, nursery

async def tick(count, name="tick"):
    for number in range(count):
        await asyncio.sleep(1)
        print(name, number)

async def fail(seconds=1):
    await asyncio.sleep(seconds)
    raise ValueError("of a task")
"""


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect(SETUP)
    return kernel_client


@pytest.fixture
async def session(client: CheckedClient) -> CheckedClient:
    """All of whose cells run in asyncio."""
    await client.expect("%autoawait asyncio")
    return client


def late_text(execution: Execution) -> str:
    return "".join(one.content["text"] for one in execution.late if one.msg_type == "stream")


def plain(execution: Execution) -> str:
    assert execution.result is not None
    return str(execution.result["text/plain"])


# Awaiting


@pytest.mark.parametrize(
    "cell",
    [
        "%%asyncio\nawait asyncio.sleep(1, 'slept')",
        "await aio(asyncio.sleep(1, 'slept'))",
        "await aio(asyncio.sleep, 1, 'slept')",
        "await aio(asyncio.gather, asyncio.sleep(1, 'slept'))\n_[0] if False else 'slept'",
        "%%time\nawait aio(asyncio.sleep(1, 'slept'))",
    ],
)
async def test_one_cell_awaits_asyncio(client: CheckedClient, cell: str) -> None:
    began = trio.current_time()
    await client.expect(cell, result="'slept'")
    assert trio.current_time() - began == pytest.approx(1)


async def test_all_cells_of_a_session_await_both(session: CheckedClient) -> None:
    await session.expect("await asyncio.sleep(1, 'aio')", result="'aio'")
    await session.expect("await trio.sleep(1)\nawait asyncio.sleep(1)\nprint(1)", stdout="1")
    await session.expect(
        "async with trio.open_nursery() as n:\n    n.start_soon(trio.sleep, 1)\n"
        "    await asyncio.sleep(2)\nprint(2)",
        stdout="2",
    )
    await session.expect("%time await asyncio.sleep(0)", stdout=re.compile("Wall time"))


@pytest.mark.parametrize(
    "cell",
    [
        "%%asyncio\nawait asyncio.sleep(1, 'slept')",
        "await aio(asyncio.sleep(1, 'slept'))",
        "await aio(asyncio.sleep, 1, 'slept')",
        "(await asyncio.gather(aio(asyncio.sleep, 1, 'slept')))[0]",
        "await asyncio.create_task(aio(asyncio.sleep, 1, 'slept'))",
        "await get_ipython().run_cell_async(\"x = await asyncio.sleep(1, 'slept')\")\nx",
        "asyncio.run(aio(asyncio.sleep, 0, 'slept'))",
    ],
)
async def test_within_asyncio_what_asks_for_asyncio_is_awaited_there(
    session: CheckedClient, cell: str
) -> None:
    assert plain(await session.expect(cell)) == "'slept'"
    await session.expect("await asyncio.sleep(1)")


async def test_the_session_goes_back_to_trio(session: CheckedClient) -> None:
    assert "kernel's asyncio loop" in (await session.expect("%autoawait")).stdout
    await session.expect("%autoawait trio\n%autoawait", stdout=re.compile("kernel's Trio loop"))
    await session.expect("asyncio.get_running_loop()", error=RuntimeError)


async def test_the_setting_has_all_cells_run_in_asyncio(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory_client(PythonKernel(cell_loop="asyncio")) as client:
        await client.expect("import asyncio\nawait asyncio.sleep(1, 7)", result="7")
    with pytest.raises(UsageError, match="trio or asyncio, not 'curio'"):
        await trikernel.serve(
            PythonKernel(cell_loop="curio"), trikernel.MemoryTransport(), services="inline"
        )


async def test_an_asyncio_cell_without_an_await_has_loop_and_task(session: CheckedClient) -> None:
    await session.expect(
        "loop = asyncio.get_running_loop()\nassert asyncio.get_event_loop() is loop"
    )
    await session.expect("asyncio.current_task() is not None", result="True")
    await session.expect("import sniffio\nsniffio.current_async_library()", result="'asyncio'")
    await session.expect("asyncio.get_running_loop() is loop", result="True")
    await session.expect("import anyio\nasync with anyio.create_task_group() as group:\n"
                         "    group.start_soon(anyio.sleep, 1)")  # fmt: skip


async def test_context_variables_of_a_cell_last(session: CheckedClient) -> None:
    await session.expect(
        "from contextvars import ContextVar\nchosen = ContextVar('chosen')\n"
        "await asyncio.sleep(0)\nnot chosen.set(7)"
    )
    await session.expect("await asyncio.sleep(0)\nchosen.get()", result="7")
    await session.expect("%autoawait trio\nchosen.get()", result="7")


async def test_asyncio_run_works_in_an_asyncio_cell_too(session: CheckedClient) -> None:
    await session.expect(
        "async def inner():\n    await asyncio.sleep(0.01)\n    return asyncio.get_running_loop()\n"
        "mine = asyncio.get_running_loop()\nassert asyncio.run(inner()) is not mine\n"
        "await asyncio.sleep(1)\nasyncio.get_running_loop() is mine",
        result="True",
    )


CANNOT = {
    "await asyncio.sleep(1)": RuntimeError,
    "asyncio.create_task(asyncio.sleep(1))": RuntimeError,
    "loop = await aio(asyncio.get_running_loop)\nawait loop.create_future()": TypeError,
    "async with trio.open_nursery() as group:\n    group.start_soon(tick, 1)": ExceptionGroup,
    "try: asyncio.create_task(1)\nexcept RuntimeError: get_ipython().showtraceback()": None,
}


@pytest.mark.parametrize("cell", CANNOT)
async def test_an_error_of_a_trio_cell_says_what_to_do(client: CheckedClient, cell: str) -> None:
    execution = await client.expect(cell, error=CANNOT[cell])
    (line,) = execution.stderr.strip().splitlines()
    assert "put %%asyncio at the top of the cell" in line


async def test_the_banner_says_which_loop_runs_what_is_awaited() -> None:
    assert PythonKernel().banner.endswith("runs in Trio")
    assert PythonKernel(cell_loop="asyncio").banner.endswith("runs in asyncio")


async def test_any_other_error_says_nothing_of_asyncio(client: CheckedClient) -> None:
    for cell in ("raise RuntimeError('no')", "1 + ''"):
        assert "asyncio" not in (await client.execute(cell)).stderr


# Tasks that go on


async def test_a_task_goes_on_in_its_cell_whatever_later_cells_await(
    session: CheckedClient,
) -> None:
    first = await session.expect("kept = asyncio.create_task(tick(3))", stdout="")
    await trio.sleep(1.5)
    assert late_text(first) == "tick 0\n"
    await session.expect("%autoawait trio\nawait trio.sleep(1)\nprint('here')", stdout="here")
    assert late_text(first) == "tick 0\ntick 1\n"
    await session.expect("%%asyncio\nawait kept\nprint('done')", stdout="done")
    assert late_text(first) == "tick 0\ntick 1\ntick 2\n"


async def test_threads_and_callbacks_print_in_their_cell(session: CheckedClient) -> None:
    first = await session.expect(
        "loop = asyncio.get_running_loop()\n_ = loop.call_later(5, print, 'called')",
        stdout="",
    )
    await session.expect("await asyncio.sleep(9)")
    assert late_text(first) == "called\n"
    await session.expect("await asyncio.to_thread(print, 'thread')", stdout="thread")
    await session.expect("await loop.run_in_executor(None, print, 'pool')", stdout="pool")


async def test_a_task_that_fails_is_told_under_its_cell_once(session: CheckedClient) -> None:
    first = await session.expect("kept = asyncio.create_task(fail())")
    await session.expect("await asyncio.sleep(3)", stderr="")
    (error,) = session.pop_background_errors()
    assert isinstance(error, ValueError)
    assert [one.content["ename"] for one in first.late] == ["ValueError"]
    assert "cell_loop" not in "".join(first.late[0].content["traceback"])
    await session.expect("await kept", error=ValueError)
    await session.expect("del kept\nimport gc\n_ = gc.collect()", stderr="")


HEARD = {
    "awaited later": "kept = asyncio.create_task(fail())\nawait asyncio.sleep(3)\n"
    "try:\n    await kept\nexcept ValueError:\n    print('heard')",
    "gathered": "print('heard', await asyncio.gather(fail(), return_exceptions=True) and '')",
    "waited for": "done, _ = await asyncio.wait([asyncio.create_task(fail())])\n"
    "print('heard', done.pop().exception() and '')",
}


@pytest.mark.parametrize("how", HEARD)
async def test_an_error_that_somebody_asks_for_is_not_told(
    session: CheckedClient, how: str
) -> None:
    first = await session.expect(HEARD[how], stdout=re.compile("heard"))
    await session.expect("await asyncio.sleep(3)")
    assert (session.pop_background_errors(), first.late) == ([], [])


async def test_a_callback_that_fails_is_told_under_its_cell(session: CheckedClient) -> None:
    first = await session.expect("_ = asyncio.get_running_loop().call_later(1, lambda: 1 / 0)")
    await session.expect("await asyncio.sleep(3)")
    assert [type(one) for one in session.pop_background_errors()] == [ZeroDivisionError]
    assert [one.content["ename"] for one in first.late] == ["ZeroDivisionError"]


async def test_a_handler_of_the_users_own_is_told_instead(session: CheckedClient) -> None:
    first = await session.expect(
        "asyncio.get_running_loop().set_exception_handler(\n"
        "    lambda loop, what: print(what['message'], type(what['exception']).__name__))\n"
        "kept = asyncio.create_task(fail())"
    )
    await session.expect("await asyncio.sleep(3)")
    assert late_text(first) == "Task exception was never retrieved ValueError\n"


async def test_tasks_shows_and_cancels_them(session: CheckedClient) -> None:
    await session.expect("kept = asyncio.create_task(tick(99), name='<b>')\nnursery.start_soon(trio.sleep, 99)")  # fmt: skip  # noqa: E501
    await session.expect("other = asyncio.create_task(tick(99))\nawait asyncio.sleep(20)")
    shown = plain(await session.expect("%tasks")).splitlines()
    assert [re.sub(r"#\d+", "#n", line) for line in shown] == [
        "cell    task           age     waits on",
        "In [3]  #n trio.sleep  20.0 s  sleep",
        "In [3]  #n <b>         20.0 s  sleep, Cell In[1], line 6",
        "In [4]  #n tick        20.0 s  sleep, Cell In[1], line 6",
    ]
    assert "cancelled" in (await session.expect("%cancel tick")).stdout
    await session.expect("await asyncio.sleep(0)\nother.cancelled(), kept.done()",
                         result="(True, False)")  # fmt: skip
    await session.expect("%cancel all", stdout=re.compile("<b>"))
    assert plain(await session.expect("await asyncio.sleep(0)\n%tasks")) == "no tasks"


# Stopping


async def test_an_interrupt_cancels_what_the_cell_awaits_and_nothing_else(
    session: CheckedClient,
) -> None:
    first = await session.expect("kept = asyncio.create_task(tick(99))")
    execution = session.start(
        "try:\n    await asyncio.sleep(99)\nfinally:\n"
        "    await asyncio.sleep(1)\n    print('cleaned')"
    )
    await execution.wait_started()
    await trio.sleep(2)
    await session.interrupt()
    await execution.wait()
    assert execution.error is not None
    assert (execution.error.ename, execution.stdout) == ("KeyboardInterrupt", "cleaned\n")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(execution.error.traceback))
    assert "----> 2     await asyncio.sleep(99)" in shown
    await session.expect("kept.done()", result="False")
    assert late_text(first).count("tick") >= 2


ACROSS = {
    "Trio's scope, asyncio's wait": "with trio.move_on_after(1): await asyncio.sleep(9)",
    "Trio's scope, a group of asyncio's tasks": (
        "with trio.move_on_after(1):\n"
        "    async with asyncio.TaskGroup() as group: group.create_task(asyncio.sleep(9))"
    ),
    "what cleans up by asyncio": (
        "with trio.move_on_after(1):\n    try: await asyncio.sleep(9)\n"
        "    finally: await aio(asyncio.sleep, 0)"
    ),
    "a nursery's task that fails": (
        "async def bad(): 1 / 0\n"
        "try:\n    async with trio.open_nursery() as group:\n        group.start_soon(bad)\n"
        "        await asyncio.sleep(9)\nexcept* ZeroDivisionError: pass"
    ),
    "asyncio's timeout, Trio's wait": (
        "try:\n    async with asyncio.timeout(1): await trio.sleep(9)\nexcept TimeoutError: pass"
    ),
}


@pytest.mark.parametrize("cell", ACROSS.values(), ids=ACROSS)
async def test_what_one_loop_cancels_the_other_one_ends(session: CheckedClient, cell: str) -> None:
    before = trio.current_time()
    await session.expect(cell)
    assert trio.current_time() - before < 5
    await session.expect("await asyncio.sleep(1)\nasyncio.current_task().cancelling()", result="0")


async def test_a_step_of_a_task_is_made_although_an_interrupt_came_before_it(
    session: CheckedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_open, calls = cell_loop._call_open, itertools.count()

    def interrupted(*args: Any) -> None:
        if next(calls) % 2 == 0:
            raise KeyboardInterrupt
        call_open(*args)

    await session.expect("task = asyncio.create_task(asyncio.sleep(5, 'made'))")
    with monkeypatch.context() as patched:
        patched.setattr(cell_loop, "_call_open", interrupted)
        await session.expect("await asyncio.sleep(9)", error=KeyboardInterrupt)
        await trio.sleep(9)
    await session.expect("await task", result="'made'")


async def test_a_deadline_ends_an_asyncio_cell(session: CheckedClient) -> None:
    await session.expect("%%timeout 2\nawait asyncio.sleep(99)", error="DeadlineExceeded")
    await session.expect(
        "async with asyncio.timeout(1):\n    await asyncio.sleep(9)", error=TimeoutError
    )


async def test_a_cell_that_swallows_its_cancel_is_left_behind(session: CheckedClient) -> None:
    execution = session.start(
        "while True:\n    try:\n        await asyncio.sleep(99)\n"
        "    except asyncio.CancelledError:\n        print('no')"
    )
    await execution.wait_started()
    await session.interrupt()
    await trio.sleep(0.2)
    await session.interrupt()
    assert (await execution.wait()).status == "error"
    await session.expect("await asyncio.sleep(1)\nprint('next')", stdout="next")


async def test_a_task_that_cancels_itself_is_an_error_of_its_cell(session: CheckedClient) -> None:
    await session.expect(
        "asyncio.current_task().cancel()\nawait asyncio.sleep(1)", error="CancelledError"
    )
    await session.expect("await asyncio.sleep(1, 1)", result="1")


async def test_tasks_of_two_loops_that_await_each_other_end_by_an_interrupt(
    session: CheckedClient,
) -> None:
    execution = session.start(
        "event = trio.Event()\nkept = asyncio.ensure_future(aio_side := asyncio.sleep(99))\n"
        "async def trio_side():\n    await aio(asyncio.shield(kept))\n    event.set()\n"
        "nursery.start_soon(trio_side)\nkept.add_done_callback(lambda one: None)\n"
        "await event.wait()"
    )
    await execution.wait_started()
    await trio.sleep(2)
    await session.interrupt()
    assert (await execution.wait()).error is not None
    await session.expect("kept.cancel()", result="True")
    assert len(session.pop_background_errors()) == 1  # its CancelledError


# Loops that are closed, and other things that asyncio has


async def test_a_loop_that_a_cell_closes_is_replaced_and_that_is_said(
    session: CheckedClient,
) -> None:
    await session.expect(
        "asyncio.get_running_loop().close()", error=re.compile("Cannot close a running")
    )
    first = await session.expect("kept = asyncio.create_task(tick(99))\nawait asyncio.sleep(1.5)")
    assert first.stdout == "tick 0\n"
    await session.expect(
        "%autoawait trio\nloop = await aio(asyncio.get_running_loop)\nloop.close()"
    )
    execution = await session.expect("await aio(asyncio.sleep(1, 'new'))", result="'new'")
    assert "closed by a cell" in execution.stderr
    await session.expect("await aio(asyncio.sleep(1))", stderr="")


async def test_async_generators_and_queues(session: CheckedClient) -> None:
    first = await session.expect(
        "async def numbers():\n    try:\n        yield 1\n        yield 2\n"
        "    finally:\n        await asyncio.sleep(1)\n        print('closed')\n"
        "async for one in numbers():\n    break"
    )
    await session.expect("import gc\n_ = gc.collect()\nawait asyncio.sleep(3)")
    assert "closed\n" in first.stdout + late_text(first)
    await session.expect(
        "queue = asyncio.Queue()\nkept = asyncio.create_task(queue.get())\n"
        "await queue.put(7)\nawait kept",
        result="7",
    )


async def test_sigint_stays_the_kernels(session: CheckedClient) -> None:
    await session.expect(
        "import signal\nbefore = signal.getsignal(signal.SIGINT)\n"
        "asyncio.get_running_loop().add_signal_handler(signal.SIGINT, print)",
        error=re.compile("SIGINT is the kernel's"),
    )
    await session.expect("signal.getsignal(signal.SIGINT) is before", result="True")


async def test_debug_mode_works_and_a_slow_callback_is_warned_of(session: CheckedClient) -> None:
    await session.expect("asyncio.get_running_loop().set_debug(True)\nawait asyncio.sleep(1)")
    await session.expect("await asyncio.gather(tick(1), tick(1, 'b'))", stdout=re.compile("b 0"))


async def test_two_kernels_in_one_loop_have_a_loop_each(client: CheckedClient) -> None:
    await client.expect("%%asyncio\nloop = asyncio.get_running_loop()")
    async with open_memory_client(PythonKernel()) as other:
        await other.expect("import asyncio\nfrom trikernel.notebook import aio")
        await other.expect("loop = await aio(asyncio.get_running_loop)\nid(loop)")
        theirs = plain(await other.expect("id(loop)"))
    assert plain(await client.expect("id(loop)")) != theirs
    await client.expect("await aio(asyncio.sleep(1, 'lives'))", result="'lives'")


async def test_a_comm_handler_has_a_running_loop_in_a_session_of_asyncio(
    session: CheckedClient,
) -> None:
    await session.expect(
        "from comm import get_comm_manager\nkept = []\n"
        "def opened(comm, message):\n    kept.append(asyncio.create_task(tick(1, 'comm')))\n"
        "get_comm_manager().register_target('here', opened)"
    )
    content: dict[str, Any] = {"comm_id": "1", "target_name": "here", "data": {}}
    await session.send("comm_open", content).wait()
    await session.expect("await kept[0]\nlen(kept)", result="1")


async def test_the_magic_explains_itself(client: CheckedClient) -> None:
    assert "takes no argument" in (await client.execute("%%asyncio now\n1")).stderr
    refused = await client.execute("get_ipython().run_cell('%%asyncio\\n1').success")
    assert "run_cell" in refused.stderr


async def test_the_notebook_of_the_docs_runs(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> None:
    notebook = json.loads((EXAMPLES / "asyncio_beside_trio.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            await kernel_client.expect("".join(cell["source"]), status="ok")
