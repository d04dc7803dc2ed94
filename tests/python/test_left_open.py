"""A cell that enters a scope or a nursery and does not leave it: one error, and all goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, message_types

from ..cells import contents, reply_of, served


@pytest.fixture
async def client(autojump_clock: trio.testing.MockClock) -> AsyncIterator[CheckedClient]:
    async with served(PythonKernel()) as client:
        await client.execute("import trio\nfrom trikernel.notebook import enter, nursery")
        yield client


GENERATOR = """\
async def ticks():
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep_forever)
        try:
            yield 1
        finally:
            print('closed')
generator = ticks()
await anext(generator)
"""

CASES = {
    "a nursery": (
        "x = 1\nn = await trio.open_nursery().__aenter__()\nn.start_soon(trio.sleep_forever)",
        "nursery",
        "line 2: trio.open_nursery().__aenter__()",
    ),
    "a nursery with tasks": (
        "async def f():\n    n = await trio.open_nursery().__aenter__()\n"
        "    n.start_soon(trio.sleep_forever)\nawait f()",
        "nursery",
        "Cell In[2]",
    ),
    "a scope": ("cs = trio.CancelScope()\ncs.__enter__();", "cancel scope", "line 2"),
    "a deadline": ("trio.move_on_after(1).__enter__();", "cancel scope", "line 1"),
    "a generator": (GENERATOR, "nursery", "Cell In[2]"),
    "an exit stack": (
        "import contextlib\nstack = contextlib.AsyncExitStack()\n"
        "await stack.enter_async_context(trio.open_nursery());",
        "nursery",
        "line 3",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_it_is_one_error_of_three_lines_and_the_next_cell_runs(
    client: CheckedClient, case: str
) -> None:
    code, what, where = CASES[case]
    heard = await client.execute(code, stop_on_error=False)
    (error,) = contents(heard, "error")
    assert error["ename"] == reply_of(heard)["ename"] == "LeftOpenError"
    first, second, third = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in error["traceback"]]
    assert what in first
    assert where in second
    assert "enter(" in third or "nursery" in third
    assert message_types(heard)[-1] == "status:idle"
    heard = await client.execute(
        "with trio.move_on_after(1):\n    await trio.sleep(5)\n"
        "async with trio.open_nursery() as n:\n    n.start_soon(trio.sleep, 3)\nprint('on')"
    )
    assert message_types(heard) == ["status:busy", "execute_input", "stream", "status:idle"]
    assert heard.stdout == "on\n"


async def test_the_finally_of_a_generator_runs_in_the_cell(client: CheckedClient) -> None:
    heard = await client.execute(GENERATOR)
    assert heard.stdout == "closed\n"


async def test_what_a_child_of_the_nursery_raises_is_not_lost(client: CheckedClient) -> None:
    heard = await client.execute(
        "async def fail():\n    raise ValueError('child')\n"
        "async def f():\n    n = await trio.open_nursery().__aenter__()\n"
        "    n.start_soon(fail)\n    await trio.sleep_forever()\nawait f()"
    )
    assert reply_of(heard)["ename"] == "LeftOpenError"
    assert "child" in "\n".join(contents(heard, "error")[0]["traceback"])


async def test_an_error_of_the_cell_is_the_error(client: CheckedClient) -> None:
    heard = await client.execute(
        "async def f():\n    trio.CancelScope().__enter__()\n    1/0\nawait f()"
    )
    assert reply_of(heard)["ename"] == "ZeroDivisionError"
    heard = await client.execute("async with trio.open_nursery(): print('on')", stop_on_error=False)
    assert heard.status == "aborted" or heard.stdout == "on\n"


async def test_enter_and_the_background_nursery_stay_open(client: CheckedClient) -> None:
    heard = await client.execute("n = await enter(trio.open_nursery())")
    assert heard.status == "ok"
    heard = await client.execute(
        "n.start_soon(trio.sleep, 1)\nawait trio.sleep(2)\nlen(n.child_tasks)"
    )
    assert contents(heard, "execute_result")[0]["data"]["text/plain"] == "0"
