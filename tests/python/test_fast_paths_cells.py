"""Our transformation of a cell gives what IPython's gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from trikernel.python import PythonKernel
from trikernel.python.fast_paths import CellTransformers

_SYNTAX = '% %% ! !! ? ?? , ; / >>> ... In[1]: if\xa0a: f\'{ } ( ) [ ] { } \' " """ # a = 1 time ls'
PIECES = [*_SYNTAX.split(" "), " ", "    ", "\n", "\\\n", "\t", "\f", "\u2028", "\x1c", "\xa0"]
CELLS = [
    "a = 1 + 1",
    "%time a",
    "a = %time 1",
    "files = !ls",
    "    %time a",
    "a?",
    "?a",
    "f(\n%time\n)",
    ", f a b",
    "  ; f a",
    "/f 1",
    "a = 4 / 2; b = 3 % 2",
    "x = 1, 2",
    "a = \\\n, b",
    "print('%s?')",
    "if a:\n    !ls",
    "%%bash\nls",
    ">>> a = 1",
    "In [1]: a",
    "  indented = 1\n  more = 2",
    "'''\n%time\n'''",
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_transformed_as_ipython_does(cell: str) -> None:
    assert CellTransformers().transform_cell(cell) == TransformerManager().transform_cell(cell)


@pytest.mark.parametrize("code", [*CELLS, "if a:\n        b\n    c", "if a:", "(", "a\n"])
def test_a_cell_is_as_complete_as_ipython_says(code: str) -> None:
    assert CellTransformers().check_complete(code) == TransformerManager().check_complete(code)


@pytest.mark.filterwarnings("ignore:`make_tokens_by_line`")
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500)
def test_any_cell_is_transformed_as_ipython_does(cell: str) -> None:
    def transformed(manager: TransformerManager) -> object:
        try:
            return manager.transform_cell(cell)
        except (SyntaxError, RuntimeError) as error:
            return error

    theirs = transformed(TransformerManager())
    ours = transformed(CellTransformers())
    if isinstance(theirs, IndentationError) and isinstance(ours, str):
        with pytest.raises(SyntaxError):  # it is found when the cell is compiled
            compile(ours, "<cell>", "exec")
    else:
        assert repr(ours) == repr(theirs)


def test_somebodys_own_transformer_is_asked() -> None:
    class Own:
        @classmethod
        def find(cls, tokens_by_line: object) -> None:
            asked.append(tokens_by_line)

    asked: list[object] = []
    ours = CellTransformers()
    ours.token_transformers.append(Own)
    assert ours.transform_cell("a = 1") == "a = 1\n"
    assert len(asked) == 1


@pytest.fixture
def kernel() -> PythonKernel:
    return PythonKernel()


async def test_somebodys_own_manager_takes_its_place(kernel_client: Any) -> None:
    await kernel_client.expect(
        "from IPython.core.inputtransformer2 import TransformerManager\n"
        "get_ipython().input_transformer_manager = TransformerManager()",
        status="ok",
    )
    await kernel_client.expect("%precision\n1 + 1", result="2")
