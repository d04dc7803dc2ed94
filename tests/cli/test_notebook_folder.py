"""A kernel imports itself without the folder of the notebook; its cells import from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from trikernel.client import open_kernel

TIMEOUT = 60
# Modules that a kernel imports, and that people have given their own files the names of.
NAMES = (
    "IPython", "abc", "argparse", "ast", "asyncio", "attr", "bisect", "calendar", "code", "copy",
    "datetime", "decimal", "email", "enum", "functools", "html", "inspect", "json", "logging",
    "operator", "orjson", "platform", "queue", "random", "secrets", "select", "signal", "socket",
    "statistics", "string", "tempfile", "threading", "token", "trikernel", "trio", "types", "uuid",
    "zmq",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which every one of those names is taken."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open('imported', 'a').write({name + ' '!r})\n")
    (tmp_path / "helper.py").write_text("answer = 42\n")
    return tmp_path


async def test_a_kernel_starts_beside_files_with_the_names_of_modules(folder: Path) -> None:
    async with open_kernel(cwd=folder) as client:
        assert not (folder / "imported").exists()
        execution = await client.execute("import helper, random, trio; print(helper.answer)")
        assert execution.stdout == "42\n"
        assert not (folder / "imported").exists()


async def test_cells_import_in_the_order_of_ipykernel(folder: Path) -> None:
    """The standard library, the notebook's folder, installed packages."""
    async with open_kernel(cwd=folder) as client:
        execution = await client.execute(
            "import sys; at = sys.path.index('')\n"
            "print(any('site-packages' in one for one in sys.path[:at]),"
            " any(one.endswith(f'python{sys.version_info[0]}.{sys.version_info[1]}')"
            " for one in sys.path[:at]))"
        )
        assert execution.stdout == "False True\n"


def test_the_runner_runs_a_notebook_there(folder: Path) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import helper, statistics; print(helper.answer)")]
    )
    nbformat.write(notebook, folder / "n.ipynb")
    run = subprocess.run(
        [sys.executable, "-P", "-m", "trikernel", "run", "n.ipynb"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "42"
    assert not (folder / "imported").exists()
