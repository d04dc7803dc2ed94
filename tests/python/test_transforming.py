"""Our transformation of a cell gives what IPython's gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from trikernel.python.transforming import CellTransformers

PIECES = [
    *(
        "a",
        "=",
        " ",
        "\n",
        "\\\n",
        "    ",
        "\t",
        "\f",
        "(",
        ")",
        "[",
        "]",
        "{",
        "'",
        '"',
        '"""',
        "#",
    ),
    *(
        "%",
        "%%",
        "!",
        "!!",
        "?",
        "??",
        ",",
        ";",
        "/",
        ">>> ",
        "...",
        "In [1]: ",
        "if a:",
        "f'{",
        "}",
    ),
    *("time", "ls", "1", "\u2028", "\x1c", "\xa0", "def f():\n"),
]
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


@pytest.mark.filterwarnings("ignore:`make_tokens_by_line`")
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=500)
def test_any_cell_is_transformed_as_ipython_does(cell: str) -> None:
    def transformed(manager: TransformerManager) -> object:
        try:
            return manager.transform_cell(cell)
        except (SyntaxError, RuntimeError) as error:
            return type(error), str(error)

    assert transformed(CellTransformers()) == transformed(TransformerManager())


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
