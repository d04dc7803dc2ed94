"""Output without end: the kernel stays within reach and within its memory, and loses nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import pytest
import trio.testing
import zmq

from trikernel import Kernel
from trikernel.testing import CheckedClient

from ..cells import served
from .flooding import Flood, FloodedKernel, Source, Way, open_flooded
from .processes import By

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="interrupts by signal")

# Who is starved by a flood waits until it has ended. The figure, a tenth of a second, is for
# `python -m tests.bench.floods`, on a machine that does nothing else.
BOUND = 15.0  # seconds
SAFETY = 60.0  # seconds after which the cell ends by itself
FLOODING = 1.0  # seconds for which a flood lasts before it is interrupted
HEARD = 3.0  # seconds, after which an interrupt may have been lost
BUDGET = 16 << 20  # bytes, ``output_budget_bytes``
SLACK = 32 << 20  # bytes beside it, and as much again for what an allocator keeps

CASES: list[tuple[Way, Source, int, By]] = [
    ("print", "cell", 1, "message"),
    ("print", "cell", 100, "signal"),
    ("print", "cell", 3_000, "message"),
    ("print", "cell", 1_000_000, "signal"),
    ("print", "threads", 3_000, "message"),
    ("print", "nursery", 100, "signal"),
    ("display", "cell", 3_000, "message"),
    ("display", "threads", 100, "signal"),
    ("display", "nursery", 100_000, "message"),
    ("fd", "cell", 3_000, "message"),
    ("fd", "threads", 100, "signal"),
]


def ask_for_a_while(kernel: FloodedKernel, seconds: float = FLOODING) -> None:
    """Control is answered, time and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert kernel.ask_control(BOUND) < BOUND


@pytest.mark.parametrize(("way", "source", "size", "by"), CASES)
def test_a_flood_starves_nobody_fills_no_memory_and_loses_nothing(
    way: Way, source: Source, size: int, by: By
) -> None:
    flood = Flood(way, source, size, SAFETY)
    with open_flooded() as kernel:
        msg_id = kernel.start(flood)
        ask_for_a_while(kernel)
        _, reply = kernel.interrupt(by, BOUND)
        assert reply["ename"] == "KeyboardInterrupt"
        lost, invented = kernel.finish(flood, msg_id)
        assert (lost, invented, kernel.reader.misplaced) == (0, 0, [])
        assert kernel.reader.stderr == ""  # nobody is told that something was dropped
        assert kernel.grown <= BUDGET + 2 * SLACK


def test_a_flood_in_the_background_lets_other_cells_run_and_the_kernel_end() -> None:
    flood = Flood("print", "background", 3_000, SAFETY)
    with open_flooded() as kernel:
        kernel.start(flood)
        kernel.await_reply()  # of the cell that has started it
        ask_for_a_while(kernel)
        for number in range(10):
            assert kernel.evaluate(str(number), BOUND) == str(number)
        assert kernel.grown <= BUDGET + 2 * SLACK
        kernel.shut_down()
        assert kernel.process.wait(BOUND) == 0


def test_a_subscriber_that_does_not_read_costs_the_others_nothing() -> None:
    flood = Flood("print", "cell", 3_000, SAFETY)
    with open_flooded() as kernel:
        stalled = kernel.connect(zmq.SUB, kernel.info.iopub_port)
        kernel.evaluate("0")  # it is connected by then
        msg_id = kernel.start(flood)
        ask_for_a_while(kernel, 4)  # until what is kept for it is full, and its time is spent
        kernel.interrupt("message", BOUND)
        assert kernel.finish(flood, msg_id) == (0, 0)
        assert kernel.reader.misplaced == []
        # what libzmq keeps for it: 1000 messages of at most 64 KiB, here and in the socket
        assert kernel.grown <= BUDGET + 2 * SLACK + (1000 << 16)
        stalled.close()


NOISY = """\
class Noisy:
    def __init__(self): self.itself = self
    def __del__(self): print('x' * 3000)
begun, end = False, __import__('time').monotonic() + 60
print('begun', flush=True)
while __import__('time').monotonic() < end:
    Noisy()
    print('y' * 3000)
"""


@pytest.mark.parametrize("by", ["signal", "message"])
def test_finalizers_that_print_in_a_flood_wait_for_nobody(by: By) -> None:
    """They run anywhere, where this very thread holds a lock of the kernel's for one."""
    with open_flooded() as kernel:
        kernel.start_cell(NOISY)  # bounded by its own clock, as every flood
        ask_for_a_while(kernel)
        assert interrupt_until_heard(kernel, by)["ename"] == "KeyboardInterrupt"
        assert kernel.evaluate("1 + 1") == "2"


def interrupt_until_heard(kernel: FloodedKernel, by: By) -> dict[str, Any]:
    """A `KeyboardInterrupt` in a finalizer is lost, as in any Python: then it is tried again."""
    for _ in range(4):
        with contextlib.suppress(TimeoutError):
            return kernel.interrupt(by, HEARD)[1]
    return kernel.interrupt(by, BOUND)[1]


async def test_in_memory_nobody_waits_for_room_that_only_he_could_make(
    autojump_clock: trio.testing.MockClock, kernel_client: CheckedClient
) -> None:
    execution = await kernel_client.expect("for n in range(10_000): print('x' * 3000)")
    assert len(execution.stdout) == 10_000 * 3001
    assert execution.stderr == ""


class Chatty(Kernel):
    """Its verb blocks the loop in which its only client lives."""

    implementation = "chatty"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        for _ in range(10_000):
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "x" * 3000})
        return {"status": "ok"}


async def test_a_client_in_the_blocked_loop_itself_is_waited_for_within_its_budget() -> None:
    """It loses some of it, for it cannot read; what it cannot cost is the kernel's life."""
    async with served(Chatty(), "tcp") as client:
        begun = time.monotonic()
        heard = await client.execute("x")
        assert heard.status == "ok"
        assert time.monotonic() - begun < 120  # half a second for each MiB that it does not read
