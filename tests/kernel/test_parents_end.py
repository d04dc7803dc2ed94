"""A kernel is to end while C code keeps the interpreter lock, so that no thread notices."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from ..processes import PYTHON, ROOT, TIMEOUT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the signal is of Linux")

# Starts a kernel in its main thread, or in one that ends at the first line of stdin.
PARENT = """
import json, os, subprocess, sys, threading

def start():
    environment = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
    command = [sys.executable, "-m", "trikernel", "start", "--kernel", sys.argv[2]]
    print(subprocess.Popen([*command, "-f", sys.argv[3]], env=environment).pid, flush=True)

def start_and_end():
    start()
    sys.stdin.readline()

if sys.argv[1] == "main":
    start()
else:
    thread = threading.Thread(target=start_and_end)
    thread.start()
    thread.join()
    print("the thread has ended", flush=True)
sys.stdin.readline()
"""
HOLDS_THE_LOCK = "re.match('(a+)+$', 'a' * 40 + 'b')"  # for hours; it looks for signals


class ParentAndKernel:
    """A parent, the pidfd of the kernel that it has started, and a client of that."""

    kernel: int
    pidfd: int
    client: BlockingKernelClient

    def __init__(self, folder: str, thread: str) -> None:
        self.path = Path(folder, "kernel.json")
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, thread, PYTHON, self.path],
            cwd=ROOT,
            env={**os.environ, "IPYTHONDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if sys.platform != "linux":
            raise NotImplementedError
        assert self.parent.stdout is not None
        self.kernel = int(self.parent.stdout.readline())
        self.pidfd = os.pidfd_open(self.kernel)
        wait_until(self._has_ports, "the kernel's ports")
        self.client = BlockingKernelClient(connection_file=str(self.path))
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)

    def _has_ports(self) -> bool:
        return self.path.exists() and bool(json.loads(self.path.read_text())["shell_port"])

    def has_ended(self, seconds: float) -> bool:
        """Whether the kernel ends within so many seconds."""
        if sys.platform != "linux":
            raise NotImplementedError
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def begin(self, code: str) -> None:
        """Have a cell run that prints ``begun`` and goes on with this code."""
        self.client.execute(f"import re; print('begun', flush=True)\n{code}")
        self.until_text("begun")

    def until_silent(self) -> None:
        """Wait until control is not answered any more, because the lock is kept."""
        control, session = self.client.control_channel, self.client.session
        with suppress(Empty):
            while True:
                control.send(session.msg("kernel_info_request", {}))
                control.get_msg(timeout=1)

    def until_text(self, text: str) -> None:
        """Wait until a cell has put that out."""
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if text in message["content"].get("text", ""):
                return


@contextmanager
def started_in(thread: str) -> Iterator[ParentAndKernel]:
    if sys.platform != "linux":
        raise NotImplementedError
    with tempfile.TemporaryDirectory() as folder:
        both = ParentAndKernel(folder, thread)
        try:
            yield both
        finally:
            both.client.stop_channels()
            if not both.has_ended(0):
                os.kill(both.kernel, signal.SIGKILL)
            os.close(both.pidfd)
            both.parent.kill()
            both.parent.communicate()


@pytest.mark.promise(8)
@pytest.mark.parametrize("thread", ["main", "another"])
def test_it_ends_although_c_code_keeps_the_lock(thread: str) -> None:
    with started_in(thread) as both:
        both.begin(HOLDS_THE_LOCK)
        both.parent.kill()
        assert both.has_ended(TIMEOUT)
        assert not both.path.exists()  # it has ended in order


def test_it_ends_although_the_code_goes_back_into_c_each_time() -> None:
    with started_in("main") as both:
        both.begin(f"while True:\n    try: {HOLDS_THE_LOCK}\n    except BaseException: pass")
        both.parent.kill()
        assert both.has_ended(TIMEOUT)


def test_it_ends_by_a_sigterm_although_c_code_keeps_the_lock() -> None:
    with started_in("main") as both:
        both.begin(HOLDS_THE_LOCK)
        both.until_silent()
        os.kill(both.kernel, signal.SIGTERM)
        assert both.has_ended(TIMEOUT)


def test_it_goes_on_when_only_the_thread_that_has_started_it_ends() -> None:
    with started_in("another") as both:
        both.begin("import time; time.sleep(0.1); print('it goes on')")
        assert both.parent.stdin is not None
        assert both.parent.stdout is not None
        both.parent.stdin.write("\n")
        both.parent.stdin.flush()
        assert both.parent.stdout.readline() == "the thread has ended\n"
        both.until_text("it goes on")
        both.begin(HOLDS_THE_LOCK)
        both.parent.kill()
        assert both.has_ended(TIMEOUT)
