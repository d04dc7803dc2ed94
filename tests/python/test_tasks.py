"""``%tasks`` and ``%cancel``: what lives after its cell, and how to end it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.client import Execution
from trikernel.testing import CheckedClient

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


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect(SETUP)
    return kernel_client


def bundle(execution: Execution) -> dict[str, Any]:
    assert execution.result is not None
    return execution.result


async def tasks(client: CheckedClient) -> str:
    return str(bundle(await client.expect("%tasks"))["text/plain"])


async def test_a_tree_with_cell_name_age_and_what_each_task_waits_on(client: CheckedClient) -> None:
    await client.expect("nursery.start_soon(parent)")
    await client.expect("connection = await enter(database())\nawait trio.sleep(20)")
    lines = (await tasks(client)).splitlines()
    assert [re.sub(r"#\d+", "#n", line) for line in lines] == [
        "cell    task               age     waits on",
        "In [2]  #n parent          20.0 s  its children, Cell In[1], line 12",
        "In [2]  └─ #n waiter       20.0 s  Event.wait, Cell In[1], line 7",
        "In [2]  └─ #n trio.sleep   20.0 s  sleep",
        "In [3]  #n enter database  20.0 s  sleep_forever",
    ]


async def test_html_has_the_same_content(client: CheckedClient) -> None:
    await client.expect(
        "nursery.start_soon(parent)\nnursery.start_soon(trio.sleep, 99, name='<b>')"
    )
    shown = bundle(await client.expect("%tasks"))
    cells = re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", shown["text/html"])
    assert len(cells) == 4 * 5
    assert " ".join(unescape(" ".join(cells)).split()) == " ".join(shown["text/plain"].split())
    assert "<b>" not in shown["text/html"]


async def test_it_says_so_when_there_is_none(client: CheckedClient) -> None:
    assert await tasks(client) == "no tasks"


async def test_a_cell_with_open_nurseries_shows_its_own_children(client: CheckedClient) -> None:
    execution = await client.expect(
        "async with trio.open_nursery() as mine:\n"
        "    mine.start_soon(waiter)\n"
        "    await trio.sleep(2)\n"
        "    print(get_ipython().run_line_magic('tasks', ''))\n"
        "    mine.cancel_scope.cancel()",
    )
    text = execution.stdout
    assert re.search(r"In \[2\]  #\d+ the cell +2\.0 s  running\n", text), text
    assert re.search(r"In \[2\]  └─ #\d+ waiter +2\.0 s  Event\.wait, Cell In\[1\], line 7\n", text)


async def test_cancel_takes_a_cell_a_task_or_a_name(client: CheckedClient) -> None:
    started = await client.expect("nursery.start_soon(parent)\nawait enter(database())")
    await client.expect("nursery.start_soon(waiter)\nnursery.start_soon(waiter)")
    number = re.search(r"#(\d+) waiter", (await tasks(client)).splitlines()[-1])
    assert number is not None
    one = await client.expect(f"%cancel #{number[1]}\nawait trio.sleep(1)")
    assert one.stdout == f"cancelled #{number[1]} waiter\n"
    by_name = await client.expect("%cancel waiter\nawait trio.sleep(1)")
    assert len(by_name.stdout.splitlines()) == 1
    by_cell = await client.expect("%cancel 2\nawait trio.sleep(1)")
    assert re.fullmatch(r"cancelled #\d+ parent\ncancelled #\d+ enter database\n", by_cell.stdout)
    assert await tasks(client) == "no tasks"
    assert sorted(started.stdout.splitlines()) == ["database ends", "waiter ends"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name a cell (3), a task (#7), or tasks by their name"),
        ("77", "nothing to cancel for '77': %tasks shows what lives"),
        ("nobody", "nothing to cancel for 'nobody': %tasks shows what lives"),
    ],
)
async def test_cancel_says_what_it_needs(client: CheckedClient, line: str, message: str) -> None:
    error = (await client.execute(f"%cancel {line}")).error  # IPython shows it on stderr only
    assert str(error) == f"UsageError: %cancel: {message}"


async def test_a_part_of_a_task_is_cancelled_with_the_task(client: CheckedClient) -> None:
    await client.expect("nursery.start_soon(parent)")
    numbers = re.findall(r"#(\d+) (\w+)", await tasks(client))
    (root, _), (part, _), *_ = numbers
    error = (await client.execute(f"%cancel #{part}")).error
    assert f"#{part} is a part of #{root} parent" in str(error)
    assert await tasks(client) != "no tasks"


async def test_a_started_task_can_be_cancelled_too(client: CheckedClient) -> None:
    await client.expect(
        "async def service(task_status=trio.TASK_STATUS_IGNORED):\n"
        "    task_status.started(1)\n"
        "    await trio.sleep_forever()\n"
        "await nursery.start(service)",
    )
    execution = await client.expect("%cancel service")
    assert "cancelled #" in execution.stdout
    assert await tasks(client) == "no tasks"


async def test_a_task_that_has_not_begun_yet_is_shown(kernel_client: CheckedClient) -> None:
    """A cell that is queued behind the one that started it comes before its first step."""
    first = kernel_client.start(
        "import trio\nfrom trikernel.notebook import nursery\n"
        "nursery.start_soon(trio.sleep_forever, name='watch')"
    )
    shown = await kernel_client.execute("%tasks")
    await first.wait()
    assert "In [1]  #1 watch" in shown.outputs[0]["data"]["text/plain"]
