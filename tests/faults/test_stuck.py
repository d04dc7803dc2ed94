"""Whatever a cell is stuck in: after its deadline or a client's time-out the next cell runs."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing

import pytest
import trio

from trikernel.client import Client, Execution
from trikernel.errors import ExecutionTimeout

from ..processes import PYTHON
from .processes import By, interrupt, open_process, until_text

SETUP = "import sqlite3, time, trio\nkept = 'for hours'"
# Ways to be stuck, and what may tell why the cell was stopped.
STUCK = {
    "an await whose errors are swallowed": (
        "while True:\n    try: await trio.sleep(0.05)\n    except Exception: pass"
    ),
    "a loop of awaits that swallows everything": (
        "turns = 0\n"
        "while turns < 10**9:\n"
        "    try: await trio.sleep(0.05)\n"
        "    except BaseException: turns += 1"
    ),
    "a thread": "await trio.to_thread.run_sync(time.sleep, 30)",
    "a shield": "with trio.CancelScope(shield=True):\n    await trio.sleep(1000)",
    "a clean-up that sleeps": "try: time.sleep(1000)\nfinally: time.sleep(1000)",
    "a clean-up in a clean-up": (
        "try:\n    try: time.sleep(1000)\n    finally: time.sleep(1000)\nfinally: time.sleep(1000)"
    ),
    "a loop that swallows interrupts": (
        "while True:\n    try: time.sleep(0.001)\n    except (Exception, KeyboardInterrupt): pass"
    ),
    "a loop that swallows everything": (
        "while True:\n    try: sum(range(100))\n    except BaseException: pass"
    ),
}
BOUND = 20.0  # seconds; what is meant is the grace and 0.2 s, on a machine that has time


async def assert_goes_on(client: Client) -> None:
    (await client.execute("assert kept == 'for hours'")).raise_for_error()
    assert (await client.execute("await trio.sleep(0.01); 1 + 1")).result == {"text/plain": "2"}


@pytest.mark.parametrize("stuck", STUCK)
async def test_a_deadline_of_the_kernels_own_holds(stuck: str) -> None:
    async with open_process(PYTHON, "--stop-grace", "0.3") as client:
        (await client.execute(SETUP)).raise_for_error()
        with trio.fail_after(BOUND):
            execution = await client.execute(STUCK[stuck], metadata={"trikernel.timeout": 0.3})
        assert execution.error is not None
        assert execution.error.ename == "DeadlineExceeded"
        assert execution.replies == 1
        await assert_goes_on(client)


@pytest.mark.parametrize("stuck", STUCK)
async def test_the_clients_time_out_holds(stuck: str) -> None:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        with trio.fail_after(BOUND), pytest.raises(ExecutionTimeout, match="interrupted") as caught:
            await client.execute(STUCK[stuck], timeout=0.3)
        execution = caught.value.execution
        assert isinstance(execution, Execution)
        assert execution.replies == 1
        await assert_goes_on(client)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("by", ["signal", "message"])
async def test_the_third_interrupt_is_not_swallowed(by: By) -> None:
    async with open_process() as client:
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


async def test_what_cannot_be_reached_is_told_with_its_place() -> None:
    """C code that lets go of the lock and looks for no signals."""
    count = _long_query()
    query = f"sqlite3.connect(':memory:').execute({_QUERY.format(count)!r}).fetchall()"
    async with open_process(PYTHON, "--stop-grace", "0.1") as client:
        (await client.execute(SETUP)).raise_for_error()
        execution = client.start(f"1 + 1\n{query}", metadata={"trikernel.timeout": 0.1})
        await until_text(execution, "only a restart helps", "stderr")
        assert "line 2" in execution.stderr
        assert "sqlite3.connect(':memory:').execute(" in execution.stderr
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "DeadlineExceeded"
        await assert_goes_on(client)


_QUERY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
    " SELECT max(i) FROM n"
)


def _long_query() -> int:
    """How far a query has to count to take a few seconds here."""
    begun, count = time.perf_counter(), 200_000
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_QUERY.format(count)).fetchall()
    return int(count * 4 / max(1e-3, time.perf_counter() - begun))
