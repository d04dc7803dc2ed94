"""``jupyter console`` in a terminal, with this kernel."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from ..processes import wait_until
from .specs import SPEC, write_spec
from .terminal import Terminal, open_terminal


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Terminal]:
    write_spec(tmp_path)
    env = {
        **os.environ,
        "JUPYTER_DATA_DIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    command = [sys.executable, "-m", "jupyter_console", "--kernel", SPEC]
    with open_terminal(command, env) as terminal:
        terminal.wait_for("In [1]:")
        yield terminal


def test_a_person_at_a_console(console: Terminal) -> None:
    console.wait_for("top-level await runs in Trio")
    console.type("6 * 7\r")
    console.wait_for("Out[1]: 42")
    console.wait_for("In [2]:")
    console.type("import trio; await trio.sleep(0.1); print('awaited')\r")
    console.wait_for("\nawaited")
    console.wait_for("In [3]:")
    console.type("print('hello', input('who? '))\r")
    console.wait_for("\nwho?")
    console.type("Ada\r")
    console.wait_for("hello Ada")
    console.wait_for("In [4]:")
    assert "Traceback" not in console.text


def test_control_c_stops_a_cell(console: Terminal) -> None:
    console.type("import trio; print('go' + 'ing'); await trio.sleep_forever()\r")
    console.wait_for("going")
    console.press_control("c")
    console.wait_for("KeyboardInterrupt")
    console.wait_for("In [2]:")
    console.type("print('go' + 'ing on')\r")
    console.wait_for("going on")
    assert console.text.count("KeyboardInterrupt") >= 1


def test_exit_ends_the_console_and_its_kernel(console: Terminal) -> None:
    console.type("import os; print('pid', os.getpid())\r")
    console.wait_for("In [2]:")
    pid = int(console.text.split("\npid ")[1].split()[0])
    console.type("exit\r")
    console.wait_for_end()
    assert wait_until(lambda: not psutil.pid_exists(pid) or is_zombie(pid), "the kernel's end")


def is_zombie(pid: int) -> bool:
    """Whether it only waits for a parent to ask how it ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True
