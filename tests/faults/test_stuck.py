"""Whatever a cell is stuck in: after its deadline or a client's time-out the next cell runs.

The table in docs/discussion/interrupts.md, in one kernel process for nearly all of its rows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trikernel.client import Client, Execution, stopping
from trikernel.errors import CellStillRuns, ExecutionTimeout, KernelDied
from trikernel.testing.processes import SessionKernel, session_kernel

from .processes import By, environment, errors_of, interrupt, until_text
from .stuck import HEARS_SIGNALS, SETUP, STUCK

BOUND = 20.0  # seconds; what is meant is the grace and 0.2 s, on a machine that has time


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionKernel]:
    """One process for many rows, which also shows that none of them breaks it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(str(tmp_path_factory.mktemp("ipython"))).items():
            patch.setenv(name, value)
        patch.setenv("TRIKERNEL_STOP_GRACE", "0.3")
        with session_kernel(None) as kernel:
            trio.run(_start, kernel)  # now, while the variables are set
            yield kernel


async def _start(kernel: SessionKernel) -> None:
    async with kernel.client() as client:
        execution = await client.execute("get_ipython().kernel.stop_grace")
        assert execution.result == {"text/plain": "0.3"}


async def assert_goes_on(client: Client) -> None:
    (await client.execute("assert kept == 'for hours'")).raise_for_error()
    assert (await client.execute("sys.gettrace()")).result is None
    assert (await client.execute("await trio.sleep(0.01); 1 + 1")).result == {"text/plain": "2"}


@pytest.mark.parametrize("stuck", STUCK)
async def test_a_deadline_of_the_kernels_own_holds(shared: SessionKernel, stuck: str) -> None:
    if stuck in HEARS_SIGNALS and sys.platform != "linux":
        pytest.skip("no timers that signal")
    async with shared.client() as client:
        (await client.execute(SETUP)).raise_for_error()
        with trio.fail_after(BOUND):
            execution = await client.execute(f"%%timeout 0.3\n{STUCK[stuck]}")
        assert execution.error is not None
        assert execution.error.ename == "DeadlineExceeded"
        assert execution.replies == 1
        await assert_goes_on(client)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("stuck", STUCK)
async def test_the_clients_time_out_holds(shared: SessionKernel, stuck: str) -> None:
    async with shared.client() as client:
        (await client.execute(SETUP)).raise_for_error()
        with (
            trio.fail_after(BOUND),
            pytest.raises(ExecutionTimeout, match=r"(?m)interrupted$") as error,
        ):
            await client.execute(STUCK[stuck], timeout=0.3)
        execution = error.value.execution
        assert isinstance(execution, Execution)
        assert execution.replies == 1
        await assert_goes_on(client)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("by", ["signal", "message"])
async def test_the_third_interrupt_is_not_swallowed(shared: SessionKernel, by: By) -> None:
    async with shared.client() as client:
        (await client.execute(SETUP)).raise_for_error()
        execution = client.start(
            "heard = 0\n"
            "while True:\n"
            "    try: print('begun', flush=True); time.sleep(1000)\n"
            "    except KeyboardInterrupt: heard += 1; print('heard', heard, flush=True)"
        )
        await until_text(execution, "begun")
        for number in (1, 2):
            await interrupt(client, by)
            await until_text(execution, f"heard {number}")
            assert not execution.done
            await trio.sleep(0.2)  # those that follow at once count as one
        await interrupt(client, by)
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"
        await assert_goes_on(client)


async def test_what_follows_a_stopped_cell_is_not_stopped_with_it(shared: SessionKernel) -> None:
    async with shared.client() as client:
        (await client.execute(f"{SETUP}\nslept = []")).raise_for_error()
        hook = "def hook(): time.sleep(0.1); slept.append('to the end')\n"
        events = "get_ipython().events"
        await client.execute(f"{hook}{events}.register('post_execute', hook)")
        execution = await client.execute(f"%%timeout 0.3\n{STUCK['a clean-up that sleeps']}")
        await client.execute(f"{events}.unregister('post_execute', hook)")
        assert [error["ename"] for error in errors_of(execution)] == ["DeadlineExceeded"]
        assert (await client.execute("slept[1:]")).result == {"text/plain": "['to the end']"}


# C code that lets go of the lock and looks for no signals

QUERY = """\
db = sqlite3.connect(":memory:")
db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
"""
PLACE = "sqlite3.Connection.execute, line 2"
ENDED_BY_A_THREAD = """
import os, threading

def end_it(path):
    os.mkfifo(path)
    open(path).close()
    db.interrupt()

threading.Thread(target=end_it, args=[{!r}]).start()
"""


async def test_what_cannot_be_reached_is_told_with_its_place(
    shared: SessionKernel, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    async with shared.client() as client:
        (await client.execute(SETUP)).raise_for_error()
        (await client.execute(ENDED_BY_A_THREAD.format(str(path)))).raise_for_error()
        execution = client.start(QUERY, metadata={"trikernel.timeout": 0.1})
        await until_text(execution, "only a restart helps", "stderr")
        assert f"it still runs in {PLACE};" in execution.stderr
        reply = await client.request("interrupt_request", channel="control")
        assert reply.content == {"status": "ok", "still_runs": PLACE}
        path.write_text("")
        await execution.wait()
        assert execution.error is not None  # the query's, or the deadline's
        assert execution.stderr.count("only a restart") == 1
        await assert_goes_on(client)
        reply = await client.request("interrupt_request", channel="control")
        assert reply.content == {"status": "ok"}


async def test_a_cell_that_cannot_be_reached_is_not_called_interrupted_and_its_kernel_is_restarted(
    shared: SessionKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "INTERRUPT_GRACE", 2.5)
    async with shared.client() as client:
        (await client.execute(SETUP)).raise_for_error()
        number = int((await client.execute("import os; print(os.getpid())")).stdout)
        behind: list[KernelDied] = []

        async def wait_behind() -> None:
            with pytest.raises(KernelDied, match="was restarted") as error:
                await client.execute("kept = 'by the cell behind'")
            behind.append(error.value)

        async def run_stuck() -> None:
            async with client.executing(QUERY, timeout=0.3) as execution:
                await execution.wait_started()
                nursery.start_soon(wait_behind)

        async with trio.open_nursery() as nursery:
            with trio.fail_after(BOUND), pytest.raises(CellStillRuns) as caught:
                await run_stuck()
        error = caught.value
        assert str(error) == (
            "the cell took longer than 0.3 seconds and does not end: it still runs, in "
            f"{PLACE}; the kernel was restarted, and its names are lost"
        )
        assert (error.place, error.restarted) == (PLACE, True)
        assert len(behind) == 1
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
        assert (await client.execute("'kept' in globals()")).result == {"text/plain": "False"}
        (await client.execute(SETUP)).raise_for_error()
        # C code that keeps the lock, too: nobody in the kernel can tell where it stands
        with trio.fail_after(BOUND), pytest.raises(CellStillRuns) as caught:
            await client.execute("sum(range(10 ** 13))", timeout=0.3)
        assert "it still runs; the kernel was restarted" in str(caught.value)
        assert (await client.execute("'kept' in globals()")).result == {"text/plain": "False"}
