"""Forked children: they print where processes print, and never return into the kernel's loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ..processes import KernelProcess, kernel_process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import multiprocessing, os, sys, warnings\nwarnings.simplefilter('ignore')")
        yield kernel


@pytest.mark.promise(21)
@pytest.mark.parametrize("times", range(3))
def test_a_raw_fork_ends_at_the_end_of_its_cell_and_the_parent_goes_on(
    kernel: KernelProcess, times: int
) -> None:
    text = kernel.text(
        "pid = os.fork()\nif pid:\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert text == "0\n"
    assert kernel.text("print('alive')") == "alive\n"


def test_an_error_in_a_raw_fork_is_shown_and_is_its_exit_code(kernel: KernelProcess) -> None:
    text = kernel.text(
        "pid = os.fork()\n"
        "if not pid:\n"
        "    1 / 0\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert "ZeroDivisionError: division by zero\n" in text
    assert "1\n" in text.splitlines(keepends=True)
    assert kernel.text("print('alive')") == "alive\n"


@pytest.mark.promise(21)
def test_multiprocessing_by_fork_prints_and_ends(kernel: KernelProcess) -> None:
    text = kernel.text(
        "def child(queue):\n"
        "    print('from the child', flush=True)\n"
        "    display('also')\n"
        "    queue.put(42)\n"
        "context = multiprocessing.get_context('fork')\n"
        "queue = context.Queue()\n"
        "process = context.Process(target=child, args=(queue,))\n"
        "process.start()\n"
        "print(queue.get(timeout=30))\n"
        "process.join(30)\n"
        "print(process.exitcode)"
    )
    assert set(text.splitlines()) >= {"from the child", "'also'", "42", "0"}
    assert kernel.text("print('alive')") == "alive\n"


def test_a_pool_by_fork_works(kernel: KernelProcess) -> None:
    text = kernel.text(
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(abs, [-1, -2, -3]))"
    )
    assert text == "[1, 2, 3]\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_forked_child_is_ended_by_a_signal_as_anywhere(kernel: KernelProcess, name: str) -> None:
    """A pool sends SIGTERM to those of its workers that wait for a task."""
    if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
        pytest.skip("whoever started the tests ignores it, as nohup does, and so does the kernel")
    text = kernel.text(
        "context = multiprocessing.get_context('fork')\n"
        "never, begun = context.Semaphore(0), context.Semaphore(0)\n"
        "def wait():\n"
        "    begun.release()\n"
        "    never.acquire()\n"
        "process = context.Process(target=wait)\n"
        "process.start()\n"
        "begun.acquire()\n"
        "import signal\n"
        f"os.kill(process.pid, signal.{name})\n"
        "process.join(20)\n"
        f"print(process.exitcode == -signal.{name})\n"
        "process.kill()"
    )
    assert text == "True\n"
    assert kernel.text("print('alive')") == "alive\n"


def test_a_signal_that_comes_before_a_forked_child_is_itself_ends_it() -> None:
    """The parent's handler still stands then; it would take the signal, and nobody would end."""
    program = (
        "import os, signal\n"
        "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "from trikernel.system import fork\n"
        "class Handler:\n"
        "    def after_fork(self):\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "handler = Handler()\n"
        "fork.on_fork(handler)\n"
        "signal.signal(signal.SIGTERM, lambda *args: None)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM)\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.splitlines() == ["True", "set()"], ended.stderr
