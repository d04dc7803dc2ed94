"""Awaitable input, and what synchronous input says where it cannot be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from trikernel import Kernel
from trikernel.errors import PeerGone
from trikernel.testing import open_clients

from ..cells import reply_of, served
from ..conftest import Serving
from ..harness import Peer, open_peer

pytestmark = pytest.mark.seed(19)


class Asking(Kernel):
    """Awaits an answer while a sibling task counts."""

    ticks = 0

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "sync":
            return {"status": "ok", "payload": [{"answer": self.raw_input("?")}]}
        assert self.server.background is not None
        self.server.background.start_soon(self.tick)
        answer = await self.async_input("name? ", password=code == "password")
        return {"status": "ok", "payload": [{"answer": answer}]}

    async def tick(self) -> None:
        while True:
            self.ticks += 1
            await trio.sleep(0.001)


def answer(peer: Peer, content: dict[str, Any], parent: Any = None) -> None:
    peer.send("input_reply", content, channel="stdin", parent=parent)


async def question_of(peer: Peer, code: str = "x") -> Any:
    """Run a cell that asks; its question."""
    peer.send("execute_request", {"code": code, "allow_stdin": True})
    return await peer.receive("stdin")


@pytest.mark.parametrize("password", [False, True])
async def test_other_tasks_go_on_while_an_answer_is_awaited(
    serving: Serving, password: bool
) -> None:
    kernel = Asking()
    async with serving(kernel), open_peer(kernel) as peer:
        question = await question_of(peer, "password" if password else "x")
        assert question.content == {"prompt": "name? ", "password": password}
        ticks = kernel.ticks
        await trio.sleep(0.02)
        assert kernel.ticks > ticks
        answer(peer, {"value": "Ada"}, question.header)
        assert (await peer.receive()).content["payload"] == [{"answer": "Ada"}]


async def test_a_reply_without_a_parent_is_accepted_and_one_to_another_question_dropped(
    serving: Serving,
) -> None:
    kernel = Asking()
    async with serving(kernel), open_peer(kernel) as peer:
        first = await question_of(peer)
        peer.send("interrupt_request", channel="control")
        assert (await peer.receive()).content["ename"] == "KeyboardInterrupt"
        await trio.sleep(0.2)
        await question_of(peer)
        answer(peer, {"value": "late"}, first.header)
        answer(peer, {"value": "fresh"})
        assert (await peer.receive()).content["payload"] == [{"answer": "fresh"}]


@pytest.mark.parametrize(
    ("content", "outcome"),
    [({"value": "\x04"}, "EOFError"), ({}, ""), ({"value": 3}, ""), ({"value": ""}, "")],
)
async def test_odd_answers(serving: Serving, content: dict[str, Any], outcome: str) -> None:
    kernel = Asking()
    async with serving(kernel), open_peer(kernel) as peer:
        await question_of(peer)
        answer(peer, content)
        reply = (await peer.receive()).content
    if outcome:
        assert reply["ename"] == outcome
    else:
        assert reply["payload"] == [{"answer": outcome}]


async def test_garbage_on_stdin_is_dropped(serving: Serving) -> None:
    kernel = Asking()
    async with serving(kernel), open_peer(kernel) as peer:
        await question_of(peer)
        peer.send_frames([b"garbage"], channel="stdin")
        answer(peer, {"value": "ok"})
        assert (await peer.receive()).content["payload"] == [{"answer": "ok"}]
        assert kernel.server.dispatcher.rejected["delimiter"] == 1


async def test_input_is_refused_at_once_when_not_allowed(serving: Serving) -> None:
    async with serving(Asking()) as client:
        reply = reply_of(await client.execute("x"))
    assert reply["ename"] == "StdinNotImplementedError"


async def test_questions_are_asked_one_after_another(serving: Serving) -> None:
    class Twice(Asking):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            answers = []

            async def one() -> None:
                answers.append(await self.async_input())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                nursery.start_soon(one)
            return {"status": "ok", "payload": [{"answers": sorted(answers)}]}

    kernel = Twice()
    async with serving(kernel), open_peer(kernel) as peer:
        await question_of(peer)
        answer(peer, {"value": "a"})
        assert (await peer.receive("stdin")).msg_type == "input_request"
        answer(peer, {"value": "b"})
        reply = (await peer.receive()).content
    assert reply["payload"] == [{"answers": ["a", "b"]}]


async def test_synchronous_input_in_memory_says_what_to_do() -> None:

    async with served(Asking()) as client:
        reply = reply_of(await client.execute("sync", on_input=lambda *asked: "never"))
    assert reply["ename"] == "StdinUnavailable"
    assert "await the asynchronous input" in reply["evalue"]


async def test_a_client_without_stdin_is_told_apart(serving: Serving) -> None:
    kernel = Asking()
    async with serving(kernel) as client:
        transport = kernel.server.transport

        def gone(frames: Any) -> None:
            raise PeerGone("no such client")

        transport.stdin.send_nowait = gone  # type: ignore[method-assign]
        reply = reply_of(await client.execute("x", on_input=lambda *asked: "never"))
    assert reply["ename"] == "PeerGone"
    assert "no stdin channel open" in reply["evalue"]


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """More than `select.select` can count; those that are opened later have higher numbers."""
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(1100):
                stack.enter_context(open(os.devnull))
        except OSError:
            pytest.skip("this system lets a process have fewer open files")
        yield


@pytest.mark.usefixtures("many_open_files")
@pytest.mark.parametrize("code", ["x", "sync"])
async def test_a_client_that_asks_at_once_may_still_be_connecting_its_stdin(code: str) -> None:
    kernel = Asking()
    async with open_clients(kernel, over="tcp") as (client,):
        connection = kernel.server.connection
        stdin, tries, came = connection.transport.stdin, [], []

        def connects_late(frames: Any) -> None:
            tries.append(frames)
            if len(tries) < 3:
                raise PeerGone("no such client")
            came.append(connection.codec.encode("input_reply", {"value": "here"}))

        def receive(*readable: int) -> Any:
            if not came:
                raise trio.WouldBlock
            return came.pop()

        stdin.send_nowait, stdin.receive_nowait = connects_late, receive  # type: ignore[method-assign]
        reply = reply_of(await client.execute(code, on_input=lambda *asked: "never"))
    assert reply["payload"] == [{"answer": "here"}]
    assert len(tries) == 3
