"""Shutdown: verb, reply, idle, and the broadcast as the very last word."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from trikernel import Kernel, current_request
from trikernel.wire import Message

from ..cells import Medium, served
from ..harness import Peer, connect, open_transport, served_on
from .kernels import Asynchronous, Recorder, Synchronous

pytestmark = pytest.mark.seed(18)


@frozen
class Heard:
    """All that a peer heard: the reply to its shutdown, other replies, and iopub to its end."""

    msg_id: str
    reply: dict[str, Any]
    replies: list[Message]
    iopub: list[Message]

    def about(self, msg_id: str) -> list[str]:
        """What iopub said about a request."""
        return [
            f"status:{one.content['execution_state']}" if one.msg_type == "status" else one.msg_type
            for one in self.iopub
            if one.parent_id == msg_id
        ]


async def shut_down(
    kernel: Kernel, medium: Medium, channel: str, before: Any = None, restart: bool = False
) -> Heard:
    """Serve, shut down over ``channel``, and hear what is there to be read when all has ended.

    By a peer: a client takes the broadcast for the kernel's end, and hears nothing after it.
    """
    transport = open_transport(medium)
    with closing(transport), closing(connect(transport, b"me")) as connection:
        peer = Peer(connection)
        async with served_on(transport, kernel, to_the_end=True):
            await peer.until_subscribed()
            if before is not None:
                await before(peer)
            msg_id = peer.send("shutdown_request", {"restart": restart}, channel=channel)
            reply = await peer.receive(channel)
        assert reply.parent_id == msg_id
        replies: list[Message] = []
        with trio.move_on_after(0.3):
            while channel != "shell":
                replies.append(await peer.receive())
        with trio.move_on_after(0.3):
            while True:
                await peer.receive("iopub")
    return Heard(msg_id, dict(reply.content), replies, peer.iopub)


@pytest.mark.parametrize("channel", ["control", "shell"])
@pytest.mark.parametrize("kernel_class", [Synchronous, Asynchronous])
async def test_reply_idle_and_the_broadcast_as_the_last_word(
    medium: Medium, kernel_class: type[Kernel], channel: str
) -> None:
    heard = await shut_down(kernel_class(), medium, channel, restart=True)
    assert heard.reply == {"status": "ok", "restart": True, "by": "synchronous"}
    assert heard.about(heard.msg_id) == ["status:busy", "status:idle", "shutdown_reply"]
    assert heard.iopub[-1].msg_type == "shutdown_reply"
    assert heard.iopub[-1].content == heard.reply


@pytest.mark.promise(8)
async def test_the_running_cell_is_stopped_and_the_queue_answered(medium: Medium) -> None:
    kernel = Recorder()
    ids: list[str] = []

    async def fill(peer: Peer) -> None:
        ids.extend(peer.send("execute_request", {"code": code}) for code in ("wait", "say x"))
        while (await peer.receive("iopub")).msg_type != "execute_input":
            continue

    heard = await shut_down(kernel, medium, "control", fill)
    assert heard.reply["status"] == "ok"
    assert [one.parent_id for one in heard.replies] == ids
    assert [one.content["status"] for one in heard.replies] == ["aborted", "aborted"]
    for msg_id in ids:
        states = [one for one in heard.about(msg_id) if one.startswith("status:")]
        assert states == ["status:busy", "status:idle"]
    assert heard.iopub[-1].msg_type == "shutdown_reply"
    assert kernel.ran == ["wait"]


async def test_a_verb_that_raises_does_not_keep_the_kernel_alive(
    medium: Medium, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Recorder):
        def do_shutdown(self, restart: bool) -> Any:
            raise RuntimeError("I would rather not")

    heard = await shut_down(Stubborn(), medium, "control")
    assert heard.reply == {"status": "ok", "restart": False}
    assert "I would rather not" in caplog.text


async def test_a_verb_that_hangs_is_done_without_after_the_grace(medium: Medium) -> None:
    class Hanging(Recorder):
        async def do_shutdown(self, restart: bool) -> Any:
            await trio.sleep_forever()

    heard = await shut_down(Hanging(shutdown_grace=0.05), medium, "control")
    assert heard.reply == {"status": "ok", "restart": False}


async def test_a_cancelled_serve_ends_without_a_last_word(medium: Medium) -> None:
    transport = open_transport(medium)
    with closing(transport), closing(connect(transport, b"me")) as connection:
        peer = Peer(connection)
        with trio.CancelScope() as scope:
            async with served_on(transport, Recorder()):
                await peer.until_subscribed()
                msg_id = peer.send("execute_request", {"code": "say x"})
                assert (await peer.receive()).parent_id == msg_id
                await peer.until_idle(msg_id)
                msg_id = peer.send("execute_request", {"code": "wait"})
                while (await peer.receive("iopub")).content.get("code") != "wait":
                    continue
                scope.cancel()
        reply = await peer.receive()
        assert reply.parent_id == msg_id
        assert reply.content["status"] == "aborted"
        await peer.until_idle(msg_id)


class Lingering(Recorder):
    """Lets the lane go on, and cleans up for a while when it is stopped."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        request = current_request.get()
        assert request is not None
        self.server.lane.let_go_on(request, self.server.cells)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(float(code))


class EndOfSteps(trio.abc.Instrument):
    """Cancels ``scope`` after many steps: in a loop that never waits no virtual time passes."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.steps_left = 10_000

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            self.scope.cancel()


@pytest.mark.parametrize("seconds", [0.1, 5.0])
async def test_the_end_of_what_awaits_beside_the_lane_is_waited_for_without_a_busy_loop(
    seconds: float, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    with trio.CancelScope() as scope:
        end_of_steps = EndOfSteps(scope)
        trio.lowlevel.add_instrument(end_of_steps)
        async with served(Lingering()) as client:
            await client.start(str(seconds)).wait_started()
            await client.shutdown()
        trio.lowlevel.remove_instrument(end_of_steps)
    assert not scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(seconds, abs=1.5)
