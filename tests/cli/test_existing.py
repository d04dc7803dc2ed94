"""``trikernel tasks`` and ``trikernel attach``: a kernel that runs already, as its process."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from trikernel.cli import main
from trikernel.client import connect
from trikernel.transport import ConnectionInfo, write_connection_file

from ..processes import PYTHON, TIMEOUT, KernelProcess, kernel_process, wait_until

COMMAND = [sys.executable, "-m", "trikernel"]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process(PYTHON) as kernel:
        yield kernel


def run(*arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], input=lines, capture_output=True, text=True, timeout=TIMEOUT
    )


def test_lines_are_run_and_tasks_shown_while_a_cell_computes(kernel: KernelProcess) -> None:
    lines = (
        "from trikernel.notebook import nursery\nimport trio\n"
        "nursery.start_soon(trio.sleep_forever, name='\\x1b[2J<b>watch')\n"
        "for number in range(2):\n    print('line', number)\n\n"
        "name = input('name? ')\nAda\n'hello ' + name\n1 / 0\n"
    )
    attached = run("attach", str(kernel.path), lines=lines)
    assert attached.returncode == 0
    assert "line 0\nline 1\n" in attached.stdout
    assert "'hello Ada'\n" in attached.stdout
    assert "ZeroDivisionError: division by zero" in attached.stderr
    kernel.send("print('spins', flush=True)\nwhile True: pass")
    kernel.until("stream")
    tasks = run("tasks", "--existing", str(kernel.path))
    assert tasks.returncode == 0, tasks.stderr
    assert "\\x1b[2J<b>watch" in tasks.stdout
    assert "the cell" in tasks.stdout
    assert "running" in tasks.stdout
    kernel.process.send_signal(signal.SIGINT)
    kernel.until("error")
    assert kernel.process.poll() is None


@pytest.mark.thorough
def test_ctrl_c_interrupts_the_cell_and_not_the_kernel(kernel: KernelProcess) -> None:
    attached = subprocess.Popen(
        [*COMMAND, "attach", str(kernel.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("import trio; print('waits'); await trio.sleep_forever()\n")
    attached.stdin.flush()
    while "waits" not in attached.stdout.readline():
        pass
    attached.send_signal(signal.SIGINT)
    out, err = attached.communicate("print('still there')\n", timeout=TIMEOUT)
    assert "KeyboardInterrupt" in err
    assert "still there" in out
    assert attached.returncode == 0


def test_the_line_after_an_interrupted_question_is_not_its_answer(kernel: KernelProcess) -> None:
    """The question's thread still reads when nobody waits for it any more."""
    with subprocess.Popen(
        [*COMMAND, "attach", str(kernel.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        assert attached.stderr is not None
        attached.stdin.write("input('who? ')\n")
        attached.stdin.flush()
        assert attached.stdout.read(5) == "who? "
        attached.send_signal(signal.SIGINT)
        while attached.stderr.readline() != "KeyboardInterrupt: \n":
            pass
        out, err = attached.communicate("'not ' + 'lost'\n", timeout=TIMEOUT)
    assert "'not lost'" in out, err
    assert attached.returncode == 0


def test_exit_leaves_a_kernel_that_is_kept(kernel: KernelProcess) -> None:
    lines = "exit(keep_kernel=True)\nprint('not read')\n"
    attached = run("attach", str(kernel.path), lines=lines)
    assert (attached.returncode, attached.stdout) == (0, "left: the kernel runs on\n")
    assert run("attach", str(kernel.path), lines="6 * 7").stdout == "42\n"


def test_exit_leaves_and_ends_any_other_kernel() -> None:
    with kernel_process(PYTHON) as own:
        attached = run("attach", str(own.path), lines="exit\nprint('not read')\n")
        assert (attached.returncode, attached.stdout) == (0, "left: the kernel ends\n")
        assert own.process.wait(TIMEOUT) == 0


def test_a_kernel_that_dies_in_a_cell_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trikernel.cli.existing.connect", partial(connect, heartbeat=0.5))
    monkeypatch.setattr("sys.stdin", io.StringIO("import os; os._exit(3)\n"))
    with kernel_process(PYTHON) as own:
        assert main(["attach", str(own.path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "has had no heartbeat" in line


def test_a_file_of_no_kernel_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["tasks", "--existing"], ["attach"]):
        assert main([*command, str(tmp_path / "none.json")]) == 2
        assert "there is no such file" in capsys.readouterr().err


def test_a_dead_kernel_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trikernel.cli.existing.READY", 0.5)
    path = tmp_path / "dead.json"
    write_connection_file(path, ConnectionInfo(key="k", transport="ipc", ip=f"{tmp_path}/gone"))
    assert main(["tasks", "--existing", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has not answered within 0.5 seconds; is it still there?" in line
    assert line.count("dead.json") == 1


@pytest.mark.thorough
def test_another_kernel_does_not_tell_its_tasks_and_can_be_attached_to(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ipykernel")
    path = tmp_path / "other.json"
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(path.exists, "its connection file")
        tasks = run("tasks", "--existing", str(path))
        assert tasks.returncode == 2
        assert "this kernel does not tell its tasks: it is ipython" in tasks.stderr
        attached = run("attach", str(path), lines="6 * 7\n")
        assert attached.stdout == "42\n"
    finally:
        process.kill()
        process.wait()
