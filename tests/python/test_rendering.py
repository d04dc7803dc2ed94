"""Tracebacks are drawn as IPython draws them, with what is kept from one to the next."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from pygments.formatters.terminal256 import Terminal256Formatter
from stack_data import core, style_with_executing_node

from trikernel.client import open_kernel
from trikernel.kernel.replacements import Replacements
from trikernel.python import PythonKernel, rendering
from trikernel.testing import open_clients

theirs = core._pygmented_with_ranges
style = style_with_executing_node("default", "bg:ansiyellow")

PIECES = ["def f():", "\n", "    ", "1 / 0", "'text'", '"""', "# comment", "lambda", "é", "\t", "("]
code = st.lists(st.sampled_from(PIECES)).map("".join)
ranges = st.lists(st.tuples(st.integers(-2, 30), st.integers(-2, 30)), max_size=2)


@given(code, ranges)
def test_code_is_highlighted_as_by_the_library(code: str, ranges: list[tuple[int, int]]) -> None:
    formatter = Terminal256Formatter(style=style)
    assert rendering.highlighted(formatter, code, ranges) == theirs(formatter, code, ranges)


FAILURES = [
    "1 / 0",
    "def f():\n    return undefined\n\ntry:\n    f()\nfinally:\n    1 / 0",
    "import json\njson.loads('[')",
    "def recurse(n):\n    return recurse(n - 1) if n else 1 / 0\nrecurse(30)",
]


async def test_an_error_looks_the_same_with_and_without_what_is_kept() -> None:
    kept: list[list[str]] = []
    for keeps in (True, False):
        async with open_clients(PythonKernel()) as (client,):
            if not keeps:
                rendering._pending.clear()
            for one in FAILURES:
                ended = await client.execute(one)
                assert ended.error is not None
                kept.append(ended.error.traceback)
        assert core._pygmented_with_ranges is theirs  # it comes back
    assert kept[: len(FAILURES)] == kept[len(FAILURES) :]


def test_what_is_replaced_is_replaced_once_and_comes_back() -> None:
    replaced = Replacements()
    rendering.keep_lexers(replaced)
    rendering.prepare()
    rendering.prepare()
    assert core._pygmented_with_ranges is rendering.highlighted
    made = core.style_with_executing_node("default", "bold")
    assert core.style_with_executing_node("default", "bold") is made
    replaced.undo()
    assert core._pygmented_with_ranges is theirs


async def test_a_kernel_has_what_draws_an_error_before_there_is_one() -> None:
    async with open_kernel("trikernel") as client:
        ready = "import sys, trio\nwhile 'stack_data' not in sys.modules: await trio.sleep(0.1)"
        with trio.fail_after(60):
            assert (await client.execute(ready)).status == "ok"
        nothing = await client.execute("await trio.sleep(1)\n%tb")
        assert "No traceback available" in nothing.stdout + nothing.stderr
