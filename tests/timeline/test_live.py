"""``%tasks --live``: pictures while something changes, buttons that cancel, and no end of rest."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.testing import CheckedClient
from trikernel.wire import Message

SETUP = """\
import trio
from trikernel.notebook import nursery

async def crawl():
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep_forever, name="<b>page")
        inner.start_soon(trio.sleep_forever)
"""


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect(SETUP)
    return kernel_client


Messages = trio.MemoryReceiveChannel[Message]


@pytest.fixture
async def messages(client: CheckedClient) -> AsyncIterator[Messages]:
    with client.subscribe() as channel:
        yield channel


def drain(messages: Messages) -> list[Message]:
    found = []
    while True:
        try:
            found.append(messages.receive_nowait())
        except trio.WouldBlock:
            return found


def shown(messages: Messages) -> list[dict[str, Any]]:
    return [one.content["data"] for one in drain(messages) if "display" in one.msg_type]


async def test_the_tree_is_shown_anew_when_a_task_comes_and_goes(
    client: CheckedClient, messages: Messages
) -> None:
    await client.expect("%tasks --live")
    assert shown(messages)[0]["text/plain"].startswith("no tasks")
    await client.expect("nursery.start_soon(crawl)\nawait trio.sleep(1)")
    text = shown(messages)[-1]
    assert "└─ nursery of 2" in text["text/plain"]
    assert "&lt;b&gt;page" in text["text/html"]
    assert "<b>page" not in text["text/html"]
    await client.expect("%cancel crawl\nawait trio.sleep(1)")
    await trio.sleep(1)
    assert shown(messages)[-1]["text/plain"].startswith("no tasks")


async def test_at_rest_it_stands_still(client: CheckedClient, messages: Messages) -> None:
    await client.expect("nursery.start_soon(crawl)\n%tasks --live")
    await trio.sleep(200)
    assert len(shown(messages)) > 40  # ages, for a minute
    await trio.sleep(10_000)
    assert shown(messages) == []
    await client.expect("nursery.start_soon(trio.sleep, 1)")
    await trio.sleep(5)
    assert len(shown(messages)) >= 3  # it has come, and gone


async def test_a_new_panel_replaces_the_last_and_stop_ends_it(
    client: CheckedClient, messages: Messages
) -> None:
    await client.expect("%tasks --live")
    await client.expect("%tasks --live --plain")
    drain(messages)
    await client.expect("nursery.start_soon(trio.sleep, 1)")
    await trio.sleep(5)
    first, *later = [one for one in drain(messages) if one.msg_type == "update_display_data"]
    assert {one.content["transient"]["display_id"] for one in later} == {
        first.content["transient"]["display_id"]
    }
    await client.expect("%tasks --stop")
    await client.expect("nursery.start_soon(trio.sleep, 1)")
    await trio.sleep(5)
    assert shown(messages) == []
    error = (await client.execute("%tasks --nonsense", stop_on_error=False)).error
    assert "takes --live" in str(error)


async def test_no_more_than_four_pictures_a_second(
    client: CheckedClient, messages: Messages
) -> None:
    await client.expect("%tasks --live")
    drain(messages)
    await client.expect("for _ in range(100):\n    nursery.start_soon(trio.sleep, .5)\n"
                        "    await trio.sleep(.01)")  # fmt: skip
    assert 3 <= len(shown(messages)) <= 6


async def test_a_thousand_tasks_are_a_hundred_rows_and_a_number(
    client: CheckedClient, messages: Messages
) -> None:
    await client.expect("for _ in range(1_500):\n    nursery.start_soon(trio.sleep_forever)")
    await client.expect("%tasks --live")
    text = shown(messages)[0]["text/plain"]
    assert len(text.splitlines()) == 103
    assert "... and 1,400 more" in text
    tree = (await client.expect("%tasks")).result
    assert tree is not None
    assert "... and 500 more" in tree["text/plain"]
    await client.expect("nursery.cancel_scope.cancel()")


# With widgets


class Page:
    """What a frontend would know of the widgets, by what the kernel has said."""

    def __init__(self, client: CheckedClient) -> None:
        self._client = client
        self._states: dict[str, dict[str, Any]] = {}

    def hear(self, messages: list[Message]) -> None:
        for message in messages:
            content = message.content
            if message.msg_type in ("comm_open", "comm_msg"):
                state = content["data"].get("state", {})
                self._states.setdefault(content["comm_id"], {}).update(state)

    def buttons(self) -> list[tuple[str, str, bool]]:
        """Comm, tooltip, and whether it is seen, of the rows that are shown."""
        (box,) = (one for one in self._states.values() if one.get("_model_name") == "VBoxModel")
        found = []
        for row in map(self._get, box["children"]):
            for child in row.get("children", ()):
                button = self._get(child)
                if button["_model_name"] == "ButtonModel" and button.get("tooltip"):
                    layout = self._get(button["layout"])
                    is_seen = layout.get("visibility") == "visible"
                    found.append((child.removeprefix("IPY_MODEL_"), button["tooltip"], is_seen))
        return found

    def _get(self, model: str) -> dict[str, Any]:
        return self._states[model.removeprefix("IPY_MODEL_")]

    async def press(self, tooltip: str) -> None:
        (comm,) = (comm for comm, tip, is_seen in self.buttons() if is_seen and tip == tooltip)
        data = {"method": "custom", "content": {"event": "click"}}
        self._client.send("comm_msg", {"comm_id": comm, "data": data})
        await trio.sleep(2)


async def test_buttons_cancel_a_nursery_a_task_and_a_cell(
    client: CheckedClient, messages: Messages
) -> None:
    pytest.importorskip("ipywidgets")
    await client.comm_info("jupyter.widget")
    await client.expect("nursery.start_soon(crawl)\nnursery.start_soon(trio.sleep_forever)")
    await client.expect("%tasks --live")
    page = Page(client)
    cell = client.start("await trio.sleep_forever()", stop_on_error=False)
    await trio.sleep(2)
    heard = drain(messages)
    page.hear(heard)
    (display,) = (one for one in heard if one.msg_type == "display_data")
    assert "└─ nursery of 2" in display.content["data"]["text/plain"]  # of a saved notebook
    seen = [tip for _, tip, is_seen in page.buttons() if is_seen]
    assert len(seen) == 4  # the cell, two tasks, a nursery
    assert len(page.buttons()) == 6
    await page.press(next(tip for tip in seen if "nursery" in tip))
    page.hear(drain(messages))
    assert [tip for _, tip, _ in page.buttons() if "nursery" in tip] == []
    await page.press([tip for _, tip, _ in page.buttons() if tip.startswith("cancel #")][-1])
    page.hear(drain(messages))
    assert [tip for _, tip, _ in page.buttons()] == ["interrupt the cell"]
    await page.press("interrupt the cell")
    assert str(cell.error) == "KeyboardInterrupt"
    await client.expect("1 + 1", result=2)


async def test_a_click_on_a_row_that_has_just_moved_cancels_nothing(
    client: CheckedClient, messages: Messages
) -> None:
    pytest.importorskip("ipywidgets")
    await client.comm_info("jupyter.widget")
    names = itertools.product("ab", "12")
    code = "".join(f"nursery.start_soon(trio.sleep_forever, name='{a}{b}')\n" for a, b in names)
    await client.expect(code)
    await client.expect("%tasks --live")
    await trio.sleep(2)
    page = Page(client)
    page.hear(drain(messages))
    comm, tip, _ = page.buttons()[0]
    await client.expect("%cancel a1\nawait trio.sleep(.3)")
    data = {"method": "custom", "content": {"event": "click"}}
    client.send("comm_msg", {"comm_id": comm, "data": data})
    await trio.sleep(2)
    assert tip.startswith("cancel #")
    tree = (await client.expect("%tasks")).result
    assert tree is not None
    assert all(name in tree["text/plain"] for name in ("a2", "b1", "b2"))
    await client.expect("nursery.cancel_scope.cancel()")


async def test_a_click_on_a_task_that_has_just_ended_says_so(
    client: CheckedClient, messages: Messages
) -> None:
    pytest.importorskip("ipywidgets")
    await client.comm_info("jupyter.widget")
    at = trio.current_time() + 5  # the panel is updated then, and not within 0.25 s after that
    await client.expect(
        "over = trio.Event()\nnursery.start_soon(over.wait, name='one')\n"
        f"async def later():\n    await trio.sleep_until({at})\n"
        "    nursery.start_soon(trio.sleep_forever, name='two')\n"
        "    await trio.sleep(0.1)\n    over.set()\n    await trio.sleep_forever()\n"
        "nursery.start_soon(later)\n"
    )
    await client.expect("%tasks --live")
    await trio.sleep(2)
    page = Page(client)
    page.hear(drain(messages))
    comm, _, _ = page.buttons()[0]
    await trio.sleep_until(at + 0.2)
    data = {"method": "custom", "content": {"event": "click"}}
    client.send("comm_msg", {"comm_id": comm, "data": data})
    await trio.sleep(2)
    said = [str(one.content["data"]) for one in drain(messages) if one.msg_type == "comm_msg"]
    assert any("one has ended already" in text for text in said)
    await client.expect("nursery.cancel_scope.cancel()")
