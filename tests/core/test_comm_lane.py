"""Comm messages: beside the running cell, in order within a comm, never overtaken by a cell."""

from __future__ import annotations

from typing import Any

import trio

from trikernel.client import Execution
from trikernel.testing import CheckedClient, message_types

from ..cells import ask, reply_of
from ..conftest import Serving
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


def send(client: CheckedClient, comm_id: str, n: int, **data: Any) -> Execution:
    return client.send("comm_msg", {"comm_id": comm_id, "data": {"n": n, **data}})


async def test_a_cell_starts_after_every_earlier_comm_message_has_started(
    serving: Serving,
) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as client:
        for number in range(5):
            send(client, f"c{number}", number)
        await client.execute("say x")
    assert kernel.ran[-1] == "say x"
    assert sorted(kernel.ran[:-1]) == [f"c{number} {number}" for number in range(5)]


async def test_messages_of_one_comm_keep_their_order_others_go_beside(serving: Serving) -> None:
    kernel, manager = kernel_with_comms()
    async with serving(kernel) as client:
        send(client, "a", 1, hold=True)
        send(client, "b", 1)
        last = send(client, "a", 2)
        await trio.sleep(0.05)
        assert sorted(kernel.ran) == ["a 1", "b 1"]
        manager.go.set()
        await last.wait()
        assert kernel.ran.index("a 1") < kernel.ran.index("a 2")


async def test_a_handler_that_fails_is_logged_and_goes_idle(serving: Serving, caplog: Any) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as client:
        handled = await send(client, "a", 1, fail=True).wait()
        assert message_types(handled) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).stdout == "on"
    assert "handler failed" in caplog.text


async def test_an_interrupt_frees_a_cell_that_a_hanging_handler_holds_up(
    serving: Serving,
) -> None:
    kernel, _ = kernel_with_comms()
    async with serving(kernel) as client:
        send(client, "a", 1, hold=True)
        send(client, "a", 2)
        heard = client.start("say x", stop_on_error=False)
        await trio.sleep(0.05)
        assert kernel.ran == ["a 1"]
        await ask(client, "interrupt_request", channel="control")
        await heard.wait()
        assert reply_of(heard)["ename"] == "KeyboardInterrupt"
        assert (await client.execute("say on")).stdout == "on"
    assert kernel.ran == ["a 1", "a 2", "say on"]
