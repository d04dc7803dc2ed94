"""An interrupt that has no effect yet: what is said meanwhile, and what a second one does."""

from __future__ import annotations

import sys
import time

import pytest
import trio

from trikernel.client import Client, Execution

from ..processes import TIMEOUT
from .processes import HERE, By, errors_of, interrupt, open_process, plain, until_text

SETUP = """\
import time, trio
def hold(seconds):
    print('begun', flush=True)
    time.sleep(seconds)
"""
# What holds the interrupt up, by the line that has to be shown; how long is filled in. It has begun
# when it says so.
HELD = {
    "a shield": (
        "with trio.CancelScope(shield=True):\n"
        "    print('begun', flush=True)\n"
        "    await trio.sleep({})  # the line"
    ),
    "a shield in a function": (
        "async def slow():\n"
        "    with trio.CancelScope(shield=True):\n"
        "        print('begun', flush=True)\n"
        "        await trio.sleep({})  # the line\n"
        "await slow()"
    ),
    "a thread": "await trio.to_thread.run_sync(hold, {})  # the line",
    "a thread of a task": (
        "async def slow(): await trio.to_thread.run_sync(hold, {})  # the line\n"
        "async with trio.open_nursery() as inner:  # the line\n"
        "    inner.start_soon(slow)  # the line"
    ),
}  # fmt: skip
POSIX = [
    pytest.param(
        "signal", marks=pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
    ),
    "message",
]
MAINLY_SIGNAL = [POSIX[0], pytest.param("message", marks=pytest.mark.thorough)]


async def begin(client: Client, held: str, seconds: float) -> Execution:
    (await client.execute(SETUP)).raise_for_error()
    execution = client.start(HELD[held].format(seconds))
    await until_text(execution, "begun")
    opened = client.comm_open("nothing").opened
    assert opened is not None
    await opened.wait()  # the user loop has turned: the cell waits by now
    return execution


def assert_interrupted(execution: Execution) -> str:
    """One error, a `KeyboardInterrupt`; its traceback."""
    assert execution.status == "error"
    (error,) = errors_of(execution)
    assert error["ename"] == "KeyboardInterrupt"
    return plain(error["traceback"])


@pytest.mark.parametrize("by", MAINLY_SIGNAL)
async def test_the_traceback_shows_where_it_stood(by: By) -> None:
    async with open_process() as client:
        for held in HELD:
            execution = await begin(client, held, 1)
            await interrupt(client, by)
            await execution.wait()
            assert "# the line" in assert_interrupted(execution), held


@pytest.mark.parametrize("by", MAINLY_SIGNAL)
@pytest.mark.parametrize("held", ["a shield", "a thread"])
async def test_after_half_a_second_one_line_says_what_it_waits_in(held: str, by: By) -> None:
    async with open_process() as client:
        execution = await begin(client, held, 4)
        await interrupt(client, by)
        await until_text(execution, "\n", "stderr")
        assert not execution.done  # it is said while it waits, not afterwards
        line = plain(execution.stderr)
        assert "second interrupt" in line or "again" in line
        expected = {"a shield": ("trio.sleep", "shield"), "a thread": ("to_thread", "time.sleep")}
        assert any(word in line for word in expected[held]), line
        await execution.wait()
        assert execution.stderr.count("\n") == 1, execution.stderr
        assert_interrupted(execution)


@pytest.mark.parametrize("by", MAINLY_SIGNAL)
async def test_a_second_interrupt_leaves_it_behind_at_once(by: By) -> None:
    """And another one, and another one, beside those that were left behind before."""
    async with open_process() as client:
        for held in HELD:
            execution = await begin(client, held, 1000)
            await interrupt(client, by)
            await until_text(execution, "\n", "stderr")
            begun = time.monotonic()
            await interrupt(client, by)
            await execution.wait()
            assert time.monotonic() - begun < 20
            assert "# the line" in assert_interrupted(execution), held
            following = await client.execute("'alive'")
            assert following.result == {"text/plain": "'alive'"}


@pytest.mark.parametrize("by", MAINLY_SIGNAL)
async def test_where_an_interrupt_works_at_once_nothing_is_said(by: By) -> None:
    async with open_process() as client:
        for code in ("await trio.sleep_forever()", "time.sleep(60)", "while True: pass"):
            execution = client.start(f"import time, trio\nprint('begun', flush=True)\n{code}")
            await until_text(execution, "begun")
            await interrupt(client, by)
            await execution.wait()
            assert_interrupted(execution)
            # until after the moment at which it would be said
            await client.execute("import trio; await trio.sleep(0.8)")
            assert execution.stderr == ""


@pytest.mark.parametrize("verb", ["thread", "shield"])
@pytest.mark.parametrize("by", MAINLY_SIGNAL)
async def test_an_authors_verb_that_was_held_up_replies_with_an_error(verb: str, by: By) -> None:
    async with open_process(f"{HERE}:Author") as client:
        execution = client.start(f"{verb} 1")
        await until_text(execution, "begun")
        await interrupt(client, by)
        await execution.wait()
        assert_interrupted(execution)
        assert (await client.execute("say on")).stdout == "on"


@pytest.mark.parametrize("verb", ["thread", "shield"])
async def test_an_authors_verb_is_left_behind_too(verb: str) -> None:
    async with open_process(f"{HERE}:Author") as client:
        execution = client.start(f"{verb} 1000")
        await until_text(execution, "begun")
        await interrupt(client, "message")
        with trio.fail_after(TIMEOUT / 2):
            await until_text(execution, "\n", "stderr")
        await interrupt(client, "message")
        with trio.fail_after(20):
            await execution.wait()
        assert_interrupted(execution)
        assert (await client.execute("say on")).stdout == "on"


async def test_a_cell_that_ends_well_within_a_shield_is_still_interrupted() -> None:
    """What was asked to stop does not say that all went well."""
    async with open_process() as client:
        execution = await begin(client, "a shield", 3)
        await interrupt(client, "message")
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"
        assert (await client.execute("1 + 1")).result == {"text/plain": "2"}
