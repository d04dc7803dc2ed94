"""What Python kernels replace in their process: exactly that, put back, nested, nobody else's."""

from __future__ import annotations

import builtins
import getpass
import io
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import comm
import pytest
import sniffio
import trio
import trio.testing
from IPython.core import ultratb
from IPython.core.interactiveshell import InteractiveShell

from trikernel.client import Execution
from trikernel.kernel.replacements import Replacements
from trikernel.kernel.streams import OutStream
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient

from ..cells import contents, served

REPLACED = {
    "sys.stdout", "sys.stderr", "input", "getpass.getpass", "Thread.start", "threading.excepthook",
    "ThreadPoolExecutor.submit", "comm.create_comm", "comm.get_comm_manager",
    "InteractiveShell", "display", "__IPYTHON__", "sys.ps1", "sys.ps2", "sys.ps3",
    "GLOBAL_NURSERY", "ultratb", "trio.run", "sniffio.current_async_library",
}  # fmt: skip
"""The table of `trikernel.python.process`, without what IPython does while a cell runs."""


def state() -> dict[str, Any]:
    """What code of a process can see and everybody in it shares."""
    names = (
        "display",
        "get_ipython",
        "exit",
        "quit",
        "__IPYTHON__",
        "input",
        "print",
        "open",
        "GLOBAL_NURSERY",
    )
    return {
        **{f"sys.{name}": getattr(sys, name, None) for name in (
            "stdin", "stdout", "stderr", "displayhook", "excepthook", "unraisablehook", "path",
            "argv", "ps1", "ps2", "ps3", "meta_path", "path_hooks")},
        **{name: builtins.__dict__.get(name) for name in names},
        "path": list(sys.path),
        "getpass.getpass": getpass.getpass,
        "Thread.start": threading.Thread.start,
        "Thread.run": threading.Thread.run,
        "threading.excepthook": threading.excepthook,
        "ThreadPoolExecutor.submit": ThreadPoolExecutor.submit,
        "comm.create_comm": comm.create_comm,
        "comm.get_comm_manager": comm.get_comm_manager,
        "InteractiveShell": InteractiveShell._instance,
        "ultratb": ultratb.get_line_number_of_frame,
        "__main__": sys.modules["__main__"],
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "signals": {one: signal.getsignal(one) for one in signal.valid_signals()},
        "logging": list(logging.getLogger().handlers),
        "showwarning": warnings.showwarning,
        "trio.run": (trio.run.__code__, dict(vars(trio.run))),
        "sniffio.current_async_library": sniffio.current_async_library.__code__,
        "switch interval": sys.getswitchinterval(),
    }  # fmt: skip


def difference(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] is not after[name]
            and before[name] != after[name]}  # fmt: skip


async def test_a_kernel_in_memory_replaces_what_the_table_says_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    before = state()
    async with served(PythonKernel()) as client:
        await client.execute("print('x')\n1 + 1")
        assert difference(before, state()) == REPLACED
        await client.execute("import ipywidgets\nipywidgets.IntSlider()")
    assert difference(before, state()) == set()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_kernels_end_in_any_order(
    autojump_clock: trio.testing.MockClock, order: tuple[int, ...]
) -> None:
    before = state()
    clients: dict[int, CheckedClient] = {}
    ends = [trio.Event() for _ in order]

    async def serve(number: int, task_status: trio.TaskStatus[None]) -> None:
        async with served(PythonKernel()) as clients[number]:
            task_status.started()
            await ends[number].wait()
        del clients[number]

    async with trio.open_nursery() as nursery:
        for number in range(3):
            await nursery.start(serve, number)
        for number in order:
            for one, client in clients.items():
                heard = await client.execute(f"print({one})\n{one} + 0")
                assert heard.stdout == f"{one}\n"
                assert contents(heard, "execute_result")[0]["data"]["text/plain"] == str(one)
                heard = await client.execute("get_ipython() is get_ipython().kernel.shell")
                assert contents(heard, "execute_result")[0]["data"]["text/plain"] == "True"
            ends[number].set()
            await trio.testing.wait_all_tasks_blocked()
            assert number not in clients
            assert isinstance(sys.stdout, OutStream) == bool(clients)
    assert difference(before, state()) == set()


async def test_cells_of_two_kernels_run_in_turns(autojump_clock: trio.testing.MockClock) -> None:
    before = sys.displayhook
    async with served(PythonKernel()) as one, served(PythonKernel()) as two:
        heard: dict[str, Execution] = {}

        async def run(name: str, client: CheckedClient, code: str) -> None:
            heard[name] = await client.execute(code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "one", one, "import trio\nawait trio.sleep(1)\n'one'")
            nursery.start_soon(
                run, "two", two, "import trio\nawait trio.sleep(0.5)\nawait trio.sleep(1)\n'two'"
            )
        for name in ("one", "two"):
            (result,) = contents(heard[name], "execute_result")
            assert result["data"]["text/plain"] == repr(name)
    assert sys.displayhook is before


async def test_what_somebody_has_put_there_since_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    theirs = io.StringIO()
    stdout = sys.stdout
    try:
        async with served(PythonKernel()):
            sys.stdout = theirs
        assert sys.stdout is theirs
    finally:
        sys.stdout = stdout


async def test_who_has_kept_our_stream_goes_on_with_what_was_there_before(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(PythonKernel()) as client:
        kept = sys.stdout
        assert isinstance(kept, OutStream)
        handler = logging.StreamHandler(sys.stderr)
        await client.execute("print('inside')")
    print("after", file=kept)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 1, "logged", None, None))
    assert capsys.readouterr() == ("after\n", "logged\n")


async def test_code_outside_of_a_cell_is_not_disturbed(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(PythonKernel()) as client:
        print("mine")
        thread = threading.Thread(target=print, args=("the thread's",))
        thread.start()
        thread.join()
        heard = await client.execute("print('the cell')")
    assert heard.stdout == "the cell\n"
    assert capsys.readouterr().out == "mine\nthe thread's\n"


def test_pytests_capture_goes_on(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "import pytest, sys, trio\n"
        "from trikernel.python import PythonKernel\n"
        "from trikernel.testing import open_memory_client\n\n"
        "@pytest.fixture\n"
        "async def client():\n"
        "    async with open_memory_client(PythonKernel()) as client:\n"
        "        yield client\n\n"
        "async def test_one(client):\n"
        "    print('from the test')\n"
        "    await client.expect('print(1)', stdout='1\\n')\n"
        "    assert False\n\n"
        "def test_two(capfd):\n"
        "    print('two')\n"
        "    assert capfd.readouterr().out == 'two\\n'\n\n"
        "def test_three(capsys):\n"
        "    print('three')\n"
        "    assert capsys.readouterr().out == 'three\\n'\n"
    )
    for how in ("fd", "sys", "no"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   "-o", "trio_mode=true", f"--capture={how}", str(test)]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert "1 failed, 2 passed" in run.stdout, run.stdout + run.stderr
        assert "from the test" in run.stdout
        assert "closed file" not in run.stdout + run.stderr


# The mechanism


class Owner:
    name = "before"


def test_replacements_are_put_back_the_last_first() -> None:
    replaced, names = Replacements(), {"a": 1}
    assert replaced.replace(Owner, "name", "one") == "before"
    assert replaced.replace(Owner, "name", "two") == "one"
    replaced.replace(names, "a", 2)
    replaced.replace(names, "b", 3)
    replaced.replace(Owner, "other", 4)
    replaced.undo()
    assert (Owner.name, names, hasattr(Owner, "other")) == ("before", {"a": 1}, False)


def test_a_replacement_that_is_gone_is_left_alone() -> None:
    replaced, names = Replacements(), {"a": 1, "b": 1}
    replaced.replace(names, "a", 2)
    replaced.replace(names, "b", 2)
    names["a"] = 3
    del names["b"]
    replaced.undo()
    assert names == {"a": 3}


def test_what_is_kept_comes_back_whatever_becomes_of_it() -> None:
    replaced, names = Replacements(), {"a": 1}
    replaced.keep(names, "a", "b")
    names.update(a=5, b=6)
    replaced.undo()
    assert names == {"a": 1}


def test_all_is_put_back_when_one_call_fails() -> None:
    replaced, names = Replacements(), {"a": 1}
    replaced.replace(names, "a", 2)
    replaced.callback(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replaced.undo()
    assert names == {"a": 1}
