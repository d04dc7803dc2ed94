"""Subshells of the Python kernel: what each has its own of, what all share, and their threads."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

from trikernel.client import Client, open_kernel
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, open_clients


async def test_names_are_shared_and_numbers_and_results_are_not(
    kernel_client: CheckedClient,
) -> None:
    await kernel_client.expect("x = 40\nx + 1", result="41")
    async with kernel_client.open_subshell() as shell:
        first = await shell.expect("x + 2", result="42")
        assert first.reply is not None
        assert first.reply.content["execution_count"] == 1
        await shell.expect("y = _ + 1\nIn[1], Out, _i, y", result="('x + 2', {1: 42}, 'x + 2', 43)")
        await shell.expect("%history", stdout=re.compile(r"^x \+ 2\ny = ", re.MULTILINE))
        await shell.expect("get_ipython().execution_count", result="5")
        tail = "[one for _, _, one in get_ipython().history_manager.get_tail(2)]"
        await shell.expect(tail, result="['%history', 'get_ipython().execution_count']")
        await kernel_client.expect("y, _, Out", result="(43, 41, {1: 41})")
        await kernel_client.expect("len(In)", result="4")


async def test_magics_and_formatters_are_those_of_the_main_shell(
    kernel_client: CheckedClient,
) -> None:
    await kernel_client.expect(
        "from IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef double(line): return int(line) * 2\n"
        "get_ipython().display_formatter.formatters['text/plain'].for_type(set, "
        "lambda value, printer, cycle: printer.text('a set'))"
    )
    async with kernel_client.open_subshell() as shell:
        await shell.expect("%double 21", result="42")
        await shell.expect("{1}", result="a set")
        await shell.expect("%time 1 + 1", result="2")
        await shell.expect("%%time\nz = 7")
        await shell.expect("%timeit -n 1 -r 1 z")
        await shell.expect("def f(): return z\n[f() for _ in range(2)]", result="[7, 7]")


async def test_an_error_is_shown_and_kept_apart(kernel_client: CheckedClient) -> None:
    async with kernel_client.open_subshell() as shell:
        failed = await shell.expect("def f():\n    1 / 0\nf()", error=ZeroDivisionError)
        assert failed.error is not None
        assert any("f()" in re.sub(r"\x1b[^m]*m", "", one) for one in failed.error.traceback)
        await kernel_client.expect("1", result="1")
        await shell.expect("undefined", error=NameError)


async def test_output_of_its_threads_and_tasks_stays_under_its_cell(
    kernel_client: CheckedClient,
) -> None:
    code = (
        "import threading, trio\nfrom trikernel.notebook import nursery\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "async def task(): print('task')\n"
        "nursery.start_soon(task)\nawait trio.sleep(0.01)\nprint('cell')"
    )
    async with kernel_client.open_subshell() as shell:
        waiting = kernel_client.start("await trio.sleep(1)")
        await shell.expect(code, stdout="thread\ntask\ncell")
        await waiting.wait()
        assert waiting.stdout == ""


async def test_the_subshell_magic_tells_where_a_cell_runs(kernel_client: CheckedClient) -> None:
    async with kernel_client.open_subshell() as shell:
        told = (await shell.expect("%subshell")).stdout.splitlines()
        assert told[0] == f"subshell id: {shell.subshell_id}"
        assert told[-1] == f"subshell list: ['{shell.subshell_id}']"
        assert (await kernel_client.expect("%subshell")).stdout.startswith("subshell id: None")


async def test_its_background_tasks_end_with_it(kernel_client: CheckedClient) -> None:
    async with kernel_client.open_subshell() as shell:
        await shell.expect(
            "import trio\nfrom trikernel.notebook import nursery\nended = []\n"
            "async def task():\n    try: await trio.sleep_forever()\n"
            "    finally: ended.append(1)\nnursery.start_soon(task)\nawait trio.sleep(0)"
        )
        assert "task" in repr((await shell.expect("%tasks")).result)
        await kernel_client.expect("%tasks", result="no tasks")
    await kernel_client.expect("ended", result="[1]")


# In threads: a kernel in this process over real sockets


@contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no descriptor more than before."""

    def count() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = count()
    yield
    for _ in range(100):
        if count() <= before:
            break
        threading.Event().wait(0.05)  # a thread that has said its last word still has to end
    assert count() <= before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no list of descriptors")
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.thorough)])
async def test_nothing_is_left_of_many(count: int) -> None:
    async with open_clients(PythonKernel(), over="tcp") as (client,):
        async with client.open_subshell() as shell:  # what the first one imports
            await shell.execute("1")
        with nothing_left():
            for _ in range(count):
                async with client.open_subshell() as shell:
                    await shell.execute("1")


STOPPED = {
    "computes": "while True: pass",
    "prints": "while True: print('x')",
    "sleeps now and then": "import time\nwhile True: time.sleep(0.01)",
    "awaits": "import trio\nawait trio.sleep_forever()",
    "swallows it": "while True:\n  try:\n    while 1: pass\n  except KeyboardInterrupt: pass",
    "does not come back": "import time\ntime.sleep(60)",
}


@pytest.fixture(scope="module")
def threaded() -> Any:
    """Calls a function with a client of a kernel whose subshells have threads."""

    def run(function: Any, *args: Any) -> None:
        async def main() -> None:
            with trio.fail_after(60):
                async with open_clients(PythonKernel(), over="tcp") as (client,):
                    await function(client, *args)

        trio.run(main)

    return run


@pytest.mark.parametrize("name", STOPPED)
def test_an_interrupt_stops_what(name: str, threaded: Any) -> None:
    async def check(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            cell = shell.start(STOPPED[name])
            await cell.wait_started()
            while not cell.done:
                await shell.interrupt()
                with trio.move_on_after(0.2):
                    await cell.wait()
            assert cell.status == "error"
            await shell.expect("1 + 1", result="2")  # the subshell goes on, in a new thread maybe
            await client.expect("1 + 1", result="2")

    threaded(check)


def test_a_deadline_stops_what_computes(threaded: Any) -> None:
    async def check(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            cell = await shell.execute("while True: pass", metadata={"trikernel.timeout": 0.2})
            assert cell.error is not None
            assert cell.error.ename == "DeadlineExceeded"

    threaded(check)


def test_one_that_does_not_come_back_is_deleted_all_the_same(threaded: Any) -> None:
    async def check(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            cells = [shell.start("import time; time.sleep(3)"), shell.start("1")]
            await cells[0].wait_started()
            await client.expect("1", result="1")
        for cell in cells:
            await cell.wait()
            assert (cell.status, cell.replies) == ("aborted", 1)

    threaded(check)


def test_a_cell_that_ends_after_its_kernel_undoes_nothing_of_another_one(threaded: Any) -> None:
    release = threading.Event()
    hold = "import builtins; builtins.held.set(); builtins.release.wait()"
    before = set(threading.enumerate())

    async def check(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            cell = shell.start(hold)
            await trio.to_thread.run_sync(held.wait)
        await cell.wait()

    async def check_another(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            await shell.expect("1 + 1", result="2")
            release.set()
            for one in set(threading.enumerate()) & left:
                await trio.to_thread.run_sync(one.join)
            await shell.expect("get_ipython().kernel is not None", result="True")
            await client.expect("1 + 1", result="2")

    held = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.held", held, raising=False)
        patch.setattr("builtins.release", release, raising=False)
        threaded(check)
        left = {one for one in threading.enumerate() if "subshell" in one.name} - before
        assert left
        threaded(check_another)


def test_a_crash_of_its_loop_is_its_own(threaded: Any) -> None:
    crash = (
        "import trio\nasync def fall(): raise OSError('fallen')\n"
        "trio.lowlevel.spawn_system_task(fall)\nawait trio.sleep(60)"
    )

    async def check(client: CheckedClient) -> None:
        async with client.open_subshell() as shell:
            cells = [shell.start(crash, stop_on_error=False), shell.start("1 + 1")]
            for cell in cells:
                await cell.wait()
            assert cells[0].error is not None
            assert cells[0].error.ename == "LoopLost"
            assert cells[1].status == "ok"
            await client.expect("1", result="1")

    threaded(check)


@pytest.mark.parametrize("name", ["asyncio", "trikernel.timeline"])
def test_what_another_thread_is_importing_is_not_there_yet(name: str, threaded: Any) -> None:
    async def check(client: CheckedClient) -> None:
        await client.execute("1 / 0")  # imports what an error needs
        with pytest.MonkeyPatch.context() as patch:
            # a module is in sys.modules from the moment in which its import begins
            patch.setitem(sys.modules, name, ModuleType(name))
            async with client.open_subshell() as shell:
                cell = await shell.execute("1 / 0")
        assert cell.error is not None
        assert cell.error.ename == "ZeroDivisionError"
        assert client.log_tail() == ""

    threaded(check)


# In a process of its own: the main shell may block


TARGET = """
import trio
moved = trio.Event()
def opened(comm, message):
    def heard(message):
        moved.set()
        comm.send({"heard": message["content"]["data"]["value"]})
    comm.on_msg(heard)
    comm.send({"heard": None})
get_ipython().kernel.comm_manager.register_target("echo", opened)
"""
# when the main loop has taken a comm's message and not called its handler: that is the subshell's
BLOCKS = """
moved, comms = trio.Event(), get_ipython().kernel.server.lane.comm
while not (comms.unstarted or moved.is_set()):
    await trio.lowlevel.checkpoint()
open({!r}).read()
print('awake')
"""


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
async def test_a_subshell_lives_while_the_main_shell_blocks(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    if sys.platform != "win32":
        os.mkfifo(pipe)
    with trio.fail_after(120):
        async with open_kernel() as client:
            await client.execute(TARGET)
            comm = client.comm_open("echo")
            await comm.receive()  # it is open
            awaits = client.start("await moved.wait()\n'moved'")
            await awaits.wait_started()
            async with client.open_subshell() as shell:  # as JupyterLab sends a widget's
                shell.send("comm_msg", {"comm_id": comm.comm_id, "data": {"value": 5}})
                assert (await awaits.wait()).result == {"text/plain": "'moved'"}
                assert (await comm.receive()).content["data"] == {"heard": 5}
            blocked = client.start(BLOCKS.format(str(pipe)))
            await blocked.wait_started()
            async with client.open_subshell() as shell:
                shell.send("comm_msg", {"comm_id": comm.comm_id, "data": {"value": 7}})
                assert (await comm.receive()).content["data"] == {"heard": 7}
                answered = await shell.execute("input('who? ')", on_input=lambda *_: "Ada")
                assert answered.result == {"text/plain": "'Ada'"}
                assert blocked.reply is None
            await trio.to_thread.run_sync(pipe.write_text, "go on", abandon_on_cancel=True)
            await blocked.wait()
            assert blocked.stdout == "awake\n"
            await _nothing_is_lost_under_load(client)


async def _nothing_is_lost_under_load(client: Client) -> None:
    """Subshells come and go, and the main shell blocks now and then, while it has much to do."""
    await client.execute("import time; seen = []")
    sent = []
    for number in range(300):
        wait = "time.sleep(0.05); " if number % 40 == 0 else ""
        sent.append(client.start(f"{wait}seen.append({number})"))
        if number % 60 == 30:
            async with client.open_subshell() as shell:
                assert (await shell.execute("1 + 1")).status == "ok"
    for cell in sent:
        await cell.wait()
    assert {cell.replies for cell in sent} == {1}
    in_order = await client.execute("seen == list(range(300))")
    assert in_order.result == {"text/plain": "True"}
