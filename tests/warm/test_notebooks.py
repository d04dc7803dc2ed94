"""Several notebooks get their kernels from one fork server; for a few it would not pay."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from trikernel.cli.early import early_fork_server

assert sys.platform == "linux"  # else the folder is not collected


def write_notebooks(folder: Path, count: int, code: str) -> list[str]:
    names = [f"number{number}.ipynb" for number in range(count)]
    for name in names:
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(code)]), folder / name)
    return names


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("notebooks", "jobs", "kernel"), [(2, 1, None), (4, 2, None), (9, 1, "python3")]
)
def test_for_two_in_a_row_or_another_kernel_a_fork_server_does_not_pay(
    notebooks: int, jobs: int, kernel: str | None
) -> None:
    options = Namespace(kernel=kernel, jobs=jobs, notebooks=["one.ipynb"] * notebooks)
    with early_fork_server(options) as server:
        assert server is None


def test_three_in_a_row_have_a_fork_server(tmp_path: Path) -> None:
    code = "import os; print(open(f'/proc/{os.getppid()}/cmdline').read(), os.getppid())"
    names = write_notebooks(tmp_path, 3, code)
    run(tmp_path, "trikernel", "run", "--inplace", "--jobs", "1", *names)
    found = [nbformat.read(tmp_path / name, 4).cells[0].outputs[0].text for name in names]
    assert len(set(found)) == 1
    assert "trikernel.warm" in found[0]


@pytest.mark.thorough
def test_notebooks_as_tests_have_one_too(tmp_path: Path) -> None:
    code = (
        "import os; command = open(f'/proc/{os.getppid()}/cmdline').read()\n"
        "assert 'trikernel.warm' in command, command"
    )
    write_notebooks(tmp_path, 3, code)
    assert "3 passed" in run(tmp_path, "pytest", "-q", "--trikernel-notebooks")
