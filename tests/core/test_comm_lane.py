"""Comm messages: beside the running cell, in order within a comm, never overtaken by a cell."""

from __future__ import annotations

from typing import Any

import trio

from ..conftest import Serving
from ..harness import Heard, Peer
from ..kernel.kernels import Recorder


class Manager:
    """A comm manager whose handlers the test holds back."""

    def __init__(self, kernel: Recorder) -> None:
        self.kernel = kernel
        self.comms: dict[str, Any] = {}
        self.go = trio.Event()

    async def comm_open(self, stream: Any, ident: Any, message: Any) -> None:
        self.kernel.ran.append(f"open {message['content']['comm_id']}")

    async def comm_msg(self, stream: Any, ident: Any, message: Any) -> None:
        content = message["content"]
        self.kernel.ran.append(f"{content['comm_id']} {content['data']['n']}")
        if content["data"].get("hold"):
            await self.go.wait()
        if content["data"].get("fail"):
            raise RuntimeError("handler failed")


def kernel_with_comms() -> tuple[Recorder, Manager]:
    kernel = Recorder()
    manager = Manager(kernel)
    kernel.comm_manager = manager
    return kernel, manager


def send(peer: Peer, comm_id: str, n: int, **data: Any) -> str:
    return peer.send("comm_msg", {"comm_id": comm_id, "data": {"n": n, **data}})


async def test_a_cell_starts_after_every_earlier_comm_message_has_started(
    serving: Serving,
) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as peer:
        for number in range(5):
            send(peer, f"c{number}", number)
        await peer.execute("say x")
    assert kernel.ran[-1] == "say x"
    assert sorted(kernel.ran[:-1]) == [f"c{number} {number}" for number in range(5)]


async def test_messages_of_one_comm_keep_their_order_others_go_beside(serving: Serving) -> None:
    kernel, manager = kernel_with_comms()
    async with serving(kernel) as peer:
        send(peer, "a", 1, hold=True)
        send(peer, "b", 1)
        last = send(peer, "a", 2)
        await trio.sleep(0.05)
        assert sorted(kernel.ran) == ["a 1", "b 1"]
        manager.go.set()
        await peer.until_idle(last)
        assert kernel.ran.index("a 1") < kernel.ran.index("a 2")


async def test_a_handler_that_fails_is_logged_and_goes_idle(serving: Serving, caplog: Any) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as peer:
        about = await peer.until_idle(send(peer, "a", 1, fail=True))
        assert [one.msg_type for one in about] == ["status", "status"]
        assert (await peer.execute("say on")).text() == "on"
    assert "handler failed" in caplog.text


async def test_an_interrupt_frees_a_cell_that_a_hanging_handler_holds_up(
    serving: Serving,
) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as peer:
        send(peer, "a", 1, hold=True)
        send(peer, "a", 2)
        msg_id = peer.send("execute_request", {"code": "say x", "stop_on_error": False})
        await trio.sleep(0.05)
        assert kernel.ran == ["a 1"]
        await peer.ask("interrupt_request", channel="control")
        heard = Heard(await peer.receive(), await peer.until_idle(msg_id))
        assert heard.reply["ename"] == "KeyboardInterrupt"
        assert (await peer.execute("say on")).text() == "on"
    assert kernel.ran == ["a 1", "a 2", "say on"]
