"""Signals of the user's code, which are no interrupts: alarms, children, SIGUSR1."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from trikernel.client import Client

from .processes import By, interrupt, open_process, until_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

SETUP = """\
import os, signal, subprocess, sys, threading, time
came = []
def handle(signum, frame): came.append(signum)
def compute(seconds):
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end: n += 1
"""
ALARM = "signal.signal(signal.SIGALRM, handle)\nsignal.setitimer(signal.ITIMER_REAL, {})\n"

CASES = {
    "an alarm": (
        f"{ALARM.format('0.1')}compute(1)\nassert came == [signal.SIGALRM], came",
        "one of setitimer",
    ),
    "alarms that repeat": (
        f"{ALARM.format('0.03, 0.03')}compute(1)\nsignal.setitimer(signal.ITIMER_REAL, 0)\n"
        "assert set(came) == {signal.SIGALRM}, came",
        "more often than an interrupt is waited for",
    ),
    "a child that ends": (
        "signal.signal(signal.SIGCHLD, handle)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'pass'])\n"
        "while not came: compute(0.01)\n"
        "compute(0.5)\nchild.wait()\nassert set(came) == {signal.SIGCHLD}, came",
        "as asyncio's child watcher has it",
    ),
    "a signal to itself": (
        "signal.signal(signal.SIGUSR1, handle)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\ncompute(0.5)\nassert came == [signal.SIGUSR1], came",
        "of another program",
    ),
    "one that another thread takes": (
        "signal.signal(signal.SIGUSR1, handle)\n"
        "def send(): signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)\n"
        "threading.Thread(target=send).start()\ncompute(0.5)\n"
        "assert came == [signal.SIGUSR1], came",
        "Python runs its handler in the main thread",
    ),
    "one within a call that blocks": (
        f"{ALARM.format('0.1')}time.sleep(0.6)\nassert came == [signal.SIGALRM], came",
        "which goes on after the handler",
    ),
    "alarms in an awaiting cell": (
        f"{ALARM.format('0.1')}import trio\nawait trio.sleep(0.5)\n"
        "assert came == [signal.SIGALRM], came",
        "the loop turns",
    ),
}  # fmt: skip


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        yield client


@pytest.mark.parametrize("case", CASES)
async def test_a_cell_goes_on_when_a_signal_of_its_own_comes(client: Client, case: str) -> None:
    code, _ = CASES[case]
    execution = await client.execute(code)
    assert execution.error is None, (case, execution.error)
    assert (await client.execute("compute(0.3); 'alive'")).result == {"text/plain": "'alive'"}


async def test_an_alarm_whose_handler_raises_ends_its_cell_with_that_error(client: Client) -> None:
    execution = await client.execute(
        "def give_up(*_): raise TimeoutError('too slow')\n"
        "signal.signal(signal.SIGALRM, give_up)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "compute(5)"
    )
    assert execution.error is not None
    assert (execution.error.ename, execution.error.evalue) == ("TimeoutError", "too slow")


@pytest.mark.parametrize("by", ["signal", "message"])
async def test_an_interrupt_among_other_signals_is_still_one(client: Client, by: By) -> None:
    execution = client.start(f"{ALARM.format('0.02, 0.02')}print('begun', flush=True)\ncompute(60)")
    await until_text(execution, "begun")
    await interrupt(client, by)
    await execution.wait()
    assert execution.error is not None
    assert execution.error.ename == "KeyboardInterrupt"
    # with alarms still coming, what runs next is hit by nothing that is left over
    execution = await client.execute(
        "compute(0.5); signal.setitimer(signal.ITIMER_REAL, 0); len(came) > 10"
    )
    assert execution.result == {"text/plain": "True"}, execution.error


@pytest.mark.parametrize("by", ["signal", "message"])
async def test_an_interrupt_right_after_another_signal_is_heard(client: Client, by: By) -> None:
    execution = client.start(
        "signal.signal(signal.SIGUSR1, handle)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "compute(0.2)\n"
        "print('begun', flush=True)\n"
        "compute(60)"
    )
    await until_text(execution, "begun")
    await interrupt(client, by)
    await execution.wait()
    assert execution.error is not None
    assert execution.error.ename == "KeyboardInterrupt"
    assert (await client.execute("came == [signal.SIGUSR1]")).result == {"text/plain": "True"}
