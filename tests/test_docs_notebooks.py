"""The notebooks of docs/examples run, all by one command, and put out what their text says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .processes import ROOT

FOLDER = ROOT / "docs" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

Texts = Mapping[str, list[str]]
SAYS = {
    "before_and_after_failing": ["all over: the folder is removed here", "failed: b: connection"],
    "before_and_after_lost": ["OSError: the disk is full", "another cell goes on"],
    "before_and_after_stopping": ["too late"],
    "chat": ["380", "ann reads | bob is here", "trio.serve_tcp"],
    "cluster": ["40 results from 2 engines: pi is about 3.1"],
    "deadlines": ["it was cut short", "'near'", "DeadlineExceeded", "the watch ends", "on we go"],
    "fan_out": ["40 pages, the last one: page 39", "requests: 50 - at most 5 at once"],
    "live_plots": ["cancelled #2 draw", "image/png"],
    "quickstart": ["quick is here after 0.1 s"],
    "structured_concurrency": ["gave up: True"],
    "testing": ["nobody is there, after 2047 seconds", "3 passed", "assert 5 == 4"],
}
"""What stands among the outputs of each, in this order or another."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are once they have run."""
    folder = tmp_path_factory.mktemp("notebooks")
    found = [str(FOLDER / f"{name}.ipynb") for name in NAMES]
    command = [sys.executable, "-m", "trikernel", "run", *found, "-o", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def said(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}\n"
    return "".join(f"{kind} {data}\n" for kind, data in output["data"].items())


def test_what_is_looked_for_is_of_notebooks_that_are_there() -> None:
    assert SAYS.keys() <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_puts_out_what_its_text_says(name: str, folder: Path) -> None:
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    text = "".join(map(said, outputs))
    for words in SAYS.get(name, ()):
        assert words in text


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_names_this_kernel(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert notebook.metadata.kernelspec.name == "trikernel"
    assert [cell.outputs for cell in notebook.cells if cell.get("outputs")] == []


async def test_one_fails_and_the_others_do_not_go_on(folder: Path) -> None:
    """Before, the third download is written after the end; after, it is not."""
    notebook = nbformat.read(folder / "before_and_after_failing.ipynb", as_version=4)
    before, after = ("".join(map(said, cell.outputs)) for cell in notebook.cells[1::2])
    assert before.index("all over") < before.index("c is written")
    assert "c is written" not in after
