"""Interrupts on a real process: they reach the user's code, and never a task of the kernel's."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio.testing

from trikernel.core import current_request

from ..cells import Cells, served
from ..kernel.kernels import Recorder
from ..processes import KernelProcess, kernel_process

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
    pytest.mark.seed(23),
]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import asyncio, threading, time, trio, trio.testing")
        yield kernel


# Code for the kernel: where it sleeps, that is what the interrupt has to break.
CELLS = {
    "spins": "print('begun', flush=True)\nwhile True: pass",
    "prints": "while True: print('begun')",
    "sleeps": "print('begun', flush=True)\ntime.sleep(100)",
    "awaits": "print('begun', flush=True)\nawait trio.sleep_forever()",
    "has a child that spins": (
        "async def spin():\n"
        "    print('begun', flush=True)\n"
        "    while True: pass\n"
        "async with trio.open_nursery() as nursery: nursery.start_soon(spin)"
    ),
    "runs asyncio": (
        "async def wait():\n"
        "    print('begun', flush=True)\n"
        "    await asyncio.sleep(100)\n"
        "asyncio.run(wait())"
    ),
    "swallows Exception": (
        "print('begun', flush=True)\n"
        "while True:\n"
        "    try: time.sleep(0.01)\n"
        "    except Exception: pass"
    ),
    "waits for a lock": (
        "print('begun', flush=True)\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "lock.acquire()"
    ),
    "awaits in an async generator": (
        "async def ticks():\n"
        "    while True:\n"
        "        print('begun', flush=True)\n"
        "        await trio.sleep(50)\n"
        "        yield\n"
        "async for _ in ticks(): pass"
    ),
    "displays what a repr stands for that spins": (
        "class Slow:\n"
        "    def __repr__(self):\n"
        "        print('begun', flush=True)\n"
        "        while True: pass\n"
        "display({'application/json': Slow()}, raw=True)"
    ),
    "has a payload that spins": (
        "class Slow:\n"
        "    def __repr__(self):\n"
        "        print('begun', flush=True)\n"
        "        while True: pass\n"
        "get_ipython().payload_manager.write_payload({'source': 'x', 'a': Slow()})"
    ),
    "imports": (
        "print('begun', flush=True)\n"
        "import sys, types\n"
        "class Slow:\n"
        "    def find_spec(self, name, *rest):\n"
        "        while name == 'slow': pass\n"
        "sys.meta_path.insert(0, Slow())\n"
        "try: import slow\n"
        "finally: del sys.meta_path[0]"
    ),
    "shows a result that spins": (
        "class Slow:\n"
        "    def __repr__(self):\n"
        "        print('begun', flush=True)\n"
        "        while True: pass\n"
        "Slow()"
    ),
    "waits for a child process": (
        "import subprocess\n"
        "subprocess.run('echo begun; exec sleep 100', shell=True)"
    ),
}  # fmt: skip


@pytest.mark.promise(4)
@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("case", CELLS)
def test_a_cell_is_interrupted(kernel: KernelProcess, case: str, by: str) -> None:
    msg_id = kernel.send(CELLS[case])
    kernel.until("stream")
    kernel.interrupt(by)
    reply, outputs = kernel.finish(msg_id)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    errors = [one["content"]["ename"] for one in outputs if one["msg_type"] == "error"]
    assert errors == ["KeyboardInterrupt"]
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.promise(4)
@pytest.mark.parametrize("by", ["signal", "message"])
def test_every_child_of_a_nursery_cleans_up(kernel: KernelProcess, by: str) -> None:
    msg_id = kernel.send(
        "cleaned = 0\n"
        "async def child():\n"
        "    global cleaned\n"
        "    try: await trio.sleep_forever()\n"
        "    finally: cleaned += 1\n"
        "async with trio.open_nursery() as nursery:\n"
        "    for _ in range(100): nursery.start_soon(child)\n"
        "    await trio.testing.wait_all_tasks_blocked(0.01)\n"
        "    print('begun', flush=True)"
    )
    kernel.until("stream")
    kernel.interrupt(by)
    reply, _ = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert kernel.text("print(cleaned)") == "100\n"


def test_a_regular_expression_that_holds_the_interpreter_lock(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "import re\nprint('begun', flush=True)\nre.match('(a+)+$', 'a' * 60 + 'b')"
    )
    kernel.until("stream")
    kernel.interrupt()
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.promise(6)
@pytest.mark.parametrize("by", ["signal", "message"])
def test_a_comm_handler_that_spins_beside_an_awaiting_cell(kernel: KernelProcess, by: str) -> None:
    kernel.execute(
        "import comm\n"
        "def spin(message):\n"
        "    print('begun', flush=True)\n"
        "    while True: pass\n"
        "comm.get_comm_manager().register_target('spin', lambda one, _: one.on_msg(spin))"
    )
    opening = {"comm_id": f"spin {by}", "target_name": "spin", "data": {}}
    client = kernel.client
    client.shell_channel.send(client.session.msg("comm_open", opening))
    msg_id = kernel.send("await trio.sleep_forever()")
    kernel.until("execute_input")
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": f"spin {by}", "data": {}}))
    kernel.until("stream")
    kernel.interrupt(by)
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.parametrize("by", ["signal", "message"])
def test_a_completion_that_spins(kernel: KernelProcess, by: str) -> None:
    kernel.execute(
        "class Slow:\n"
        "    def __dir__(self):\n"
        "        print('begun', flush=True)\n"
        "        while True: pass\n"
        "slow = Slow()"
    )
    msg_id = kernel.client.complete("slow.", 5)
    kernel.until("stream")
    kernel.interrupt(by)
    kernel.finish(msg_id)  # with what could be found, or as an error
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.promise(14)
@pytest.mark.parametrize("code", ["while True: pass", "time.sleep(100)", "await trio.sleep(100)"])
def test_an_abort_by_id_stops_the_running_cell_only(kernel: KernelProcess, code: str) -> None:
    msg_id = kernel.send(f"print('begun', flush=True)\n{code}")
    queued = kernel.send("print('queued')")
    kernel.until("stream")
    client = kernel.client
    client.control_channel.send(client.session.msg("abort_request", {"msg_ids": [msg_id]}))
    assert client.get_control_msg(timeout=60)["content"]["status"] == "ok"
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "aborted"
    errors = [one["content"]["ename"] for one in outputs if one["msg_type"] == "error"]
    assert errors == ["AbortedError"]
    assert kernel.finish(queued)[0]["status"] == "ok"


@pytest.mark.parametrize("by", ["signal", "message"])
def test_an_idle_kernel_ignores_it(kernel: KernelProcess, by: str) -> None:
    for _ in range(20):
        kernel.interrupt(by)
    assert kernel.text("print('alive')") == "alive\n"


def test_shielded_clean_up_finishes(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "try:\n"
        "    print('begun', flush=True)\n"
        "    await trio.sleep_forever()\n"
        "finally:\n"
        "    with trio.CancelScope(shield=True):\n"
        "        await trio.sleep(0.3)\n"
        "    print('cleaned')"
    )
    kernel.until("stream")
    kernel.interrupt()
    reply, outputs = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert "cleaned\n" in [one["content"].get("text") for one in outputs]


def test_a_thread_that_cannot_be_cancelled_is_waited_for(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "ended = False\n"
        "def work():\n"
        "    global ended\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(0.5)\n"  # the call that is to be waited for
        "    ended = True\n"
        "await trio.to_thread.run_sync(work)"
    )
    kernel.until("stream")
    kernel.interrupt()
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.text("print(ended)") == "True\n"


@pytest.mark.parametrize("by", ["signal", "message"])
def test_a_cell_may_handle_it_itself(kernel: KernelProcess, by: str) -> None:
    msg_id = kernel.send(
        "try:\n"
        "    print('begun', flush=True)\n"
        "    while True: pass\n"
        "except KeyboardInterrupt:\n"
        "    print('handled')"
    )
    kernel.until("stream")
    kernel.interrupt(by)
    reply, outputs = kernel.finish(msg_id)
    assert reply["status"] == "ok"
    assert "handled\n" in [one["content"].get("text") for one in outputs]


@pytest.mark.promise(4)
def test_a_second_interrupt_abandons_what_lingers(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "def work():\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"  # the call that is to be abandoned
        "await trio.to_thread.run_sync(work)"
    )
    kernel.until("stream")
    kernel.interrupt()
    time.sleep(0.3)  # the second one has to come after the first was delivered
    started = time.monotonic()
    kernel.interrupt()
    reply, _ = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - started < 20
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.slow
@pytest.mark.promise(14)
def test_a_storm_of_interrupts_hits_no_task_of_the_kernel(kernel: KernelProcess) -> None:
    chance, stop = random.Random(3), threading.Event()
    sent = 0

    def storm() -> None:
        nonlocal sent
        while not stop.wait(chance.random() * 0.003):
            kernel.process.send_signal(signal.SIGINT)
            sent += 1

    cells = [  # what a signal may hit: waiting, computing, printing, blocking
        "await trio.sleep(0.001)",
        "for _ in range(1000): pass",
        "print('x')",
        "time.sleep(0.001)",
    ]
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        number = 0
        while number < 600 or sent < 600:
            reply, _ = kernel.execute(cells[number % len(cells)])
            assert reply["status"] == "ok" or reply["ename"] == "KeyboardInterrupt", reply
            number += 1
    finally:
        stop.set()
        thread.join()
    assert kernel.text("print('alive')") == "alive\n"
    assert kernel.process.poll() is None


@pytest.mark.promise(14)
async def test_an_interrupt_between_two_queued_cells_hits_neither(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Between(Recorder):
        """Interrupts when one cell's idle is out and the next one has not begun."""

        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            request = current_request.get()
            assert request is not None
            request.after_idle(self.server.stopper.interrupt)
            return await super().do_execute(code, silent, **options)

    async with served(Between()) as client:
        cells = Cells(client, *(f"sleep {n}" for n in (1, 2, 3)))
        assert await cells.statuses() == ["ok", "ok", "ok"]
