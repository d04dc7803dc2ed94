"""A deadline's timer disturbs nobody: no later cell, no child, no signal or timer of the cell's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import KernelProcess, kernel_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no timers that signal")

ROUNDS = 25


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import os, re, signal, time")
        yield kernel


def test_a_deadline_that_passes_as_a_cell_ends_hits_no_later_cell(kernel: KernelProcess) -> None:
    # C code that keeps the lock and looks for nothing, about as long as the timer takes
    kernel.execute(
        "begun = time.perf_counter(); sum(range(1_000_000))\n"
        "rate = 1_000_000 / (time.perf_counter() - begun)"
    )
    sent = []
    for number in range(ROUNDS):
        seconds = 0.055 + 0.01 * number / ROUNDS  # the timer comes after 60 milliseconds
        sent.append(kernel.send(f"%%timeout 0.01\nsum(range(int(rate * {seconds})))"))
        sent.append(kernel.send("sum(one for one in range(100_000))"))
    replies = [kernel.finish(msg_id)[0] for msg_id in sent]
    assert {reply["status"] for reply in replies[1::2]} == {"ok"}
    assert {reply.get("ename", "ok") for reply in replies[::2]} <= {"ok", "DeadlineExceeded"}


def test_a_deadline_that_passes_as_a_cell_is_transformed_is_told_as_one(
    kernel: KernelProcess,
) -> None:
    """On a busy machine that is where a cell stands when a short one has passed."""
    kernel.execute(
        "def slow(lines):\n"
        "    while lines == ['slow\\n']: pass\n"
        "    return lines\n"
        "get_ipython().input_transformers_cleanup.append(slow)"
    )
    reply, outputs = kernel.execute("%%timeout 0.05\nslow")
    kernel.execute("get_ipython().input_transformers_cleanup.remove(slow)")
    assert reply["ename"] == "DeadlineExceeded"
    assert [one["content"].get("ename") for one in outputs][-1] == "DeadlineExceeded"


def test_a_cell_without_a_deadline_has_no_timer(kernel: KernelProcess) -> None:
    count = "print(open('/proc/self/timers').read().count('signal:'))"
    if not Path("/proc/self/timers").exists():
        pytest.skip("a system that does not list them")
    assert kernel.text(f"%%timeout 20\n{count}") == "1\n"
    assert kernel.text(count) == "0\n"


def test_the_cells_own_timer_and_signal_stay_the_cells(kernel: KernelProcess) -> None:
    text = kernel.text(
        "%%timeout 20\n"
        "calls = []\n"
        "before = signal.signal(signal.SIGALRM, lambda *args: calls.append(args))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)\n"
        "while len(calls) < 3: time.sleep(0.01)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "print(len(calls) >= 3, signal.signal(signal.SIGALRM, before) is not before)"
    )
    assert text == "True True\n"


def test_a_child_has_no_deadline(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute(
        "%%timeout 0.1\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    time.sleep(0.5)\n"
        "    os._exit(7)\n"
        "while True: pass"
    )
    assert reply["ename"] == "DeadlineExceeded"
    assert kernel.text("print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))") == "7\n"


def test_an_interrupt_before_the_deadline_is_an_interrupt(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "%%timeout 20\nprint('begun', flush=True)\nre.match('(a+)+$', 'a' * 60 + 'b')"
    )
    kernel.until_begun(msg_id)
    kernel.interrupt()
    reply, _ = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"


def test_a_cell_may_set_every_signal_and_the_next_deadline_holds(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute(
        "%%timeout 20\n"
        "for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):\n"
        "    if number % 2: signal.signal(number, lambda *args: None)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(signal.SIGRTMIN, signal.SIGRTMAX + 1))"
    )
    assert reply["status"] == "ok"
    reply, _ = kernel.execute("%%timeout 0.1\nre.match('(a+)+$', 'a' * 60 + 'b')")
    assert reply["ename"] == "DeadlineExceeded"
    assert kernel.text("print('went on')") == "went on\n"


def test_a_cell_may_give_signals_back_to_the_system_and_its_stop_does_not_end_the_kernel(
    kernel: KernelProcess,
) -> None:
    default = "signal.signal(signal.SIGINT, signal.SIG_DFL)"
    reply, _ = kernel.execute(f"%%timeout 0.1\n{default}\ntime.sleep(1000)")
    assert reply["ename"] == "DeadlineExceeded"
    reply, _ = kernel.execute(  # nobody hears the deadline: the cell ends by itself
        "%%timeout 0.1\n"
        f"{default}\n"
        "numbers = signal.SIGURG, signal.SIGWINCH, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)\n"
        "for number in numbers: signal.signal(number, signal.SIG_DFL)\n"
        "begun = time.monotonic()\n"
        "while time.monotonic() < begun + 0.3: re.match('(a+)+$', 'a' * 18 + 'b')"
    )
    assert reply["ename"] == "DeadlineExceeded"
    reply, _ = kernel.execute("%%timeout 0.1\nre.match('(a+)+$', 'a' * 60 + 'b')")
    assert reply["ename"] == "DeadlineExceeded"


def test_a_signal_that_a_cell_has_blocked_hits_no_later_cell(kernel: KernelProcess) -> None:
    reply, _ = kernel.execute(
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "signal.raise_signal(signal.SIGINT)"
    )
    assert reply["status"] == "ok"
    assert kernel.text("time.sleep(0.1); print('went on')") == "went on\n"
