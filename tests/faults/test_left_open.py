"""A cell that leaves a scope or a nursery open: one error of three lines, and the next one runs."""

from __future__ import annotations

import re

import pytest
import trio.testing

from trikernel.client import Execution
from trikernel.testing import CheckedClient, open_memory_client

from .kernels import Author
from .processes import errors_of, open_process, plain, until_text

SETUP = """\
import contextlib, trio
from trikernel.notebook import enter, nursery
ticks, ticked = 0, trio.Event()
async def tick():
    global ticks, ticked
    while True:
        await trio.sleep(0.01)
        ticks += 1
        ticked.set()
        ticked = trio.Event()
nursery.start_soon(tick)
@contextlib.asynccontextmanager
async def opened():
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep_forever)
        yield inner
@contextlib.contextmanager
def limited():
    with trio.move_on_after(1000) as scope:
        yield scope
"""

NURSERIES = {
    "entered by hand": "n = await trio.open_nursery().__aenter__()",
    "with its manager kept": "m = trio.open_nursery()\nn = await m.__aenter__()",
    "with a task in it": (
        "n = await trio.open_nursery().__aenter__()\nn.start_soon(trio.sleep_forever)"
    ),
    "two, one in the other": (
        "n = await trio.open_nursery().__aenter__()\nm = await trio.open_nursery().__aenter__()"
    ),
    "through an exit stack": (
        "stack = contextlib.AsyncExitStack()\n"
        "n = await stack.enter_async_context(trio.open_nursery())"
    ),
    "through a context manager of the user's": "m = opened()\nn = await m.__aenter__()",
    "in a generator that is not finished": (
        "async def numbers():\n"
        "    async with trio.open_nursery() as inner:\n"
        "        inner.start_soon(trio.sleep_forever)\n"
        "        yield 1\n"
        "        yield 2\n"
        "generator = numbers()\n"
        "async for number in generator: break"
    ),
}  # fmt: skip
SCOPES = {
    "a cancel scope": "cs = trio.CancelScope()\ncs.__enter__()",
    "one with a deadline": "cs = trio.move_on_after(1000)\ncs.__enter__()",
    "a deadline that fails": "cs = trio.fail_after(1000)\ncs.__enter__()",
    "one that is cancelled": "cs = trio.CancelScope()\ncs.__enter__()\ncs.cancel()",
    "two, one in the other": "a, b = trio.CancelScope(), trio.CancelScope()\n"
    "a.__enter__(); b.__enter__()",
    "through an exit stack": (
        "stack = contextlib.ExitStack()\ncs = stack.enter_context(trio.CancelScope())"
    ),
    "through a context manager of the user's": "m = limited()\ncs = m.__enter__()",
}
CASES = [
    *(pytest.param(code, "nursery", id=f"a nursery {name}") for name, code in NURSERIES.items()),
    *(pytest.param(code, "scope", id=f"scope: {name}") for name, code in SCOPES.items()),
]


@pytest.fixture
async def client(
    autojump_clock: trio.testing.MockClock, kernel_client: CheckedClient
) -> CheckedClient:
    await kernel_client.expect(SETUP)
    return kernel_client


def assert_one_clear_error(execution: Execution, word: str) -> None:
    """What stayed open, where it was opened, and what to use instead: three lines."""
    (error,) = errors_of(execution)
    text = plain(error["traceback"])
    lines = [line for line in text.splitlines() if line.strip(" -")]  # a rule counts for none
    assert len(lines) == 3, text
    assert word in text
    assert re.search(rf"(In ?\[|[Cc]ell ?)\[?{execution.execution_count}\]?", text), text
    assert "enter(" in text or "nursery" in lines[-1]
    assert "corrupted" not in text
    assert execution.error is not None
    assert execution.error.ename == error["ename"]
    assert "ExceptionGroup" not in text


@pytest.mark.parametrize(("code", "word"), CASES)
async def test_it_is_one_error_of_three_lines_and_none_after_idle(
    client: CheckedClient, code: str, word: str
) -> None:
    execution = await client.execute(code)
    assert execution.status == "error"
    # a second error would come when what ran the cell ends: other cells, and time, pass
    await client.expect("await trio.sleep(10)\n1 + 1", result=2)
    await client.expect("await trio.sleep(10)")
    assert_one_clear_error(execution, word)
    assert execution.late == []
    assert client.pop_background_errors() == []


@pytest.mark.parametrize(("code", "word"), CASES)
async def test_what_runs_in_the_background_lives_on_and_so_do_the_cells(
    client: CheckedClient, code: str, word: str
) -> None:
    await client.execute(code)
    client.pop_background_errors()
    await client.expect(
        "seen = ticks\nfor _ in range(5): await ticked.wait()\nticks >= seen + 5", result=True
    )
    await client.expect(  # what the next cell opens and closes works as ever
        "with trio.move_on_after(1) as scope: await trio.sleep_forever()\n"
        "async with trio.open_nursery() as inner:\n"
        "    inner.start_soon(trio.sleep, 1)\n"
        "scope.cancelled_caught",
        result=True,
    )
    await client.expect("await enter(opened())")


async def test_an_error_of_the_cells_own_is_shown_and_not_hidden(client: CheckedClient) -> None:
    execution = await client.execute("cs = trio.CancelScope()\ncs.__enter__()\n1 / 0")
    await client.expect("await trio.sleep(10)")
    assert "ZeroDivisionError" in plain(errors_of(execution)[0]["traceback"])
    assert len(errors_of(execution)) == 1
    assert client.pop_background_errors() == []


async def test_an_error_of_a_task_in_it_is_not_lost(client: CheckedClient) -> None:
    execution = await client.execute(
        "async def fail(): raise KeyError('in the task')\n"
        "n = await trio.open_nursery().__aenter__()\n"
        "n.start_soon(fail)"
    )
    await client.expect("await trio.sleep(10)")
    (error,) = errors_of(execution)
    assert "in the task" in plain([*error["traceback"], error["evalue"]])
    assert "nursery" in plain([*error["traceback"], error["evalue"]])
    assert client.pop_background_errors() == []


async def test_what_is_put_down_in_a_nursery_of_the_notebook_is_no_error(
    client: CheckedClient,
) -> None:
    """The way that the error names works: what `enter` opens stays open."""
    await client.expect("n = await enter(opened())")
    await client.expect("n.start_soon(trio.sleep, 1)\nlen(n.child_tasks)", result=2)


async def test_with_an_interrupt_it_is_still_one_error(client: CheckedClient) -> None:
    execution = client.start(
        "n = await trio.open_nursery().__aenter__()\n"
        "n.start_soon(trio.sleep_forever)\n"
        "print('begun')\n"
        "await trio.sleep_forever()"
    )
    await until_text(execution, "begun")
    await client.request("interrupt_request", channel="control")
    await execution.wait()
    await client.expect("await trio.sleep(10)")
    assert len(errors_of(execution)) == 1
    assert client.pop_background_errors() == []


@pytest.mark.parametrize("verb", ["nursery", "scope"])
async def test_an_authors_verb_that_leaves_one_open(
    autojump_clock: trio.testing.MockClock, verb: str
) -> None:
    async with open_memory_client(Author()) as client:
        await client.expect("ticks")
        execution = await client.execute(verb)
        assert execution.status == "error"
        await client.expect("ticking", stdout="ticking")
        await client.expect("say on", stdout="on")
        (error,) = errors_of(execution)
        assert verb in plain([*error["traceback"], error["evalue"]])
        assert execution.late == []
        assert client.pop_background_errors() == []


@pytest.mark.parametrize("kind", ["nursery", "scope"])
async def test_in_a_process_it_is_the_same(kind: str) -> None:
    code = {"nursery": NURSERIES["with a task in it"], "scope": SCOPES["a cancel scope"]}[kind]
    async with open_process() as client:
        (await client.execute(SETUP)).raise_for_error()
        execution = await client.execute(code)
        for _ in range(3):
            (await client.execute("await trio.sleep(0.05)")).raise_for_error()
        assert_one_clear_error(execution, kind)
        following = await client.execute("for _ in range(3): await ticked.wait()\n'ticks'")
        assert following.result == {"text/plain": "'ticks'"}, following.error
