"""Interrupts that somebody else hears: a cell's handler, `input` in a thread, child processes."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import trio

from ..processes import PYTHON
from .processes import open_process, until_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

SETUP = """\
import os, signal, subprocess, sys, threading, time
def compute(seconds):
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end: n += 1
def hear(signum, frame): print("heard", flush=True)
"""
OWN_HANDLER = """\
before = signal.signal(signal.SIGINT, hear)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.01)
"""


async def never_answer(asked: trio.Event, prompt: str, password: bool) -> str:
    asked.set()
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize("restores", [False, True])
async def test_what_a_cells_own_handler_has_heard_interrupts_no_later_cell(restores: bool) -> None:
    async with open_process() as client:
        code = f"{SETUP}{OWN_HANDLER}" + "signal.signal(signal.SIGINT, before)" * restores
        execution = await client.execute(f"{code}\ntime.sleep(1.5)")  # longer than the stop's grace
        assert execution.stdout == "heard\n"
        for code in ("compute(1.5)", "time.sleep(0.5)"):
            execution = await client.execute(code)
            assert execution.error is None, execution.error


async def test_a_deadline_of_a_cell_with_a_handler_of_its_own_stops_that_cell_only() -> None:
    """It is signalled by SIGINT, which is no interrupt of the subshells or of what comes next."""
    async with open_process() as client, client.open_subshell() as subshell:
        (await client.execute(SETUP)).raise_for_error()
        beside = subshell.start("import trio\nprint('begun', flush=True)\nawait trio.sleep(3)")
        await until_text(beside, "begun")
        code = "signal.signal(signal.SIGINT, signal.default_int_handler)\ntime.sleep(30)"
        late = await client.execute(code, metadata={"trikernel.timeout": 0.5})
        assert late.error is not None
        assert late.error.ename == "DeadlineExceeded"
        assert (await client.execute("compute(1.5)")).error is None
        await beside.wait()
        assert beside.error is None


async def test_input_in_a_thread_does_not_take_the_interrupt_of_its_cell() -> None:
    asked = trio.Event()
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        code = (
            "def ask():\n    try: input('?')\n"
            "    except KeyboardInterrupt: print('told', flush=True)\n"
            "thread = threading.Thread(target=ask)\nthread.start()\ntime.sleep(3600)"
        )
        execution = client.start(code, on_input=partial(never_answer, asked))
        await asked.wait()
        await client.request("interrupt_request", channel="control")
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"
        assert "told" in (await client.execute("thread.join()")).stdout + execution.stdout


async def test_who_catches_the_interrupt_of_input_is_interrupted_again_at_once() -> None:
    """Its code has not ended by the first one, as that of a cell that is being answered has."""
    asked = trio.Event()
    async with open_process(PYTHON, "--stop-grace", "3000") as client:
        (await client.execute(SETUP)).raise_for_error()
        code = (
            "try: input('?')\nexcept KeyboardInterrupt: print('caught', flush=True)\ncompute(3600)"
        )
        execution = client.start(code, on_input=partial(never_answer, asked))
        await asked.wait()
        await client.request("interrupt_request", channel="control")
        await until_text(execution, "caught")
        await trio.sleep(0.1)  # one that comes at once is the same key, held down
        await client.request("interrupt_request", channel="control")
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"


@pytest.mark.parametrize("where", ["main", "subshell"])
async def test_a_child_process_hears_sigint_whatever_shell_has_started_it(where: str) -> None:
    start = (
        f"{SETUP}child = subprocess.Popen([sys.executable, '-c', "
        "'import time; print(1, flush=True); time.sleep(3600)'], stdout=subprocess.PIPE)\n"
        "_ = child.stdout.readline()\nchild.send_signal(signal.SIGINT)\n"
        "child.wait(30) == -signal.SIGINT"
    )
    async with open_process() as client, client.open_subshell() as subshell:
        execution = await (client if where == "main" else subshell).execute(start)
        assert execution.result == {"text/plain": "True"}, execution.error
