"""``trikernel run`` as a person uses it: several notebooks, parameters, Ctrl-C, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from ..processes import wait_until
from .test_cli import PATIENCE, notebook, trikernel


def texts(path: Path) -> list[str]:
    """What each cell of the file printed, or its error."""
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    return [
        "".join(one.get("text", one.get("ename", "")) for one in cell.outputs)
        for cell in found.cells
    ]


def test_several_notebooks_run_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = "import os; print(os.getpid())"
    paths = [notebook(tmp_path / f"{name}.ipynb", code) for name in "abc"]
    out = tmp_path / "out"
    out.mkdir()
    run = trikernel("run", *paths, "-o", out, "-j", 2)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("3 of 3 notebooks run in ")
    pids = {texts(out / f"{name}.ipynb")[0] for name in "abc"}
    assert len(pids) == 3


def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    bad, good = notebook(tmp_path / "bad.ipynb", "1/0"), notebook(tmp_path / "good.ipynb", "1")
    run = trikernel("run", bad, good, "-j", 1)
    assert run.returncode == 1
    assert f"{bad}: cell 1 failed: ZeroDivisionError: division by zero" in run.stderr
    assert f"{bad}: failed" in run.stdout
    assert f"{good}: 1 cells run in" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("1 of 2 notebooks run in ")


def test_inplace_writes_over_the_notebook(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "print('new')")
    assert trikernel("run", "--inplace", path).returncode == 0
    assert texts(path) == ["new\n"]


def test_parameters_are_set(tmp_path: Path) -> None:
    path, out = tmp_path / "n.py", tmp_path / "n.ipynb"
    path.write_text('# %% tags=["parameters"]\na = b = 0\n# %%\nprint(repr(a), repr(b))\n')
    run = trikernel("run", path, "-p", "a", "[1, 2]", "-r", "b", "3", "-o", out)
    assert run.returncode == 0, run.stderr
    assert texts(out)[-1] == "[1, 2] '3'\n"
    run = trikernel("run", path, "-p", "c", "1")
    assert run.returncode == 2
    assert run.stderr.endswith("it has no parameter 'c'; its parameters are: a, b\n")


def test_errors_may_be_allowed(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "1/0", "print('goes on')")
    run = trikernel("run", path, "--allow-errors")
    assert run.returncode == 0
    assert "goes on" in run.stdout


@pytest.mark.parametrize("flag", ["--cell-timeout", "--timeout"])
def test_what_takes_too_long_is_exit_code_1(tmp_path: Path, flag: str) -> None:
    path = notebook(tmp_path / "n.ipynb", "import time; time.sleep(1000)")
    run = trikernel("run", path, flag, "0.5", "-o", tmp_path / "out.ipynb")
    assert run.returncode == 1
    assert "took longer than 0.5 seconds" in run.stderr
    assert texts(tmp_path / "out.ipynb") == ["KeyboardInterrupt"]


def test_another_kernel_may_be_named(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "get_ipython().kernel.implementation")
    assert "'ipython'" in trikernel("run", path, "--kernel", "python3").stdout
    run = trikernel("run", path, "--kernel", "nonsense")
    assert run.returncode == 2
    assert "there is no kernelspec 'nonsense'; installed are: " in run.stderr


def test_a_kernel_that_dies_is_exit_code_3(tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "n.ipynb", "print('kept')", "import os; os.write(2, b'oops'); os._exit(4)"
    )
    run = trikernel("run", path, "-o", tmp_path / "out.ipynb")
    assert run.returncode == 3
    assert run.stderr.startswith("cell 2: kernel 'trikernel' died with exit code 4")
    assert texts(tmp_path / "out.ipynb") == ["kept\n", ""]


def test_a_kernel_that_cannot_start_is_exit_code_3(tmp_path: Path) -> None:
    folder = tmp_path / "kernels" / "dies"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-c", "raise SystemExit('the reason')", "{connection_file}"]
    spec = {"argv": argv, "display_name": "dies", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    path, out = notebook(tmp_path / "n.ipynb", "1"), tmp_path / "out.ipynb"
    run = trikernel("run", path, "--kernel", "dies", "-o", out, JUPYTER_PATH=str(tmp_path))
    assert run.returncode == 3
    assert (
        run.stderr.splitlines()
        == [
            "kernel 'dies' died with exit code 1; its last words:",
            "    the reason, before it was ready",
        ]
        or "the reason" in run.stderr
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inplace", "-o", "x"], "--inplace and --output exclude each other"),
        (["--cwd", "/no/such/folder"], "--cwd: there is no folder /no/such/folder"),
        (["--jobs", "0"], "must be a number, at least 1"),
        (["--timeout", "-1"], "must be seconds, more than 0"),
        (["--timeout", "soon"], "not 'soon'"),
        (["-p", "only-a-name"], "expected 2 arguments"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    run = trikernel("run", notebook(tmp_path / "n.ipynb", "1"), *arguments)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert words in line


def test_two_notebooks_cannot_go_into_one_file(tmp_path: Path) -> None:
    for folder in ("a", "b", "out"):
        (tmp_path / folder).mkdir()
    paths = [notebook(tmp_path / folder / "n.ipynb", "1") for folder in "ab"]
    run = trikernel("run", *paths, "-o", tmp_path / "out")
    assert (run.returncode, os.listdir(tmp_path / "out")) == (2, [])
    assert "two notebooks would be written there" in run.stderr
    run = trikernel("run", *paths, "-o", tmp_path / "none")
    assert run.returncode == 2
    assert "must be a folder that exists" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cell", ["import time; time.sleep(1000)", "while True: pass"])
def test_a_signal_leaves_a_valid_notebook_and_no_process(
    tmp_path: Path, number: signal.Signals, cell: str
) -> None:
    flag, out = tmp_path / "flag", tmp_path / "out.ipynb"
    begun = f"open({str(flag)!r}, 'w').close(); print('begun')\n{cell}"
    path = notebook(tmp_path / "n.ipynb", "print('done')", begun, "print('no')")
    process = subprocess.Popen(
        [sys.executable, "-m", "trikernel", "run", str(path), "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(flag.exists, "the cell")
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert "interrupted" in stdout
    assert "Traceback (most recent call last)" not in stderr
    assert texts(out) == ["done\n", "begun\nKeyboardInterrupt", ""]
    assert kernels
    wait_until(lambda: not any(one.is_running() for one in kernels), "the kernel's end")
    assert sorted(os.listdir(tmp_path)) == ["flag", "n.ipynb", "out.ipynb"]


def test_a_runner_that_is_killed_leaves_what_was_done_and_no_kernel(tmp_path: Path) -> None:
    flag, out = tmp_path / "flag", tmp_path / "out.ipynb"
    begun = f"open({str(flag)!r}, 'w').close()\nimport time; time.sleep(1000)"
    path = notebook(tmp_path / "n.ipynb", "print('done')", begun)
    command = [sys.executable, "-m", "trikernel", "run", str(path), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(flag.exists, "the cell")
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert texts(out) == ["done\n", ""]
    wait_until(lambda: not any(one.is_running() for one in kernels), "the kernel's end")


def in_a_terminal(*arguments: Any) -> str:
    """What the command writes to a terminal."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "trikernel", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    written = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # everybody at the other end has closed it
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    process.wait(PATIENCE)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())


def test_a_terminal_shows_a_bar_for_each_notebook(tmp_path: Path) -> None:
    slow = "import time; time.sleep(1)"
    paths = [notebook(tmp_path / f"{name}.ipynb", slow, slow) for name in ("first", "second")]
    screen = in_a_terminal("run", *paths, "-j", 2)
    for path in paths:
        assert re.search(rf"{path.name}.* 1/2 ", screen)
    assert "2 of 2 notebooks run in" in screen


def test_a_second_ctrl_c_breaks_nothing(tmp_path: Path) -> None:
    flag, out = tmp_path / "flag", tmp_path / "out.ipynb"
    begun = f"open({str(flag)!r}, 'w').close()\nimport time; time.sleep(1000)"
    path = notebook(tmp_path / "n.ipynb", begun)
    command = [sys.executable, "-m", "trikernel", "run", str(path), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(flag.exists, "the cell")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)  # another one, in the middle of the first one's work
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (130, "")
    assert texts(out) == ["KeyboardInterrupt"]


def test_a_pipe_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", *["print('x' * 100_000)"] * 20)
    command = f"{sys.executable} -m trikernel run {path} | head -c 10"
    run = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE)
    assert "cannot be written to standard output: nobody reads it any more" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_allowed_errors_are_shown(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "1/0", "print('after')")
    run = trikernel("run", path, "--allow-errors")
    assert "ZeroDivisionError: division by zero\nafter\n" in run.stdout


def test_notebooks_may_stand_behind_options(tmp_path: Path) -> None:
    paths = [notebook(tmp_path / f"{name}.ipynb", "1") for name in "ab"]
    assert trikernel("run", paths[0], "--allow-errors", paths[1]).returncode == 0


@pytest.mark.parametrize("output", ["n.py", "x.txt", "/dev/null", ""])
def test_only_a_notebook_or_a_folder_is_written(tmp_path: Path, output: str) -> None:
    path = tmp_path / "n.py"
    path.write_text("1")
    run = trikernel("run", path, "-o", output and str(tmp_path / output))
    assert run.returncode == 2
    assert "must be an .ipynb file, or a folder" in run.stderr
    assert path.read_text() == "1"


def test_a_kernelspec_that_is_broken_is_one_line(tmp_path: Path) -> None:
    for name, text in {"torn": '{"argv":', "empty": '{"argv": [], "display_name": "x"}'}.items():
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(text)
        path = notebook(tmp_path / "n.ipynb", "1")
        run = trikernel("run", path, "--kernel", name, JUPYTER_PATH=str(tmp_path))
        assert run.returncode == 2
        (line,) = run.stderr.splitlines()
        assert line.startswith(f"trikernel: error: kernelspec '{name}' ")
