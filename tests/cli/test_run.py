"""``trikernel run`` as a person uses it: several notebooks, parameters, Ctrl-C, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from trikernel.cli import main
from trikernel.client import stopping

from ..processes import ROOT, wait_until
from .test_cli import TIMEOUT, notebook, trikernel

if sys.platform == "win32":
    pytest.skip("pseudo-terminals, signals and limits are POSIX's", allow_module_level=True)

QUERY = (
    "sqlite3.connect(':memory:').execute('with recursive n(i) as (select 1 union all "
    "select i + 1 from n) select count(*) from n where i < 0')"
)


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
    assert f"{good}: 1 cell run in" in run.stdout
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


def test_a_cell_that_does_not_stop_costs_its_kernel_and_the_names_and_not_the_other_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stopping, "INTERRUPT_GRACE", 4)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    look = "'kept' in globals()"
    path = notebook(tmp_path / "n.ipynb", f"kept = 1; {look}", f"import sqlite3\n{QUERY}", look)
    out = tmp_path / "out.ipynb"
    code = main(["run", str(path), "--cell-timeout", "2", "--allow-errors", "-o", str(out)])
    shown = capfd.readouterr()
    assert code == 0, shown.err
    place = "sqlite3.connect(':memory:').execute(...), line 2"
    assert shown.err.splitlines() == [
        f"trikernel: warning: notebook {path}: cell 2 still ran, in {place}, after it was to stop: "
        "the kernel was restarted, and what the cells before have defined is lost"
    ]
    lines = shown.out.splitlines()
    assert [lines[0], lines[-2]] == ["True", "False"]
    assert lines[-1].startswith("3 cells run in ")
    error = nbformat.read(out, as_version=4).cells[1].outputs[-1]
    assert error.ename == "CellStillRuns"
    assert f"it still runs, in {place}; the kernel was restarted" in error.evalue
    assert error.traceback[0] in lines


@pytest.mark.parametrize("flag", ["--cell-timeout", "--timeout"])
def test_what_takes_too_long_is_exit_code_1(tmp_path: Path, flag: str) -> None:
    path = notebook(tmp_path / "n.ipynb", "import time; time.sleep(1000)")
    run = trikernel("run", path, flag, "2", "-o", tmp_path / "out.ipynb")  # it has begun by then
    assert run.returncode == 1
    assert "took longer than 2 seconds" in run.stderr
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


@pytest.mark.parametrize("output", [".", "n.ipynb"])
def test_a_notebook_is_written_over_only_where_that_is_said(
    tmp_path: Path, output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = notebook(tmp_path / "n.ipynb", "1")
    before = path.read_text()
    assert main(["run", str(path), "-o", str(tmp_path / output)]) == 2
    assert "this is the notebook itself, to write it say --inplace" in capfd.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("cell", ["import time; time.sleep(1000)", "while True: pass"])
def test_a_signal_leaves_a_valid_notebook_and_no_process(
    tmp_path: Path, number: signal.Signals, cell: str
) -> None:
    flag, out = tmp_path / "flag", tmp_path / "out.ipynb"
    begun = f"print('begun'); open({str(flag)!r}, 'w').close()\n{cell}"
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
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number
    assert "interrupted" in stdout
    assert "Traceback (most recent call last)" not in stderr
    # aborted where the runner has not heard yet that the cell has begun
    error = "KeyboardInterrupt" if "KeyboardInterrupt" in texts(out)[1] else "AbortedError"
    assert texts(out) == ["done\n", f"begun\n{error}", ""]
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
    """What the command writes to a terminal, without escapes."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written_to_a_terminal(*arguments).decode())


def written_to_a_terminal(*arguments: Any) -> bytes:
    """What the command writes to a terminal."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "trikernel", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    written = b""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # everybody at the other end has closed it
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    process.wait(TIMEOUT)
    return written


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
    _, stderr = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, stderr) == (130, "")
    assert texts(out) == ["KeyboardInterrupt"]


def test_a_pipe_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", *["print('x' * 100_000)"] * 20)
    command = f"{sys.executable} -m trikernel run {path} | head -c 10"
    run = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=TIMEOUT)
    assert "cannot be written to standard output: nobody reads it any more" in run.stderr
    assert len(run.stderr.splitlines()) == 1


MARKUP = "[/nothing] [bold]x[/] [link=file:///x]"


def test_brackets_are_no_markup_in_names_and_texts(tmp_path: Path) -> None:
    folder = tmp_path / "[red]a[" / "nothing]"
    folder.mkdir(parents=True)
    good = notebook(folder / "[good].ipynb", f"print({MARKUP!r})")
    bad = notebook(folder / "[bad].ipynb", f"print({MARKUP!r})\nraise ValueError({MARKUP!r})")
    run = trikernel("run", good, bad)
    assert (run.returncode, "Traceback (most recent call last):\n" in run.stderr) == (1, False)
    assert f"{good}: 1 cell run in" in run.stdout
    assert f"{bad}: cell 1 failed: ValueError: {MARKUP}" in run.stderr
    run = trikernel("run", bad)
    assert (run.returncode, run.stdout) == (1, f"{MARKUP}\n")
    assert f"cell 1 failed: ValueError: {MARKUP}" in run.stderr


@pytest.mark.thorough
def test_brackets_are_no_markup_in_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a[" / "x]"
    folder.mkdir(parents=True)
    code = f"print({MARKUP!r}, flush=True); import time; time.sleep(0.5)"
    paths = [notebook(folder / f"[{name}].ipynb", code) for name in ("green", "/green")[:1]]
    assert MARKUP in in_a_terminal("run", *paths)
    bars = in_a_terminal("run", *paths, notebook(folder / "[b].ipynb", code))
    assert "[green].ipynb" in bars
    assert "2 of 2 notebooks run in" in bars


def limited(kind: int, limit: int) -> Any:
    """For a child: as much of a resource, and no more."""
    return lambda: resource.setrlimit(kind, (limit, limit))


def test_the_limit_of_open_files_limits_how_many_run_at_once(tmp_path: Path) -> None:
    paths = [notebook(tmp_path / f"{name}.ipynb", "print(1)") for name in "abcdef"]
    command = [sys.executable, "-m", "trikernel", "run", "-j", "6", *map(str, paths)]
    for limit, code, words in [
        (100, 0, "at most are run at once: the limit of open files (ulimit -n) leaves room for no"),
        (30, 2, "the limit of open files (ulimit -n) is too low to speak to a kernel"),
    ]:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=limited(resource.RLIMIT_NOFILE, limit),
            timeout=TIMEOUT,
        )
        assert (run.returncode, len(run.stderr.splitlines())) == (code, 1), run.stderr
        assert words in run.stderr


def test_a_full_disk_is_told_once_with_what_was_run(tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    path = notebook(tmp_path / "n.ipynb", "print('one')", "print('x' * 60_000)", "print('three')")
    run = subprocess.run(
        [sys.executable, "-m", "trikernel", "run", str(path), "-o", str(out)],
        capture_output=True,
        text=True,
        preexec_fn=limited(resource.RLIMIT_FSIZE, 50_000),
        timeout=TIMEOUT,
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
    )
    assert run.returncode == 1  # 2 would say that nothing was run
    assert run.stderr == (
        f"trikernel: error: {out}: cannot be written: File too large; "
        "cell 2 was run, the file is as it was before that\n"
    )
    assert texts(out) == ["one\n", "", ""]


HOSTILE = r"""
import sys
print('\x1b[31mred\x1b[0m')
print('\x1b]52;c;aGk=\x07clipboard \x1bPdcs\x1b\\ \x1b[6n \x1b[2J\x1b[1;1H \x1bc \x9b2J \x9d0;t')
sys.stdout.write('\x1b'); sys.stdout.flush(); sys.stdout.write(']52;c;aGk=\x07 in two\n')
sys.stdout.write('\x1b['); sys.stdout.flush(); sys.stdout.write('2J in two\n')
from IPython.display import display
display({'text/plain': '\x1b[2Jdisplayed'}, raw=True)
display({'x/\x1b[2Jmime': ''}, raw=True)
class Shown:
    def __repr__(self): return '\x1b]0;title\x07result'
display(Shown())
raise ValueError('\x1b[2J\x1b]52;c;aGk=\x07\x9b2Jvalue')
"""


def test_into_a_pipe_goes_nothing_but_text(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", HOSTILE)
    for options in ([], ["--allow-errors"]):
        run = trikernel("run", path, *options)
        shown = run.stdout + run.stderr
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
        assert run.stdout.startswith("red\n␛]52;c;aGk=␇clipboard ␛Pdcs␛\\ ␛[6n ␛[2J␛[1;1H ␛c")
        assert all(
            words in shown for words in ("␛[2Jdisplayed", "␛]0;title␇result", "\\x9b2Jvalue")
        )


def test_a_terminal_obeys_no_more_of_a_cell_than_colours(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", HOSTILE, "print('\\x1b[32mleft green')", "print('after')")
    written = written_to_a_terminal("run", path, "--allow-errors")
    for sequence in ("\x1b]", "\x1bP", "\x1b[6n", "\x1b[2J", "\x1b[1;1H", "\x1bc", "\x9b", "\x07"):
        assert sequence.encode() not in written
    assert b"\x1b[31mred\x1b[0m" in written
    assert re.search(rb"\x1b\[32mleft green\r\n.*?\x1b\[2K\x1b\[0m", written, re.DOTALL)
    assert "␛[2J in two".encode() in written


def test_what_a_kernel_did_wrong_is_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "kernels" / "wrong"
    folder.mkdir(parents=True)
    (tmp_path / "wrong.py").write_text(
        "import trikernel\nclass Wrong(trikernel.Kernel):\n"
        "    def kernel_info_request(self, request):\n"
        "        return {**self.kernel_info, 'language_info': {'name': 5}}\n"
        "    def do_execute(self, code, silent, **options): return {'status': 'ok'}\n"
    )
    argv = [sys.executable, "-m", "trikernel", "start", "--kernel", "wrong:Wrong"]
    spec = {
        "argv": [*argv, "-f", "{connection_file}"],
        "display_name": "wrong",
        "language": "text",
        "env": {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    path, out = notebook(tmp_path / "[n].ipynb", "code"), tmp_path / "out.ipynb"
    run = trikernel("run", path, "--kernel", "wrong", "-o", out, JUPYTER_PATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[0] == (
        f"trikernel: warning: notebook {path}: the kernel's kernel_info_reply (language_info) has "
        "a field 'name' that must be a string, not 5; it is left out"
    )
    assert texts(out) == [""]
