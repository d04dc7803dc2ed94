"""Notebooks are read, given parameters, run, and written, whatever is in them; in memory."""

from __future__ import annotations

import json
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
import trio
from trio.testing import MockClock

import trikernel
from trikernel.client import run_notebook
from trikernel.client.notebooks import (
    NotebookWriter,
    inject_parameters,
    parse_value,
    read_notebook,
)
from trikernel.errors import (
    CellFailed,
    CellStillRuns,
    ExecutionTimeout,
    KernelDied,
    UsageError,
)
from trikernel.testing import CheckedClient, open_memory_client


def build(*cells: str | tuple[str, list[str]]) -> Any:
    made = []
    for cell in cells:
        source, tags = (cell, []) if isinstance(cell, str) else cell
        made.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    return nbformat.v4.new_notebook(cells=made)


def texts(notebook: Any) -> list[str]:
    """What each cell printed, or the name of its error."""
    return [
        "".join(one.get("text", one.get("ename", "")) for one in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


# Running


async def test_outputs_and_counts_are_put_into_the_notebook(kernel_client: CheckedClient) -> None:
    notebook = build("print('a')", "2 + 2")
    assert await run_notebook(notebook, client=kernel_client) is notebook
    nbformat.validate(notebook)
    assert texts(notebook)[0] == "a\n"
    assert notebook.cells[1].outputs[0].data == {"text/plain": "4"}
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert notebook.metadata.language_info.name == "python"


async def test_a_failing_cell_ends_the_run(kernel_client: CheckedClient) -> None:
    notebook = build("print('a')", "1/0", "print('no')")
    with pytest.raises(CellFailed, match=r"^cell 2 failed: ZeroDivisionError: division by zero$"):
        await run_notebook(notebook, client=kernel_client)
    assert texts(notebook) == ["a\n", "ZeroDivisionError", ""]


async def test_errors_may_be_allowed(kernel_client: CheckedClient) -> None:
    notebook = build("1/0", "print('yes')")
    await run_notebook(notebook, client=kernel_client, allow_errors=True)
    assert texts(notebook) == ["ZeroDivisionError", "yes\n"]


async def test_tags_allow_an_error_and_skip_a_cell(kernel_client: CheckedClient) -> None:
    notebook = build(("1/0", ["raises-exception"]), ("1/0", ["skip"]), "print('yes')")
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="kept")]
    await run_notebook(notebook, client=kernel_client)
    assert texts(notebook) == ["ZeroDivisionError", "kept", "yes\n"]


async def test_a_cell_that_takes_too_long_ends_the_run(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    notebook = build("import trio", "print('begun'); await trio.sleep(60)", "print('no')")
    with pytest.raises(ExecutionTimeout, match=r"^cell 2: the cell took longer than 5 seconds"):
        await run_notebook(notebook, client=kernel_client, cell_timeout=5)
    assert texts(notebook) == ["", "begun\nKeyboardInterrupt", ""]


async def test_where_errors_are_allowed_it_goes_on_behind_a_cell_that_takes_too_long(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    slow = "import trio; print('begun'); await trio.sleep(60)"
    notebook = build((slow, ["raises-exception"]), "print('yes')")
    progress = Heard()
    await run_notebook(notebook, client=kernel_client, cell_timeout=5, progress=progress)
    assert texts(notebook) == ["begun\nKeyboardInterrupt", "yes\n"]
    assert progress.names() == ["ExecutionTimeout"]


@pytest.mark.parametrize("limit", [{"cell_timeout": 5}, {"timeout": 5}])
@pytest.mark.parametrize("allow_errors", [True, False])
async def test_a_cell_that_does_not_stop_is_told_under_it_and_in_the_file(
    autojump_clock: MockClock, tmp_path: Path, limit: Any, allow_errors: bool
) -> None:
    """Whatever is allowed: this client has no way to restart its kernel."""

    class Deaf(trikernel.Kernel):
        def interrupt_request(self, request: Any) -> Any:
            return {"status": "ok", "still_runs": "sleep, line 3"}

        async def do_execute(self, code: str, silent: bool) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)

    notebook, out = build("deaf", "never"), tmp_path / "out.ipynb"
    async with open_memory_client(Deaf()) as client:
        with pytest.raises(CellStillRuns, match="it still runs, in sleep, line 3") as caught:
            await run_notebook(notebook, out, client=client, allow_errors=allow_errors, **limit)
    written = nbformat.read(out, as_version=4)
    nbformat.validate(written)
    assert texts(written) == texts(notebook) == ["CellStillRuns", ""]
    assert written.cells[0].outputs[0].evalue == str(caught.value)


class Heard:
    """The outputs that somebody who watches is told of."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def begin(self, number: int, cell: Any) -> None: ...

    def end(self, number: int) -> None: ...

    def output(self, output: Any) -> None:
        self.outputs.append(output)

    def names(self) -> list[str]:
        return [one["ename"] for one in self.outputs if one["output_type"] == "error"]


async def test_a_notebook_that_takes_too_long_is_stopped(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    notebook = build("import trio", *["await trio.sleep(4)"] * 5)
    with pytest.raises(
        ExecutionTimeout, match=r"^cell 4: the notebook took longer than 10 seconds and was"
    ):
        await run_notebook(notebook, client=kernel_client, timeout=10)
    assert texts(notebook) == ["", "", "", "KeyboardInterrupt", "", ""]


async def test_the_file_is_written_after_every_cell(
    kernel_client: CheckedClient, tmp_path: Path
) -> None:
    out = tmp_path / "out.ipynb"
    look = (
        f"import json; from pathlib import Path\n"
        f"cells = json.loads(Path({str(out)!r}).read_text())['cells']\n"
        "print([len(cell['outputs']) for cell in cells])"
    )
    notebook = build(look, look, look)
    await run_notebook(notebook, out, client=kernel_client)
    assert texts(notebook) == ["[0, 0, 0]\n", "[1, 0, 0]\n", "[1, 1, 0]\n"]
    assert out.read_text("utf-8") == nbformat.writes(notebook) + "\n"
    assert os.listdir(tmp_path) == ["out.ipynb"]


async def test_a_cancelled_run_leaves_a_whole_notebook(
    kernel_client: CheckedClient, autojump_clock: MockClock, tmp_path: Path
) -> None:
    notebook = build("import trio; print('done')", "print('begun'); await trio.sleep(60)")
    with trio.move_on_after(5):
        await run_notebook(notebook, tmp_path / "out.ipynb", client=kernel_client)
    written = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    nbformat.validate(written)
    assert texts(written) == ["done\n", "begun\nKeyboardInterrupt"]


async def test_what_comes_late_and_what_is_updated_is_in_the_file(
    kernel_client: CheckedClient, autojump_clock: MockClock, tmp_path: Path
) -> None:
    notebook = build(
        "import trio\nfrom trikernel.notebook import nursery\n"
        "async def later(): await trio.sleep(1); print('late')\nnursery.start_soon(later)",
        "h = display('old', display_id=True)",
        "await trio.sleep(2); h.update('new')",
    )
    await run_notebook(notebook, tmp_path / "out.ipynb", client=kernel_client)
    written = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert texts(written)[0] == "late\n"
    assert written.cells[1].outputs[0].data == {"text/plain": "'new'"}


async def test_progress_is_told(kernel_client: CheckedClient) -> None:
    told: list[Any] = []

    class Told:
        def begin(self, number: int, cell: Any) -> None:
            told.append(("begin", number, cell.source))

        def output(self, output: Any) -> None:
            told.append(output["output_type"])

        def end(self, number: int) -> None:
            told.append(("end", number))

    await run_notebook(build("print(1)", ""), client=kernel_client, progress=Told())
    assert told == [("begin", 1, "print(1)"), "stream", ("end", 1), ("begin", 2, ""), ("end", 2)]


async def test_output_widgets_take_the_outputs_of_their_block(
    kernel_client: CheckedClient,
) -> None:
    notebook = build(
        "import ipywidgets as w\nout = w.Output()\nout",
        "with out: print('inside'); display('shown')",
        "with out: 1/0",
        "print('outside')",
        "print(len(out.outputs))",
        "out.clear_output()",
    )
    await run_notebook(notebook, client=kernel_client)
    assert texts(notebook)[1:5] == ["", "", "outside\n", "3\n"]
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    (output,) = [one for one in state.values() if one.model_name == "OutputModel"]
    assert output.state.outputs == []


async def test_the_kernel_dies_in_the_middle(tmp_path: Path) -> None:
    notebook = build("print('done')", "import os; os._exit(5)", "print('no')")
    with pytest.raises(KernelDied, match=r"^cell 2: kernel 'trikernel' died with exit code 5"):
        await run_notebook(notebook, tmp_path / "out.ipynb")
    assert texts(nbformat.read(tmp_path / "out.ipynb", as_version=4)) == ["done\n", "", ""]


async def test_a_file_runs_in_its_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "here.ipynb"
    nbformat.write(build("import os; print(os.getcwd())"), path)
    assert texts(await run_notebook(path)) == [f"{tmp_path}\n"]


async def test_the_kernel_is_the_one_that_is_named() -> None:
    notebook = build("from IPython import get_ipython; print(type(get_ipython()).__module__)")
    await run_notebook(notebook, kernel_name="python3")
    assert texts(notebook) == ["ipykernel.zmqshell\n"]


async def test_a_notebook_of_another_language_wants_its_own_kernel() -> None:
    notebook = build("1")
    notebook.metadata.kernelspec = {"name": "no-such-r", "language": "R", "display_name": "R"}
    with pytest.raises(UsageError, match="there is no kernelspec 'no-such-r'"):
        await run_notebook(notebook)


# Parameters


def test_a_value_is_json_or_python_or_text() -> None:
    texts_and_values = {
        "1": 1,
        "0.5": 0.5,
        "true": True,
        "null": None,
        "None": None,
        "[1, 2]": [1, 2],
        "(1, 2)": (1, 2),
        '{"a": 1}': {"a": 1},
        "plain": "plain",
        "'quoted'": "quoted",
        "": "",
        "2026-01-02": "2026-01-02",
    }
    assert {text: parse_value(text) for text in texts_and_values} == texts_and_values


async def test_parameters_are_put_behind_the_tagged_cell(kernel_client: CheckedClient) -> None:
    notebook = build(("a = 1; b: str = 'x'\n%time c = 2\nd = e = 0", ["parameters"]), "print(a, b)")
    await run_notebook(notebook, client=kernel_client, parameters={"a": [1, "q'"], "b": None})
    assert notebook.cells[1].metadata.tags == ["injected-parameters"]
    assert notebook.cells[1].source == '# Parameters\na = [1, "q\'"]\nb = None'
    assert texts(notebook)[-1] == '[1, "q\'"] None\n'
    inject_parameters(notebook, {"d": math.inf})
    assert [cell.source for cell in notebook.cells[1:2]] == ["# Parameters\nd = float('inf')"]
    assert len(notebook.cells) == 3


@pytest.mark.parametrize(
    ("cells", "parameters", "words"),
    [
        (["a = 1"], {"a": 2}, "no cell is tagged 'parameters'"),
        ([("a = b = 1", ["parameters"])], {"c": 2}, "no parameter 'c'; its parameters are: a, b"),
        ([("a =", ["parameters"])], {"a": 2}, "is no valid Python"),
        ([("a = 1", ["parameters"])], {"a": object()}, "'a': <object .* Python literal"),
    ],
)
def test_parameters_that_do_not_fit_are_told(cells: Any, parameters: Any, words: str) -> None:
    notebook = build(*cells)
    before = nbformat.writes(notebook)
    with pytest.raises(UsageError, match=words):
        inject_parameters(notebook, parameters)
    assert nbformat.writes(notebook) == before


# Files


def test_a_percent_script_is_a_notebook(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "# %% [markdown]\n# # Title\n\n"
        '# %% tags=["parameters"]\nx = 1\n\n'
        "# %%\nprint(x)\n# %time 1\n"
    )
    notebook = read_notebook(path)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.cells[2].source == "print(x)\n%time 1"


def test_old_formats_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    cell = {"cell_type": "code", "input": ["print(1)"], "outputs": [], "language": "python"}
    worksheet = {"cells": [{**cell, "collapsed": False, "metadata": {}}], "metadata": {}}
    old = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [worksheet]}
    path.write_text(json.dumps(old))
    assert read_notebook(path).cells[0].source == "print(1)"


def test_cells_without_ids_get_some(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    cell = {"cell_type": "code", "source": "1", "outputs": [], "metadata": {}}
    fields = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    path.write_text(json.dumps({**fields, "cells": [{**cell, "execution_count": None}]}))
    assert read_notebook(path).cells[0].id


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("n.ipynb", '{\n<<<<<<< HEAD\n"a": 1', "merge-conflict markers from line 2 on"),
        ("n.ipynb", "{", "is no valid notebook"),
        ("n.ipynb", '{"nbformat": 9, "nbformat_minor": 0}', "is no valid notebook"),
        (
            "n.ipynb",
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
            "is missing an expected key",
        ),
        ("n.txt", "x", "must be an .ipynb file, or a .py percent script"),
    ],
)
def test_what_is_no_notebook_is_told(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_notebook(path)
    assert str(path) in str(caught.value)


def test_only_changed_cells_are_formatted_again(tmp_path: Path) -> None:
    notebook = build("1", "2")
    writer = NotebookWriter(notebook, tmp_path / "n.ipynb")
    writer.write()
    notebook.cells[0].source = notebook.cells[1].source = "changed"
    writer.changed(0)
    writer.write()
    written = nbformat.read(tmp_path / "n.ipynb", as_version=4)
    assert [cell.source for cell in written.cells] == ["changed", "2"]


def test_a_notebook_without_cells_is_written(tmp_path: Path) -> None:
    notebook = build()
    NotebookWriter(notebook, tmp_path / "n.ipynb").write()
    assert (tmp_path / "n.ipynb").read_text() == nbformat.writes(notebook) + "\n"


def test_a_file_that_is_read_only_is_told_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text("mine")
    path.chmod(0o444)
    with pytest.raises(UsageError, match=r"n\.ipynb: cannot be written: it is read-only"):
        NotebookWriter(build(), path)
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        NotebookWriter(build(), tmp_path / "none" / "n.ipynb")


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target.ipynb", tmp_path / "link.ipynb"
    target.write_text("old")
    link.symlink_to(target)
    NotebookWriter(build(), link).write()
    assert link.is_symlink()
    assert target.read_text().startswith("{")


async def test_an_output_widget_clears_as_the_next_output_comes(
    kernel_client: CheckedClient,
) -> None:
    notebook = build(
        "import ipywidgets as w\nfrom IPython.display import clear_output\nout = w.Output()\nout",
        "with out:\n    print('old'); clear_output(wait=True); print('new')",
        "with out: h = display('shown', display_id=True)",
        "h.update('updated')",
    )
    await run_notebook(notebook, client=kernel_client)
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    (output,) = [one for one in state.values() if one.model_name == "OutputModel"]
    assert output.state.outputs[0].text == "new\n"
    assert output.state.outputs[1].data == {"text/plain": "'updated'"}


async def test_two_notebooks_on_one_kernel_keep_their_widgets_apart(
    kernel_client: CheckedClient,
) -> None:
    notebooks = [build(f"import ipywidgets as w\nw.Label('{name}')") for name in "ab"]
    async with trio.open_nursery() as nursery:
        for notebook in notebooks:
            run = partial(run_notebook, notebook, client=kernel_client)
            nursery.start_soon(run)
    for name, notebook in zip("ab", notebooks, strict=True):
        state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        assert [one.state.value for one in state.values() if "value" in one.state] == [name]


async def test_what_fails_in_the_background_fails_the_notebook(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    crash = (
        "from trikernel.notebook import nursery\nimport trio\n"
        "async def crash(): await trio.sleep(1); raise ValueError('late')\n"
        "nursery.start_soon(crash)"
    )
    notebook = build("", ("1/0", ["skip"]), crash, "await trio.sleep(2)", "print('runs')")
    with pytest.raises(CellFailed, match="cell 3 failed in the background: ValueError: late"):
        await run_notebook(notebook, client=kernel_client)
    assert texts(notebook)[-1] == "runs\n"
    kernel_client.pop_background_errors()


async def test_a_lone_surrogate_is_written_and_read_again(
    kernel_client: CheckedClient, tmp_path: Path
) -> None:
    path = tmp_path / "out.ipynb"
    await run_notebook(build("print('a\\ud800b')"), path, client=kernel_client)
    nbformat.validate(nbformat.read(path, as_version=4))
    assert texts(nbformat.read(path, as_version=4)) in (["a\ud800b\n"], ["a?b\n"], ["a\ufffdb\n"])


def test_a_files_mode_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text("")
    path.chmod(0o600)
    NotebookWriter(build(), path).write()
    assert path.stat().st_mode & 0o777 == 0o600
