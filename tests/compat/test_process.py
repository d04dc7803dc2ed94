"""``python -m trikernel.compat`` and `IPKernelApp`: what only a process shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import ROOT, TIMEOUT, KernelProcess, module_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="interrupts are signals")

FLAGS = ("more.txt", "--Blocking.word=hi", "--Wrapped.cell_timeout=never", "--nobodys")


@pytest.fixture(scope="module")
def wrapped() -> Iterator[KernelProcess]:
    with module_process("trikernel.compat", "tests.compat.wrapped", *FLAGS) as kernel:
        yield kernel


def run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trikernel.compat", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_package_that_imports_ipykernel_gets_this_one(wrapped: KernelProcess) -> None:
    wrapped.client.kernel_info()
    info = wrapped.client.get_shell_msg(timeout=TIMEOUT)["content"]
    assert info["banner"] == "trikernel.compat.app"
    assert wrapped.text("hello") == "hello"


def test_flags_are_traits_and_wrong_ones_end_nothing(wrapped: KernelProcess) -> None:
    assert wrapped.text("facts") == "['hi', 0.0, ['more.txt'], True]"


def test_what_a_kernel_starts_on_asyncio_as_it_is_made_runs(wrapped: KernelProcess) -> None:
    assert wrapped.text("early") == "['begun', 'called', 'ticked', True]"


def test_a_blocking_verb_is_interrupted_and_its_sketchy_reply_is_completed(
    wrapped: KernelProcess,
) -> None:
    msg_id = wrapped.send("block")
    wrapped.until("execute_input")
    wrapped.interrupt()
    assert wrapped.finish(msg_id)[0] == {"status": "aborted"}
    assert wrapped.text("again") == "again"


@pytest.mark.parametrize("by", ["signal", "message"])
def test_an_awaiting_verb_is_interrupted(wrapped: KernelProcess, by: str) -> None:
    msg_id = wrapped.send("await")
    wrapped.until("execute_input")
    wrapped.interrupt(by)
    assert wrapped.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"


def test_a_verb_asks_and_gets_the_answer(wrapped: KernelProcess) -> None:
    msg_id = wrapped.send("ask", allow_stdin=True)
    wrapped.client.get_stdin_msg(timeout=TIMEOUT)
    wrapped.client.input("Ada")
    _, outputs = wrapped.finish(msg_id)
    assert outputs[-1]["content"]["text"] == "Ada"


def test_a_thread_sends(wrapped: KernelProcess) -> None:
    assert wrapped.text("thread") == "from a thread"


def test_children_have_the_systems_handler_of_interrupts(wrapped: KernelProcess) -> None:
    assert wrapped.text("child") == "default_int_handler"


def test_the_current_loop_is_there_again_after_an_asyncio_run_in_a_cell() -> None:
    with module_process("trikernel.compat", "tests.compat.wrapped", "--python") as kernel:
        first = kernel.text("import asyncio; loop = asyncio.get_event_loop(); print(type(loop))")
        kernel.execute("import trio")
        assert "GuestLoop" in first
        for end in ("", "; 1 / 0"):
            kernel.execute(f"asyncio.run(asyncio.sleep(0)){end}")
            assert kernel.text("print(asyncio.get_event_loop() is loop)") == "True\n"
        kernel.execute("task = asyncio.ensure_future(asyncio.sleep(0.01, 'ran'))")
        assert kernel.text(
            "while not task.done(): await trio.sleep(0.01)\nprint(task.result())"
        ) == ("ran\n")


def test_subcommands_are_the_authors() -> None:
    ended = run("tests.compat.wrapped", "install", "--user")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "installs blocking --user\n", "")


SPAWNING = """\
import multiprocessing
from ipykernel.kernelapp import IPKernelApp

def child():
    print(__name__, IPKernelApp.__module__, flush=True)

def main():
    for method in ("spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()

if __name__ == "__main__":
    main()
"""


def test_a_spawned_child_imports_the_module_with_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "spawning.py").write_text(SPAWNING, "utf-8")
    ended = run("spawning", folder=tmp_path)
    assert ended.stdout == "__mp_main__ trikernel.compat.app\n" * 2
    ended = run("spawning:main", folder=tmp_path)
    assert ended.stdout == "spawning trikernel.compat.app\n" * 2


MODULES = {
    "ends": ("x = 1", "ends is no kernel: it has ended without starting one"),
    "raises": (
        "1 / 0",
        "raises raised ZeroDivisionError: division by zero (FOLDER/raises.py, line 1)",
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_no_kernel_is_one_line(tmp_path: Path, name: str) -> None:
    code, line = MODULES[name]
    (tmp_path / f"{name}.py").write_text(code, "utf-8")
    ended = run(name, "-f", "kernel.json", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {line.replace('FOLDER', str(tmp_path))}")
    assert ended.stderr.count("\n") == 1


def test_a_module_that_is_not_there_is_one_line() -> None:
    ended = run("nosuch.kernel", "-f", "kernel.json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: nosuch.kernel is no kernel: there is no module 'nosuch'\n"


PROGRAM = """\
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel
import subprocess

class Missing(Kernel):
    implementation = "missing"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        subprocess.run(["no-such-program"])

IPKernelApp.launch_instance(kernel_class=Missing)
"""


def test_a_kernel_whose_program_is_missing_says_so_in_each_cell(tmp_path: Path) -> None:
    (tmp_path / "missing.py").write_text(PROGRAM, "utf-8")
    with module_process("trikernel.compat", "missing", PYTHONPATH=f"{ROOT}:{tmp_path}") as kernel:
        for _ in range(2):
            reply, outputs = kernel.execute("x")
            assert reply["ename"] == "FileNotFoundError"
            assert "no-such-program" in reply["evalue"]
            assert "error" in [one["msg_type"] for one in outputs]
        kernel.process.kill()
        stderr = kernel.process.stderr
        assert stderr is not None
        said = [line for line in stderr if line.startswith("error: ")]
    assert said == [
        "error: __main__.Missing cannot start: FileNotFoundError: "
        "[Errno 2] No such file or directory: 'no-such-program'\n"
    ]


@pytest.mark.parametrize("launcher", [(), ("trikernel.compat",)], ids=["by itself", "compat"])
def test_the_simple_wrapper_kernel_of_jupyters_documentation(launcher: tuple[str, ...]) -> None:
    with module_process(*launcher, "docs.examples.wrapped_echo") as kernel:
        reply, outputs = kernel.execute("said")
        assert (reply["status"], reply["execution_count"]) == ("ok", 1)
        texts = [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"]
        assert texts == ["said"]
        assert kernel.execute("  \n", silent=True)[0]["status"] == "ok"
