"""``tasks_request``: which tasks live, over control, whatever the kernel does."""

from __future__ import annotations

import trio
import trio.testing

from trikernel import Kernel
from trikernel.testing import CheckedClient, open_memory_client
from trikernel.timeline import TaskTree

from ..cells import ask, reply_of


async def test_it_tells_what_tasks_shows(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> None:
    await kernel_client.expect(
        "import trio\nfrom trikernel.notebook import nursery\n"
        "nursery.start_soon(trio.sleep_forever, name='\\x1b[2Jwatch')\nawait trio.sleep(3)"
    )
    content = reply_of(await ask(kernel_client, "tasks_request", channel="control"))
    (task,) = content["tasks"]
    assert content["more"] == 0
    assert task["name"] == "\\x1b[2Jwatch"
    assert (task["origin"], task["cell"], task["depth"], task["age"]) == ("In [1]", 1, 0, 3.0)
    assert task["waits_on"] == "sleep_forever"
    assert "watch" in str(TaskTree.from_content(content))


async def test_a_kernel_of_any_language_tells_its_background_tasks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel = Kernel()
    async with open_memory_client(kernel) as client:
        kernel.nursery.start_soon(trio.sleep, 50, name="mine")
        await trio.testing.wait_all_tasks_blocked()
        content = reply_of(await ask(client, "tasks_request", channel="control"))
    assert [one["name"] for one in content["tasks"]] == ["mine"]


def test_what_another_kernel_says_does_not_reach_a_terminal() -> None:
    row = {"number": 1, "cell": None, "origin": "\x1b[2J", "depth": 0, "age": 1.0}
    tree = TaskTree.from_content({"tasks": [{**row, "name": "\x07", "waits_on": "\n"}], "more": 0})
    assert "\x1b" not in str(tree)
    assert "\x07" not in str(tree)
    assert len(str(tree).splitlines()) == 2
