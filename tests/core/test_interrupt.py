"""Interrupts on a real process: they reach the user's code, and never a task of the kernel's."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ..processes import KernelProcess, kernel_process

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
    pytest.mark.seed(23),
]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import asyncio, threading, time, trio")
        yield kernel


CELLS = {
    "spins": "print('begun', flush=True)\nwhile True: pass",
    "prints": "while True: print('begun')",
    "sleeps": "print('begun', flush=True)\ntime.sleep(100)",
    "awaits": "print('begun', flush=True)\nawait trio.sleep_forever()",
    "has children": (
        "async with trio.open_nursery() as nursery:\n"
        "    for _ in range(100): nursery.start_soon(trio.sleep_forever)\n"
        "    print('begun', flush=True)"
    ),
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
}  # fmt: skip


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


def test_a_second_interrupt_abandons_what_lingers(kernel: KernelProcess) -> None:
    msg_id = kernel.send("print('begun', flush=True)\nawait trio.to_thread.run_sync(time.sleep, 3)")
    kernel.until("stream")
    kernel.interrupt()
    time.sleep(0.3)  # the second one has to come after the first was delivered
    started = time.monotonic()
    kernel.interrupt()
    reply, _ = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - started < 2
    assert kernel.text("print('alive')") == "alive\n"


def test_a_storm_of_interrupts_hits_no_task_of_the_kernel(kernel: KernelProcess) -> None:
    chance, stop = random.Random(3), threading.Event()
    sent = 0

    def storm() -> None:
        nonlocal sent
        while not stop.wait(chance.random() * 0.003):
            kernel.process.send_signal(signal.SIGINT)
            sent += 1

    cells = [
        "await trio.sleep(0.001)",
        "for _ in range(1000): pass",
        "print('x')",
        "time.sleep(0.001)",
    ]
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for number in range(400):
            reply, _ = kernel.execute(cells[number % len(cells)])
            assert reply["status"] == "ok" or reply["ename"] == "KeyboardInterrupt", reply
    finally:
        stop.set()
        thread.join()
    assert sent > 100
    assert kernel.text("print('alive')") == "alive\n"
    assert kernel.process.poll() is None
