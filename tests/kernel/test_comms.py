"""Comms of any kernel: a manager of its own, ours, and ``comm.create_comm``."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import comm
import pytest
import trio
import trio.testing
from comm.base_comm import CommManager

from trikernel.client import Execution
from trikernel.testing import CheckedClient
from trikernel.wire import Message

from ..cells import ask, contents, reply_of, served, so_far
from .kernels import Recorder

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Talking(Recorder):
    """Serves a target, and opens comms by a cell that names one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.comm_manager.register_target("echo", self.open_echo)
        self.opened: Any = None

    def open_echo(self, opened: Any, message: Any) -> None:
        async def answer(message: Any) -> None:
            await trio.sleep(1)
            opened.send({"echo": message["content"]["data"]})

        opened.on_msg(answer)
        opened.send({"hello": message["content"]["data"]})

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "later":
            self.nursery.start_soon(self.open_one, "widget")
        elif code == "close":
            self.opened.close()
        else:
            await self.open_one(code)

    async def open_one(self, name: str) -> None:
        self.opened = comm.create_comm(target_name=name, data={"a": 1})


def send(client: CheckedClient, msg_type: str, comm_id: str = "c1", **content: Any) -> Execution:
    return client.send(msg_type, {"comm_id": comm_id, "data": {}, **content})


async def until(messages: trio.MemoryReceiveChannel[Message], msg_type: str) -> Any:
    """The content of the next message of a type."""
    while (message := await messages.receive()).msg_type != msg_type:
        continue
    return message.content


async def test_a_target_of_the_kernels_own_answers() -> None:
    async with served(Talking()) as client:
        with client.subscribe() as messages:
            send(client, "comm_open", target_name="echo", data={"x": 1})
            assert (await until(messages, "comm_msg"))["data"] == {"hello": {"x": 1}}
            send(client, "comm_msg", data={"y": 2})
            assert (await until(messages, "comm_msg"))["data"] == {"echo": {"y": 2}}
        info = reply_of(await ask(client, "comm_info_request"))
        assert info["comms"] == {"c1": {"target_name": "echo"}}
        await send(client, "comm_close").wait()
        assert reply_of(await ask(client, "comm_info_request"))["comms"] == {}


async def test_what_follows_a_message_follows_the_body_of_an_async_handler() -> None:
    kernel, happened = Talking(), list[str]()
    kernel.comm_manager.note = happened.append

    def open_target(opened: Any, message: Any) -> None:
        async def answer(message: Any) -> None:
            await trio.sleep(1)
            happened.append("handled")

        opened.on_msg(answer)

    kernel.comm_manager.register_target("slow", open_target)
    async with served(kernel) as client:
        await send(client, "comm_open", target_name="slow").wait()
        await send(client, "comm_msg").wait()
    assert happened == ["pre_execute", "handled", "post_execute"]


async def test_a_target_that_is_unknown_is_closed_at_once() -> None:
    async with served(Recorder()) as client:
        opened = await send(client, "comm_open", target_name="nobody").wait()
    assert [one["comm_id"] for one in contents(opened, "comm_close")] == ["c1"]


@pytest.mark.parametrize("code", ["widget", "later"])
async def test_create_comm_makes_one_of_the_kernel_whose_code_asks(code: str) -> None:
    before = comm.create_comm
    kernel, other = Talking(), Recorder()
    async with served(kernel) as client, served(other), AsyncExitStack() as stack:
        messages = stack.enter_context(client.subscribe())
        await client.execute(code)
        opened = await until(messages, "comm_open")
        assert opened["target_name"] == "widget"
        assert opened["data"] == {"a": 1}
        assert list(kernel.comm_manager.comms) == [opened["comm_id"]]
        assert other.comm_manager.comms == {}
        comm.create_comm(target_name="of the program").close()
        heard = await client.execute("close")
        assert contents(heard, "comm_close")[0]["comm_id"] == opened["comm_id"]
        assert [one for one in so_far(messages) if one.msg_type == "comm_open"] == []
    assert comm.create_comm is before


async def test_a_task_of_the_kernel_outside_of_any_request_is_its_own() -> None:
    class Early(Talking):
        async def started(self) -> None:
            self.nursery.start_soon(self.open_one, "early")

    kernel = Early()
    async with served(kernel):
        await trio.testing.wait_all_tasks_blocked()
        assert [one.target_name for one in kernel.comm_manager.comms.values()] == ["early"]


async def test_a_manager_of_an_authors_own_gets_the_messages_and_the_comms() -> None:
    kernel = Talking()
    kernel.comm_manager = manager = CommManager()
    got: list[Any] = []
    manager.register_target("own", lambda opened, message: got.append((opened, message)))
    async with served(kernel) as client:
        await send(client, "comm_open", target_name="own", data={"z": 3}).wait()
        ((opened, message),) = got
        assert message["content"]["data"] == {"z": 3}
        opened.on_msg(lambda message: opened.send({"back": message["content"]["data"]}))
        answered = await send(client, "comm_msg", data={"n": 1}).wait()
        assert contents(answered, "comm_msg")[0]["data"] == {"back": {"n": 1}}
        heard = await client.execute("widget")
        assert contents(heard, "comm_open")[0]["target_name"] == "widget"
        assert len(manager.comms) == 2
        assert kernel.comm_manager is manager
