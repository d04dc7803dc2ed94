"""User code that makes Trio give up costs the loop, never the kernel and its namespace."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from trikernel.client import Client, Execution

from ..processes import ROOT, TIMEOUT, wait_until
from .processes import errors_of, open_process, plain, until_text

SETUP = """\
import os, threading, time, trio
from trikernel.notebook import nursery
precious = {'kept': 'for hours'}
thread = threading.get_ident()
"""

CRASHES = {
    "a system task": (
        "async def fall_over():\n"
        "    raise RuntimeError('boom from the system task')\n"
        "trio.lowlevel.spawn_system_task(fall_over)\n"
        "await trio.sleep(100)"
    ),
    "a system task, much later": (
        "async def fall_over():\n"
        "    await trio.sleep(0.05)\n"
        "    raise RuntimeError('boom from the system task')\n"
        "trio.lowlevel.spawn_system_task(fall_over)\n"
        "print('begun')\n"
        "await trio.sleep(100)"
    ),
    "a call from another thread": (
        "def fall_over():\n"
        "    raise RuntimeError('boom from the system task')\n"
        "trio.lowlevel.current_trio_token().run_sync_soon(fall_over)\n"
        "await trio.sleep(100)"
    ),
    "an abort function": (
        "def fall_over(_):\n"
        "    raise RuntimeError('boom from the system task')\n"
        "with trio.move_on_after(0.05):\n"
        "    await trio.lowlevel.wait_task_rescheduled(fall_over)\n"
        "await trio.sleep(100)"
    ),
}  # fmt: skip
SYSTEM_TASK = CRASHES["a system task"]


async def number_of(client: Client, code: str) -> int:
    execution = (await client.execute(code)).raise_for_error()
    assert execution.result is not None
    return int(execution.result["text/plain"])


async def assert_alive(client: Client, pid: int) -> None:
    """The next cells run, in the same process and thread, with what was there and with Trio."""
    (await client.execute("assert precious == {'kept': 'for hours'}")).raise_for_error()
    (await client.execute("assert threading.get_ident() == thread")).raise_for_error()
    (await client.execute("await trio.sleep(0.01)")).raise_for_error()
    assert await number_of(client, "os.getpid()") == pid
    assert (await client.kernel_info()).content["status"] == "ok"
    usage = await client.request("kernel_info_request", channel="control")
    assert usage.content["status"] == "ok"


def session_of(execution: Execution) -> str:
    assert execution.reply is not None
    sessions = {one.header.session for one in [*execution.messages, execution.reply]}
    (session,) = sessions
    return str(session)


@pytest.mark.parametrize("case", CRASHES)
async def test_the_running_cell_gets_an_error_and_the_next_one_runs(case: str) -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        pid = await number_of(client, "os.getpid()")
        execution = await client.execute(CRASHES[case])
        assert execution.error is not None
        (error,) = errors_of(execution)
        shown = plain(error["traceback"])
        assert "RuntimeError" in shown
        assert "boom from the system task" in shown
        assert "fall_over" in shown  # its own traceback, with its own line
        assert "raise RuntimeError(" in shown
        assert execution.replies == 1
        await assert_alive(client, pid)


async def test_a_loop_all_of_which_is_cancelled_is_one_that_is_lost() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        pid = await number_of(client, "os.getpid()")
        execution = await client.execute(
            "task = trio.lowlevel.current_task()\n"
            "while task.parent_nursery:\n"
            "    task.parent_nursery.cancel_scope.cancel()\n"
            "    task = task.parent_nursery.parent_task\n"
            "await trio.sleep(1)"
        )
        (error,) = errors_of(execution)
        assert "all of its tasks were cancelled" in error["evalue"]
        await assert_alive(client, pid)


async def test_it_is_the_same_session_and_the_numbers_go_on() -> None:
    async with open_process() as client:
        before = await client.execute(SETUP)
        crashed = await client.execute(SYSTEM_TASK)
        after = await client.execute("1")
        assert session_of(before) == session_of(crashed) == session_of(after)
        assert [one.execution_count for one in (before, crashed, after)] == [1, 2, 3]


async def test_cells_that_wait_in_the_queue_are_not_lost() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        crashing = client.start(SYSTEM_TASK)
        queued = [client.start(f"await trio.sleep(0); {number}") for number in range(5)]
        await crashing.wait()
        assert crashing.status == "error"
        for number, execution in enumerate(queued):
            await execution.wait()
            assert execution.result == {"text/plain": str(number)}, execution.error


async def test_a_crash_is_an_error_that_aborts_what_is_queued_if_the_cell_says_so() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        crashing = client.start(SYSTEM_TASK, stop_on_error=True)
        queued = client.start("1", stop_on_error=True)
        await crashing.wait()
        await queued.wait()
        assert (crashing.status, queued.status) == ("error", "aborted")
        assert (await client.execute("2")).result == {"text/plain": "2"}


async def test_what_was_on_its_way_when_the_loop_crashed_is_aborted_too(tmp_path: Path) -> None:
    """It lies in the socket, for the cell computes until it crashes the loop."""
    async with open_process() as client:
        (await client.execute(f"{SETUP}path = {str(tmp_path / 'go')!r}")).raise_for_error()
        crashing = client.start(
            "print('begun', flush=True)\n"
            "while not os.path.exists(path): time.sleep(0.01)\n"
            "def fall_over():\n"
            "    raise RuntimeError('boom')\n"
            "trio.lowlevel.current_trio_token().run_sync_soon(fall_over)\n"
            "await trio.sleep(100)",
            stop_on_error=True,
        )
        await until_text(crashing, "begun")
        queued = [client.start(str(number), stop_on_error=True) for number in range(3)]
        await client.request("kernel_info_request", channel="control")
        (tmp_path / "go").touch()
        await crashing.wait()
        for one in queued:
            await one.wait()
        assert crashing.status == "error"
        assert [one.status for one in queued] == ["aborted"] * 3
        assert (await client.execute("2")).result == {"text/plain": "2"}


async def test_background_tasks_are_told_to_be_gone_and_new_ones_can_be_started() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        background = await client.execute(
            "ticks = 0\n"
            "async def tick():\n"
            "    global ticks\n"
            "    while True:\n"
            "        ticks += 1\n"
            "        await trio.sleep(0.01)\n"
            "nursery.start_soon(tick)\n"
            "while ticks < 3: await trio.sleep(0.01)"
        )
        assert background.error is None
        crashed = await client.execute(SYSTEM_TASK)
        assert crashed.status == "error"
        told = [plain("\n".join(one["traceback"])) for one in errors_of(crashed)]
        told += [crashed.stderr, background.stderr]
        told += [plain("\n".join(one["traceback"])) for one in errors_of(background)]
        assert "background tasks are gone: tick" in "\n".join(told).replace("__main__.", "")
        seen = await number_of(client, "seen = ticks; await trio.sleep(0.2); ticks - seen")
        assert seen == 0
        again = await client.execute(
            "from trikernel.notebook import nursery\n"
            "nursery.start_soon(tick)\n"
            "while ticks < seen + 3: await trio.sleep(0.01)\n"
            "'ticks again'"
        )
        assert again.result == {"text/plain": "'ticks again'"}, again.error


async def test_a_loop_that_crashes_while_no_cell_runs_costs_nothing_but_itself() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        pid = await number_of(client, "os.getpid()")
        with client.subscribe() as messages:
            await client.execute(
                "async def fall_over():\n"
                "    await trio.sleep(0.05)\n"
                "    raise RuntimeError('boom from the system task')\n"
                "task = trio.lowlevel.spawn_system_task(fall_over)"
            )
            async for message in messages:  # somebody is told, whoever it is
                told = message.msg_type != "execute_input" and str(dict(message.content))
                if told and "boom from the system task" in told:
                    break
            else:
                raise AssertionError("the kernel has ended")
        await assert_alive(client, pid)


async def test_a_loop_that_crashes_without_an_end_of_its_tasks_while_no_cell_runs(
    tmp_path: Path,
) -> None:
    """The shell lane waits for its next request then, as a task that nobody may wake any more."""
    falling, mark = CRASHES["an abort function"], tmp_path / "mark"
    begin, end = falling.split("    raise ")
    falls = f"{begin}    open({str(mark)!r}, 'w').close()\n    raise {end}"
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        pid = await number_of(client, "os.getpid()")
        body = textwrap.indent(falls.replace("0.05", "0.5"), "    ")
        code = f"async def wait():\n{body}\nnursery.start_soon(wait)"
        (await client.execute(code)).raise_for_error()
        await trio.to_thread.run_sync(wait_until, mark.exists, "the crash")
        await assert_alive(client, pid)


async def test_crash_after_crash_leaves_the_kernel_as_it_was() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        pid = await number_of(client, "os.getpid()")
        for _ in range(10):
            assert (await client.execute(SYSTEM_TASK)).status == "error"
        await assert_alive(client, pid)
        threads = await number_of(client, "threading.active_count()")
        descriptors = await number_of(client, "len(os.listdir('/dev/fd'))")
        for _ in range(10):
            assert (await client.execute(SYSTEM_TASK)).status == "error"
        assert await number_of(client, "threading.active_count()") <= threads
        assert await number_of(client, "len(os.listdir('/dev/fd'))") <= descriptors


async def test_after_a_crash_a_cell_can_be_interrupted_and_the_kernel_shut_down() -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        assert (await client.execute(SYSTEM_TASK)).status == "error"
        for code in ("while True: pass", "await trio.sleep_forever()"):
            execution = client.start(f"print('begun', flush=True)\n{code}")
            await until_text(execution, "begun")
            await client.interrupt()
            await execution.wait()
            assert execution.error is not None
            assert execution.error.ename == "KeyboardInterrupt"
        assert (await client.shutdown()).content["status"] == "ok"


HOST = """\
import trio, trikernel
from trikernel.client import open_client
from trikernel.python import PythonKernel
from trikernel.transport import ConnectionInfo, MemoryTransport, ZmqClientTransport, ZmqTransport

SERVICES = {services!r}

async def main():
    if SERVICES == "inline":
        transport = MemoryTransport()
        connection = transport.connect()
    else:
        transport = ZmqTransport(ConnectionInfo())
        connection = ZmqClientTransport(transport.info)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, transport)
        async with open_client(connection) as client:
            await client.execute({code!r})
    print("goes on")

async def serve(transport, *, task_status):
    await trikernel.serve(
        PythonKernel(), transport, services=SERVICES, task_status=task_status
    )

try:
    trio.run(main)
except trio.TrioInternalError as error:
    print("crash passed on:", repr(error.__cause__))
"""


@pytest.mark.parametrize("services", ["inline", "thread"])
def test_a_hosted_kernel_passes_the_crash_on_to_its_host(services: str) -> None:
    """The loop is the host's: whether it is lost is not the kernel's to decide."""
    code = f"import trio\n{SYSTEM_TASK}"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HOST).format(services=services, code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert "crash passed on" in run.stdout, run.stderr[-2000:]
    assert "boom from the system task" in run.stdout
    assert "goes on" not in run.stdout
    assert run.returncode == 0


async def test_an_authors_kernel_keeps_its_state_too() -> None:
    async with open_process("tests.faults.kernels:Author") as client:
        (await client.execute("keep something")).raise_for_error()
        with trio.fail_after(TIMEOUT / 2):
            crashed = await client.execute("crash")
        assert crashed.error is not None
        assert "boom from the system task" in plain(errors_of(crashed)[0]["traceback"])
        assert (await client.execute("kept")).stdout == "something"
