"""The command line: what it prints, its exit codes, and one clear line for what is wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from trikernel.cli.app import main

from ..processes import ROOT

TIMEOUT = 120
QUICKSTART = str(ROOT / "docs" / "examples" / "quickstart.ipynb")


def trikernel(*arguments: Any, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trikernel", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "COLUMNS": "200", **env},
        cwd=ROOT,
    )


Called = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Called]:
    """As `trikernel`, in this process: for calls that start nothing, of which there are many."""
    log = logging.getLogger("trikernel")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate

    def call(*arguments: Any, **env: str) -> subprocess.CompletedProcess[str]:
        for name, value in {"COLUMNS": "200", **env}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(ROOT)
        capsys.readouterr()
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    yield call
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


def notebook(path: Path, *cells: str) -> Path:
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(content, path)
    return path


def test_run_shows_the_outputs_and_the_count() -> None:
    run = trikernel("run", QUICKSTART)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("hello from Trio")
    assert "'the deadline was missed'" in lines
    assert "5050" in lines
    assert lines[-1].startswith("4 cells run in ")
    assert run.stderr == ""


def test_run_shows_the_tutorial() -> None:
    run = trikernel("run", ROOT / "docs" / "examples" / "structured_concurrency.ipynb")
    assert run.returncode == 0, run.stderr
    assert "caught: (ValueError('no such page'),)" in run.stdout
    assert "sleep, Cell In[6], line 12" in run.stdout


def test_run_writes_the_notebook_that_it_ran(tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    assert trikernel("run", QUICKSTART, "-o", out).returncode == 0
    written = nbformat.read(out, as_version=4)
    nbformat.validate(written)
    code = [cell for cell in written.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[1].outputs[0].text == "quick is here after 0.1 s\nslow is here after 0.3 s\n"
    assert code[2].outputs[0].data["text/plain"] == "'the deadline was missed'"
    assert os.listdir(tmp_path) == ["out.ipynb"]


def test_a_failing_cell_is_exit_code_1_and_its_traceback(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "print('one')", "def f():\n    1/0\nf()", "print('no')")
    out = tmp_path / "out.ipynb"
    run = trikernel("run", path, "-o", out)
    assert run.returncode == 1
    assert run.stdout == "one\n"
    assert "ZeroDivisionError: division by zero" in run.stderr
    assert "trikernel/" not in run.stderr
    assert "cell 2 failed" in run.stderr.splitlines()[-1]
    written = nbformat.read(out, as_version=4)
    assert written.cells[1].outputs[0].ename == "ZeroDivisionError"
    assert written.cells[2].outputs == []


def test_output_is_shown_while_a_cell_still_computes(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = notebook(
        tmp_path / "n.ipynb",
        "import pathlib, time\nprint('begun')\n"
        f"while not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "trikernel", "run", str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    flag.touch()
    assert process.wait(TIMEOUT) == 0
    process.stdout.close()


def test_carriage_returns_at_the_end_of_a_line_hide_nothing(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", r"print('one\r'); print('50%\r100%'); print('a\r\nb')")
    assert trikernel("run", path).stdout.splitlines()[:4] == ["one", "100%", "a", "b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_screen_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "for n in range(5000): print(n)", "1")
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "trikernel", "run", str(path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            cwd=ROOT,
        )
    assert run.returncode != 0


BROKEN = {
    "missing": (None, "cannot be read: No such file"),
    "empty": ("", "is no valid notebook"),
    "no JSON": ("{,}", "is no valid notebook"),
    "conflict": ("<<<<<<< HEAD\n{}", "merge-conflict markers from line 1 on"),
    "no notebook": ("[1, 2]", "is no valid notebook"),
    "no cells": ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "is no valid notebook"),
    "no text": (b"\xff\xfe\x00", "is no text in UTF-8"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_notebook_is_one_line_and_exit_code_2(
    tmp_path: Path, case: str, called: Called
) -> None:
    content, words = BROKEN[case]
    path = tmp_path / "broken.ipynb"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    run = called("run", path, "-o", tmp_path / "out.ipynb")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert words in line
    assert str(path) in line
    assert not (tmp_path / "out.ipynb").exists()


def test_the_flag_of_ipykernels_trio_loop_is_understood() -> None:
    """What is wrong is the file, not the flag."""
    run = trikernel("start", "--trio-loop", "-f", "/dev/null/file.json")
    assert run.returncode == 2
    assert "connection file /dev/null/file.json: " in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run"], "NOTEBOOK"),
        (["run", QUICKSTART, "--frob"], "--frob"),
        (["run", QUICKSTART, "-o", "/no/such/folder/out.ipynb"], "cannot be written"),
        (["start", "--kernel", "docs.examples.echo_kernel:EchoKernel", "--frob"], "--frob"),
        (["start", "-f", "/dev/null/file.json"], "connection file /dev/null/file.json: "),
        (["start", "--kernel", "nonsense"], "PACKAGE.MODULE:CLASS"),
        (["start", "--kernel", "no.such.module:X"], "cannot import no.such.module"),
        (["start", "--kernel", "trikernel:serve"], "no Kernel subclass 'serve'"),
        (["start", "--stop-on-error-timeout", "-1"], "from 0 to 3600"),
        (["start", "--log-level", "LOUD"], "'LOUD' is no level"),
        (["remove", "no-such-kernelspec"], "no kernelspec 'no-such-kernelspec'"),
        (["install", "--name", "a b"], "letters, digits"),
        (["install", "--user", "--prefix", "x"], "not allowed with"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, called: Called
) -> None:
    run = called(*arguments)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert words in line
    assert line.startswith("trikernel")


@pytest.mark.seed(28)
def test_a_wrong_environment_variable_is_one_line() -> None:
    run = trikernel("start", TRIKERNEL_POLL_INTERVAL="soon")
    assert run.returncode == 2
    assert "TRIKERNEL_POLL_INTERVAL: poll_interval must be a number" in run.stderr


@pytest.mark.parametrize(
    "name", [".", "..", "...", "../..", ".x", "-x", "a/b", "", "x\n", "\u00e9"]
)
@pytest.mark.parametrize("command", ["install", "remove"])
def test_a_name_that_is_no_folders_removes_nothing(
    tmp_path: Path, command: str, name: str, called: Called
) -> None:
    """``..`` was the whole share/jupyter, ``.`` every kernelspec."""
    kernels = tmp_path / "share" / "jupyter" / "kernels"
    for other in (kernels / "other" / "kernel.json", kernels.parent / "lab" / "settings.json"):
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    where = ["--prefix", tmp_path, f"--name={name}"] if command == "install" else ["--", name]
    run = called(command, *where, JUPYTER_PATH=str(kernels.parent))
    assert run.returncode == 2
    assert run.stderr.startswith("trikernel: error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_install_replaces_a_kernelspec_and_nothing_else(tmp_path: Path) -> None:
    kernels = tmp_path / "share" / "jupyter" / "kernels"
    precious = tmp_path / "precious"
    for folder in (precious, kernels / "mine", kernels / "spec"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (kernels / "spec" / "kernel.json").write_text("{}")
    (kernels / "link").symlink_to(precious)
    install = "install", "--prefix", tmp_path, "--name"
    refused = trikernel(*install, "mine")
    assert refused.returncode == 2
    assert "is no kernelspec" in refused.stderr
    for name in ("spec", "link", "New"):
        assert trikernel(*install, name).returncode == 0
    assert sorted(one.name for one in kernels.iterdir()) == ["link", "mine", "new", "spec"]
    assert not (kernels / "link").is_symlink()
    assert not (kernels / "spec" / "file").exists()
    assert (precious / "file").exists()
    assert (kernels / "mine" / "file").exists()


def test_kernelspecs_are_installed_listed_and_removed(tmp_path: Path) -> None:
    env = {"JUPYTER_PATH": str(tmp_path / "share" / "jupyter")}
    run = trikernel(
        *("install", "--prefix", tmp_path, "--name", "mine", "--display-name", "My own"), **env
    )
    assert run.returncode == 0, run.stderr
    folder = tmp_path / "share" / "jupyter" / "kernels" / "mine"
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["display_name"] == "My own"
    assert spec["interrupt_mode"] == "signal"
    assert spec["argv"][0] == sys.executable
    listed = [line.split()[0] for line in trikernel("list", **env).stdout.splitlines()]
    assert "mine" in listed
    assert trikernel("remove", "mine", **env).returncode == 0
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="it takes a shell")
def test_who_reads_a_list_may_stop_reading() -> None:
    command = f"{sys.executable} -m trikernel info | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_info_shows_versions_and_settings() -> None:
    run = trikernel("info")
    assert run.returncode == 0
    assert "trikernel 0." in run.stdout
    assert "trio " in run.stdout
    assert "TRIKERNEL_STOP_ON_ERROR_TIMEOUT" in run.stdout


@pytest.mark.parametrize("command", [["start"], ["run", QUICKSTART]])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, command: list[str]) -> None:
    for name in ("IPython", "nbformat", "rich", "comm"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
    run = trikernel(*command, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "pip install 'trikernel[python]'" in line


def test_both_ways_to_call_it_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("trikernel")
    if not script.exists():
        pytest.skip("the console script is not installed beside this interpreter")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == trikernel("--version").stdout
