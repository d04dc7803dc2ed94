"""Shutdown: verb, reply, idle, and the broadcast as the very last word."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

import trikernel
from trikernel import Kernel

from ..harness import Heard, Medium, Peer, connect, open_transport
from .kernels import Asynchronous, Recorder, Synchronous

pytestmark = pytest.mark.seed(18)


async def shut_down(
    kernel: Kernel, medium: Medium, channel: str, before: Any = None, restart: bool = False
) -> tuple[list[Any], Heard, list[Any]]:
    """Serve, shut down over ``channel``; everything iopub said, and the reply."""
    transport = open_transport(medium)
    client = connect(transport, b"me")
    try:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(
                    partial(
                        trikernel.serve,
                        kernel,
                        transport,
                        services="inline" if medium == "memory" else "thread",
                    )
                )
                peer = Peer(client, server)
                await peer.until_subscribed()
                if before is not None:
                    await before(peer)
                msg_id = peer.send("shutdown_request", {"restart": restart}, channel=channel)
                reply = await peer.receive(channel)
        replies: list[Any] = []
        with trio.move_on_after(0.3):
            while channel != "shell":
                replies.append(await peer.receive())
        with trio.move_on_after(0.3):
            while True:
                await peer.hear()
        about = [one for one in peer.iopub if one.parent_id == msg_id]
        return peer.iopub, Heard(reply, about), replies
    finally:
        client.close()
        transport.close()


@pytest.mark.parametrize("channel", ["control", "shell"])
@pytest.mark.parametrize("kernel_class", [Synchronous, Asynchronous])
async def test_reply_idle_and_the_broadcast_as_the_last_word(
    medium: Medium, kernel_class: type[Kernel], channel: str
) -> None:
    iopub, heard, _ = await shut_down(kernel_class(), medium, channel, restart=True)
    assert heard.reply == {"status": "ok", "restart": True, "by": "synchronous"}
    assert heard.types == ["status:busy", "status:idle", "shutdown_reply"]
    assert heard.contents("shutdown_reply") == [heard.reply]
    assert iopub[-1].msg_type == "shutdown_reply"


@pytest.mark.promise(8)
async def test_the_running_cell_is_stopped_and_the_queue_answered(medium: Medium) -> None:
    kernel = Recorder()
    ids: list[str] = []

    async def fill(peer: Peer) -> None:
        ids.extend(peer.send("execute_request", {"code": code}) for code in ("wait", "say x"))
        while (await peer.hear()).msg_type != "execute_input":
            continue

    iopub, heard, replies = await shut_down(kernel, medium, "control", fill)
    assert heard.reply["status"] == "ok"
    assert [one.parent_id for one in replies] == ids
    assert [one.content["status"] for one in replies] == ["aborted", "aborted"]
    for msg_id in ids:
        states = [
            one.content["execution_state"]
            for one in iopub
            if one.parent_id == msg_id and one.msg_type == "status"
        ]
        assert states == ["busy", "idle"]
    assert iopub[-1].msg_type == "shutdown_reply"
    assert kernel.ran == ["wait"]


async def test_a_verb_that_raises_does_not_keep_the_kernel_alive(
    medium: Medium, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Recorder):
        def do_shutdown(self, restart: bool) -> Any:
            raise RuntimeError("I would rather not")

    _, heard, _ = await shut_down(Stubborn(), medium, "control")
    assert heard.reply == {"status": "ok", "restart": False}
    assert "I would rather not" in caplog.text


async def test_a_verb_that_hangs_is_done_without_after_the_grace(medium: Medium) -> None:
    class Hanging(Recorder):
        async def do_shutdown(self, restart: bool) -> Any:
            await trio.sleep_forever()

    _, heard, _ = await shut_down(Hanging(shutdown_grace=0.05), medium, "control")
    assert heard.reply == {"status": "ok", "restart": False}


async def test_a_cancelled_serve_ends_without_a_last_word(medium: Medium) -> None:
    transport = open_transport(medium)
    client = connect(transport, b"me")
    try:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(
                    trikernel.serve,
                    Recorder(),
                    transport,
                    services="inline" if medium == "memory" else "thread",
                )
            )
            peer = Peer(client, server)
            await peer.execute("say x")
            msg_id = peer.send("execute_request", {"code": "wait"})
            while (await peer.hear()).content.get("code") != "wait":
                continue
            nursery.cancel_scope.cancel()
        reply = await peer.receive()
        assert reply.parent_id == msg_id
        assert reply.content["status"] == "aborted"
        await peer.until_idle(msg_id)
    finally:
        client.close()
        transport.close()
