"""Comms of any kernel: a manager of its own, ours, and ``comm.create_comm``."""

from __future__ import annotations

from typing import Any

import comm
import pytest
import trio
import trio.testing
from comm.base_comm import CommManager

from ..harness import Peer, open_peer
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


def send(peer: Peer, msg_type: str, comm_id: str = "c1", **content: Any) -> str:
    return peer.send(msg_type, {"comm_id": comm_id, "data": {}, **content})


async def until(peer: Peer, msg_type: str) -> Any:
    while (message := await peer.hear()).msg_type != msg_type:
        continue
    return message.content


async def test_a_target_of_the_kernels_own_answers() -> None:
    async with open_peer(Talking()) as peer:
        send(peer, "comm_open", target_name="echo", data={"x": 1})
        assert (await until(peer, "comm_msg"))["data"] == {"hello": {"x": 1}}
        send(peer, "comm_msg", data={"y": 2})
        assert (await until(peer, "comm_msg"))["data"] == {"echo": {"y": 2}}
        info = (await peer.ask("comm_info_request")).reply
        assert info["comms"] == {"c1": {"target_name": "echo"}}
        await peer.until_idle(send(peer, "comm_close"))
        assert (await peer.ask("comm_info_request")).reply["comms"] == {}


async def test_a_target_that_is_unknown_is_closed_at_once() -> None:
    async with open_peer(Recorder()) as peer:
        about = await peer.until_idle(send(peer, "comm_open", target_name="nobody"))
    assert [one.content["comm_id"] for one in about if one.msg_type == "comm_close"] == ["c1"]


@pytest.mark.parametrize("code", ["widget", "later"])
async def test_create_comm_makes_one_of_the_kernel_whose_code_asks(code: str) -> None:
    before = comm.create_comm
    kernel, other = Talking(), Recorder()
    async with open_peer(kernel) as peer, open_peer(other):
        await peer.execute(code)
        while not (found := [one for one in peer.iopub if one.msg_type == "comm_open"]):
            await peer.hear()
        (opened,) = found
        assert opened.content["target_name"] == "widget"
        assert opened.content["data"] == {"a": 1}
        assert list(kernel.comm_manager.comms) == [opened.content["comm_id"]]
        assert other.comm_manager.comms == {}
        comm.create_comm(target_name="of the program").close()
        heard = await peer.execute("close")
        assert heard.contents("comm_close")[0]["comm_id"] == opened.content["comm_id"]
    assert comm.create_comm is before
    assert [one for one in peer.iopub if one.msg_type == "comm_open"] == [opened]


async def test_a_task_of_the_kernel_outside_of_any_request_is_its_own() -> None:
    class Early(Talking):
        async def started(self) -> None:
            self.nursery.start_soon(self.open_one, "early")

    kernel = Early()
    async with open_peer(kernel):
        await trio.testing.wait_all_tasks_blocked()
        assert [one.target_name for one in kernel.comm_manager.comms.values()] == ["early"]


async def test_a_manager_of_an_authors_own_gets_the_messages_and_the_comms() -> None:
    kernel = Talking()
    kernel.comm_manager = manager = CommManager()
    got: list[Any] = []
    manager.register_target("own", lambda opened, message: got.append((opened, message)))
    async with open_peer(kernel) as peer:
        await peer.until_idle(send(peer, "comm_open", target_name="own", data={"z": 3}))
        ((opened, message),) = got
        assert message["content"]["data"] == {"z": 3}
        opened.on_msg(lambda message: opened.send({"back": message["content"]["data"]}))
        send(peer, "comm_msg", data={"n": 1})
        assert (await until(peer, "comm_msg"))["data"] == {"back": {"n": 1}}
        heard = await peer.execute("widget")
        assert heard.contents("comm_open")[0]["target_name"] == "widget"
        assert len(manager.comms) == 2
        assert kernel.comm_manager is manager
