"""``%tasks`` and ``%cancel``: what lives after its cell, and how to end it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.python import PythonKernel

from ..harness import Heard, Peer, open_peer

SETUP = """\
import trio
from contextlib import asynccontextmanager
from trikernel.notebook import enter, nursery

async def waiter():
    try:
        await trio.Event().wait()
    finally:
        print("waiter ends")

async def parent():
    async with trio.open_nursery() as inner:
        inner.start_soon(waiter)
        inner.start_soon(trio.sleep, 10_000)

@asynccontextmanager
async def database():
    try:
        yield 7
    finally:
        print("database ends")
"""


async def execute(peer: Peer, code: str) -> Heard:
    """Run a cell whose error does not abort the next one."""
    return await peer.execute(code, stop_on_error=False)


@pytest.fixture
async def peer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Peer]:
    async with open_peer(PythonKernel()) as peer:
        await execute(peer, SETUP)
        yield peer


def bundle(heard: Heard) -> dict[str, Any]:
    (result,) = heard.contents("execute_result")
    return dict(result["data"])


async def tasks(peer: Peer) -> str:
    return str(bundle(await execute(peer, "%tasks"))["text/plain"])


async def test_a_tree_with_cell_name_age_and_what_each_task_waits_on(peer: Peer) -> None:
    await execute(peer, "nursery.start_soon(parent)")
    await execute(peer, "connection = await enter(database())\nawait trio.sleep(20)")
    lines = (await tasks(peer)).splitlines()
    assert [re.sub(r"#\d+", "#n", line) for line in lines] == [
        "cell    task               age     waits on",
        "In [2]  #n parent          20.0 s  its children, Cell In[1], line 12",
        "In [2]  └─ #n waiter       20.0 s  Event.wait, Cell In[1], line 7",
        "In [2]  └─ #n trio.sleep   20.0 s  sleep",
        "In [3]  #n enter database  20.0 s  sleep_forever",
    ]


async def test_html_has_the_same_content(peer: Peer) -> None:
    await execute(
        peer, "nursery.start_soon(parent)\nnursery.start_soon(trio.sleep, 99, name='<b>')"
    )
    shown = bundle(await execute(peer, "%tasks"))
    cells = re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", shown["text/html"])
    assert len(cells) == 4 * 5
    assert " ".join(unescape(" ".join(cells)).split()) == " ".join(shown["text/plain"].split())
    assert "<b>" not in shown["text/html"]


async def test_it_says_so_when_there_is_none(peer: Peer) -> None:
    assert await tasks(peer) == "no tasks"


async def test_a_cell_with_open_nurseries_shows_its_own_children(peer: Peer) -> None:
    heard = await execute(
        peer,
        "async with trio.open_nursery() as mine:\n"
        "    mine.start_soon(waiter)\n"
        "    await trio.sleep(2)\n"
        "    print(get_ipython().run_line_magic('tasks', ''))\n"
        "    mine.cancel_scope.cancel()",
    )
    text = heard.text()
    assert re.search(r"In \[2\]  #\d+ the cell +2\.0 s  running\n", text), text
    assert re.search(r"In \[2\]  └─ #\d+ waiter +2\.0 s  Event\.wait, Cell In\[1\], line 7\n", text)


async def test_cancel_takes_a_cell_a_task_or_a_name(peer: Peer) -> None:
    started = await execute(peer, "nursery.start_soon(parent)\nawait enter(database())")
    await execute(peer, "nursery.start_soon(waiter)\nnursery.start_soon(waiter)")
    number = re.search(r"#(\d+) waiter", (await tasks(peer)).splitlines()[-1])
    assert number is not None
    one = await execute(peer, f"%cancel #{number[1]}\nawait trio.sleep(1)")
    assert one.text() == f"cancelled #{number[1]} waiter\n"
    by_name = await execute(peer, "%cancel waiter\nawait trio.sleep(1)")
    assert len(by_name.text().splitlines()) == 1
    by_cell = await execute(peer, "%cancel 2\nawait trio.sleep(1)")
    assert re.fullmatch(r"cancelled #\d+ parent\ncancelled #\d+ enter database\n", by_cell.text())
    assert await tasks(peer) == "no tasks"
    assert started.message is not None
    endings = [
        one.content["text"]
        for one in peer.iopub
        if one.msg_type == "stream" and one.parent_id == started.message.parent_id
    ]
    assert sorted("".join(endings).splitlines()) == ["database ends", "waiter ends"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name a cell (3), a task (#7), or tasks by their name"),
        ("77", "nothing to cancel for '77': %tasks shows what lives"),
        ("nobody", "nothing to cancel for 'nobody': %tasks shows what lives"),
    ],
)
async def test_cancel_says_what_it_needs(peer: Peer, line: str, message: str) -> None:
    heard = await execute(peer, f"%cancel {line}")
    assert heard.reply["ename"] == "UsageError"
    assert message in heard.reply["evalue"]


async def test_a_part_of_a_task_is_cancelled_with_the_task(peer: Peer) -> None:
    await execute(peer, "nursery.start_soon(parent)")
    numbers = re.findall(r"#(\d+) (\w+)", await tasks(peer))
    (root, _), (part, _), *_ = numbers
    heard = await execute(peer, f"%cancel #{part}")
    assert f"#{part} is a part of #{root} parent" in heard.reply["evalue"]
    assert await tasks(peer) != "no tasks"


async def test_a_started_task_can_be_cancelled_too(peer: Peer) -> None:
    await execute(
        peer,
        "async def service(task_status=trio.TASK_STATUS_IGNORED):\n"
        "    task_status.started(1)\n"
        "    await trio.sleep_forever()\n"
        "await nursery.start(service)",
    )
    heard = await execute(peer, "%cancel service")
    assert "cancelled #" in heard.text()
    assert await tasks(peer) == "no tasks"
