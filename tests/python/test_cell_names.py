"""Cells are compiled under the file names that ipykernel gives them, and tools see their lines."""

from __future__ import annotations

import linecache
import os
import tempfile
from collections.abc import AsyncIterator

import pytest
import trio.testing

from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.python.cell_names import HASH_SEED, murmur2
from trikernel.testing import CheckedClient

from ..cells import contents, served


@pytest.fixture
async def client(autojump_clock: trio.testing.MockClock) -> AsyncIterator[CheckedClient]:
    async with served(PythonKernel()) as client:
        yield client


def results(heard: Execution) -> list[str]:
    return [one["data"]["text/plain"] for one in contents(heard, "execute_result")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 3990065800),
        ("1", 224161117),
        ("ab", 2805137849),
        ("abc", 3350977461),
        ("\n", 3164732397),
        ("print('é€😀')\n", 3527815838),
    ],
)
def test_a_text_has_the_hash_that_frontends_make_of_it(text: str, value: int) -> None:
    assert murmur2(text, HASH_SEED) == value


def test_text_that_is_no_unicode_has_a_hash_too() -> None:
    assert murmur2("'\ud800'", HASH_SEED) != murmur2("'\ud801'", HASH_SEED)


def name_of(code: str) -> str:
    folder = os.path.join(tempfile.gettempdir(), f"ipykernel_{os.getpid()}")
    return os.path.join(folder, f"{murmur2(code, HASH_SEED)}.py")


async def test_a_cell_has_the_name_of_its_text(client: CheckedClient) -> None:
    code = "%time 1\n(lambda: 0).__code__.co_filename"
    for _ in range(2):
        assert results(await client.execute(code)) == [repr(name_of(code))]
    assert "".join(linecache.getlines(name_of(code))).startswith("get_ipython().run_line_magic")


async def test_a_variable_names_all_cells(
    client: CheckedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYKERNEL_CELL_NAME", "/a/cell.py")
    assert results(await client.execute("(lambda: 0).__code__.co_filename")) == ["'/a/cell.py'"]


async def test_tools_see_the_lines_of_a_cell(client: CheckedClient) -> None:
    await client.execute("import inspect, warnings; warnings.simplefilter('always')")
    await client.execute("def f():\n    return 1  # so says the source")
    heard = await client.execute("print(inspect.getsource(f))")
    assert heard.stdout == "def f():\n    return 1  # so says the source\n\n"
    code = "with warnings.catch_warnings(record=True) as seen:\n    warnings.warn('x')"
    await client.execute(code)
    assert results(await client.execute("seen[0].filename")) == [repr(name_of(code))]


async def test_a_cell_that_is_run_again_and_again_is_kept_once(client: CheckedClient) -> None:
    await client.execute("import linecache; linecache.cache.clear()")
    for _ in range(5):
        await client.execute("1 + 1")
    kept = "sum('ipykernel_' in name for name in linecache.cache)"
    assert results(await client.execute(kept)) == ["2"]  # and the one that asks


async def test_the_lines_of_a_group_say_which_cell_they_are_of(client: CheckedClient) -> None:
    heard = await client.execute("raise ExceptionGroup('both', [ValueError(1)])")
    (error,) = contents(heard, "error")
    text = "\n".join(error["traceback"])
    assert "Cell In[1], line 1" in text
    assert "ipykernel_" not in text
