"""A kernel's malformed values never make a notebook invalid, and are told."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trikernel.client import run_notebook
from trikernel.client.notebooks import KernelFaultWarning
from trikernel.client.outputs import OutputArea
from trikernel.wire import Codec, Message

from .wrong_kernel import LANGUAGE, WrongKernel

BUNDLE: dict[str, Any] = {"data": {}, "metadata": {}}


def one_cell() -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("code")])


async def run(kernel: WrongKernel, path: Path) -> tuple[Any, list[str]]:
    """What is in the file that the runner wrote, which is valid, and the warnings."""
    async with kernel.client() as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", KernelFaultWarning)
            await run_notebook(one_cell(), path, client=client, allow_errors=True)
    return read(path), [str(one.message) for one in caught]


def read(path: Path) -> Any:
    written = json.loads(path.read_text("utf-8"))  # as it is: nbformat's reader would mend it
    nbformat.validate(written)
    return nbformat.from_dict(written)


WRONG_COUNTS = ["x", -3, 1.5, True, [1], {"n": 1}, 2.0]


@pytest.mark.parametrize("count", WRONG_COUNTS, ids=repr)
@pytest.mark.parametrize("where", ["execute_input", "execute_reply", "execute_result"])
async def test_a_number_that_is_none_is_left_out_and_told(
    tmp_path: Path, where: str, count: Any
) -> None:
    number = {"execution_count": count}
    on_iopub = {"execute_input": {"code": "code"}, "execute_result": BUNDLE}
    messages = [(where, on_iopub[where] | number)] if where in on_iopub else []
    reply = {"status": "ok"} if messages else {"status": "ok"} | number
    written, told = await run(WrongKernel(messages, reply), tmp_path / "out.ipynb")
    assert written.cells[0].execution_count is None
    assert all(output.execution_count is None for output in written.cells[0].outputs)
    assert told == [
        f"cell 1: the kernel's {where} has a field 'execution_count' that must be an integer, "
        f"0 or more, not {count!r}; it is left out"
    ]


async def test_the_number_that_is_valid_is_taken(tmp_path: Path) -> None:
    messages = [("execute_input", {"code": "code", "execution_count": 7})]
    reply = {"status": "ok", "execution_count": "7"}
    written, told = await run(WrongKernel(messages, reply), tmp_path / "out.ipynb")
    assert written.cells[0].execution_count == 7
    assert len(told) == 1


@pytest.mark.parametrize("status", ["aborted", "abort"])
async def test_a_cell_that_was_aborted_has_no_number(tmp_path: Path, status: str) -> None:
    reply = {"status": status, "execution_count": 5}
    async with WrongKernel(reply=reply).client() as client:
        execution = await client.execute("code")
        assert (execution.status, execution.execution_count) == (status, None)
    written, told = await run(WrongKernel(reply=reply), tmp_path / "out.ipynb")
    assert (written.cells[0].execution_count, told) == (None, [])


WRONG_OUTPUTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "text": ("stream", {"name": "stdout", "text": 5}, "'text' that must be a string"),
    "name": ("stream", {"name": ["stdout"], "text": "a"}, "'name' that must be a string"),
    "data": ("display_data", {"data": "text", "metadata": {}}, "'data' that must be an object"),
    "metadata": ("display_data", {"data": {}, "metadata": [1]}, "'metadata' that must be an obj"),
    "ename": ("error", {"ename": 1, "evalue": "", "traceback": []}, "'ename' that must be a str"),
    "traceback": ("error", {"ename": "E", "evalue": "", "traceback": "text"}, "a list of strings"),
    "line": ("error", {"ename": "E", "evalue": "", "traceback": ["a", 5]}, "a list of strings"),
}


@pytest.mark.parametrize("name", WRONG_OUTPUTS)
async def test_an_output_of_another_shape_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    kind, content, words = WRONG_OUTPUTS[name]
    written, (told,) = await run(WrongKernel([(kind, content)]), tmp_path / "out.ipynb")
    assert [one.output_type for one in written.cells[0].outputs] == [kind]
    assert told.startswith(f"cell 1: the kernel's {kind} has a field ")
    assert words in told


@pytest.mark.parametrize(
    ("info", "kept", "words"),
    [
        ({"language_info": "python"}, None, "'language_info' that must be an object, not 'python'"),
        ({}, None, "has no usable language_info"),
        ({"language_info": {}}, None, "has no usable language_info"),
        ({"language_info": {"version": "3"}}, None, "a language_info without a name"),
        ({"language_info": {"name": 5}}, None, "'name' that must be a string, not 5"),
        (
            {"language_info": {**LANGUAGE, "mimetype": ["text/x-wrong"], "version": 3}},
            {**LANGUAGE, "version": 3},
            "'mimetype' that must be a string",
        ),
        (
            {"language_info": {**LANGUAGE, "codemirror_mode": 5}},
            LANGUAGE,
            "'codemirror_mode' that must be a string",
        ),
    ],
)
async def test_a_language_that_is_none_leaves_the_notebook_valid(
    tmp_path: Path, info: dict[str, Any], kept: Any, words: str
) -> None:
    written, told = await run(WrongKernel(info=info), tmp_path / "out.ipynb")
    assert written.metadata.get("language_info") == kept
    assert words in told[0]


async def test_a_reply_without_a_valid_status_is_told(tmp_path: Path) -> None:
    _, (told,) = await run(WrongKernel(reply={"status": "fine"}), tmp_path / "out.ipynb")
    assert "execute_reply has a field 'status' that must be ok, error or aborted" in told


async def test_a_client_keeps_and_logs_what_was_wrong(caplog: pytest.LogCaptureFixture) -> None:
    flood: Any = [("stream", {"name": "stdout", "text": number}) for number in range(1000)]
    async with WrongKernel([*flood, *flood]).client() as client:
        with caplog.at_level(logging.WARNING, "trikernel.client"):
            execution = await client.execute("code")
    assert "has a field 'text' that must be a string, not 0" in execution.faults[0]
    assert len(execution.faults) == len(set(execution.faults)) == len(caplog.messages) == 20


async def test_a_kernel_that_is_right_brings_no_warning(tmp_path: Path) -> None:
    messages: Any = [
        ("execute_input", {"code": "code", "execution_count": 1}),
        ("display_data", {"data": {"text/plain": ["a", "b"]}, "metadata": {}, "transient": {}}),
        ("execute_result", {**BUNDLE, "execution_count": 1}),
    ]
    _, told = await run(WrongKernel(messages), tmp_path / "out.ipynb")
    assert told == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = ["name", "text", "data", "metadata", "transient", "execution_count", "ename", "traceback"]
KINDS = ["stream", "display_data", "execute_result", "error", "clear_output", "update_display_data"]


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON))),
)
def test_whatever_comes_the_outputs_are_valid(contents: list[tuple[str, dict[str, Any]]]) -> None:
    codec, area = Codec(), OutputArea()
    for kind, content in contents:
        message: Message = codec.decode(codec.encode(kind, content))
        area.take(message)
    cell = nbformat.v4.new_code_cell("code", outputs=nbformat.from_dict(area.outputs))
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))  # raises for what is not valid
