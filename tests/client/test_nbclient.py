"""Notebooks run by trikernel hold what nbclient, run on the same kernel, puts into them."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from trikernel.client.kernel_process import new_manager

from .varied import NOTEBOOKS, build

pytestmark = pytest.mark.slow  # in processes of their own, whatever the Python

TIMEOUT = 300
_HEX = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{32}|0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


def chosen(config: pytest.Config) -> list[str]:
    """A third of them; with ``--thorough`` all."""
    return list(NOTEBOOKS)[:: 1 if config.getoption("thorough") else 3]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", chosen(metafunc.config))


@pytest.fixture(scope="module")
def names(pytestconfig: pytest.Config) -> list[str]:
    return chosen(pytestconfig)


@pytest.fixture(scope="module")
def ours(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of them run by one call of the command line, several at once."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in names:
        nbformat.write(build(name), source / f"{name}.ipynb")
    options = ["--output", str(target), "--cwd", str(source)]
    paths = map(str, sorted(source.iterdir()))
    run = subprocess.run(
        [sys.executable, "-m", "trikernel", "run", *paths, *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    assert f"{len(names)} of {len(names)} notebooks run in" in run.stdout
    return {name: nbformat.read(target / f"{name}.ipynb", as_version=4) for name in names}


@pytest.fixture(scope="module")
def theirs(
    names: list[str], tmp_path_factory: pytest.TempPathFactory, ours: dict[str, Any]
) -> dict[str, Any]:
    """All of them run by nbclient, some at once."""
    folder = tmp_path_factory.getbasetemp() / "source0"

    async def run_all() -> dict[str, Any]:
        limit = asyncio.Semaphore(4)

        async def run(name: str) -> tuple[str, Any]:
            async with limit:
                notebook = build(name)
                client = NotebookClient(
                    notebook, km=new_manager(None), resources={"metadata": {"path": str(folder)}}
                )
                client.owns_km = True
                await client.async_execute()
                return name, notebook

        return dict(await asyncio.gather(*map(run, names)))

    with asyncio.Runner() as runner:
        return runner.run(run_all())


def test_a_notebook_holds_what_nbclient_puts_there(
    name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    found, expected = normalised(ours[name]), normalised(theirs[name])
    assert len(found.cells) == len(expected.cells)
    for mine, other in zip(found.cells, expected.cells, strict=True):
        assert mine == other
    assert widgets(found) == widgets(expected)
    assert found.metadata == expected.metadata


def widgets(notebook: Any) -> list[str]:
    """The state of its widgets, taken out: their ids are random, and so is their order."""
    found = notebook.metadata.pop("widgets", {})
    models = [model for state in found.values() for model in state["state"].values()]
    return sorted(
        re.sub(r"<id \d+>", "<id>", json.dumps(model, sort_keys=True)) for model in models
    )


def normalised(notebook: Any) -> Any:
    """Without what differs from run to run: times, addresses, random ids, folders."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # nbclient notes the time
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    text = nbformat.writes(notebook)
    ids: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return ids.setdefault(match[0], f"<id {len(ids)}>")

    return nbformat.reads(_HEX.sub(renamed, text), as_version=4)


def merged(outputs: list[Any]) -> list[Any]:
    """Consecutive text of one stream as one output; nbclient leaves it in pieces."""
    found: list[Any] = []
    for output in outputs:
        if found and output.get("name") and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def test_there_are_enough_of_them() -> None:
    assert len(NOTEBOOKS) >= 20


def test_the_files_are_those_that_nbformat_would_write(
    tmp_path: Path, ours: dict[str, Any]
) -> None:
    from trikernel.client.notebooks import NotebookWriter

    for name, notebook in ours.items():
        writer = NotebookWriter(notebook, tmp_path / f"{name}.ipynb")
        writer.write()
        assert (tmp_path / f"{name}.ipynb").read_text("utf-8") == nbformat.writes(notebook) + "\n"
