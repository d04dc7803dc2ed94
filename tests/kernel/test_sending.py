"""`send_response` and its relatives: to whom, about what, from where."""

from __future__ import annotations

import datetime
import threading
from functools import partial
from typing import Any

import pytest
import trio

import trikernel
from trikernel import Kernel
from trikernel.testing import message_types

from ..cells import Cells, ask, contents, reply_of, served, so_far, until_input
from ..conftest import Serving
from ..harness import open_peer
from .kernels import Recorder


class Speaker(Kernel):
    """Calls the test's function as its ``do_execute``."""

    def __init__(self, function: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.function = function

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        result = self.function(self)
        if result is not None and hasattr(result, "__await__"):
            result = await result
        return result


@pytest.mark.seed(20)
async def test_a_response_on_iopub_has_the_requests_header_as_parent(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        kernel.send_response(kernel.iopub_socket, "display_data", {"data": {"text/plain": "x"}})

    kernel = Speaker(speak)
    async with serving(kernel) as client:
        heard = await client.execute("x")
        assert contents(heard, "display_data") == [{"data": {"text/plain": "x"}, "metadata": {}}]
        assert heard.reply is not None
        shown = next(one for one in heard.messages if one.msg_type == "display_data")
        assert shown.parent_header == heard.reply.parent_header
        assert shown.header.session == kernel.server.connection.codec.session


@pytest.mark.seed(20)
async def test_metadata_buffers_topic_and_header_are_the_callers(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        kernel.send_response(
            kernel.iopub_socket,
            "custom",
            {"a": 1},
            ident=b"my-topic",
            buffers=[b"xyz", b"abc"],
            metadata={"m": 1},
            header={"msg_id": "my-id", "msg_type": "custom"},
            track=True,
        )

    async with serving(Speaker(speak)) as client:
        heard = await client.execute("x")
        (message,) = [one for one in heard.messages if one.msg_type == "custom"]
    assert message.identities == [b"my-topic"]
    assert [bytes(one) for one in message.buffers] == [b"xyz", b"abc"]
    assert message.metadata == {"m": 1}
    assert message.msg_id == "my-id"


@pytest.mark.seed(20, 32)
async def test_a_message_of_the_session_can_be_sent(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        message = kernel.session.msg("stream", {"name": "stdout", "text": "whole"})
        kernel.send_response(kernel.iopub_socket, message)
        kernel.session.send(
            kernel.iopub_socket,
            "stream",
            {"name": "stdout", "text": "by session"},
            parent=kernel.get_parent(),
        )

    kernel = Speaker(speak)
    async with serving(kernel) as client:
        heard = await client.execute("x")
        assert heard.stdout == "wholeby session"
        session = kernel.server.connection.codec.session
        assert {one.header.session for one in heard.messages} == {session}
        assert {one.header.version for one in heard.messages} == {"5.6"}


@pytest.mark.seed(20)
@pytest.mark.parametrize("kind", ["thread", "task"])
async def test_threads_and_tasks_speak_under_their_own_cell(serving: Serving, kind: str) -> None:
    async def speak(kernel: Kernel) -> None:
        def say(text: str) -> None:
            content = {"name": "stdout", "text": text}
            kernel.send_response(kernel.iopub_socket, "stream", content)

        async def say_async(text: str) -> None:
            say(text)

        if kind == "thread":
            thread = threading.Thread(target=say, args=("a",))
            thread.start()
            thread.join()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say_async, "a")

    async with serving(Speaker(speak)) as client:
        for _ in range(5):
            assert (await client.execute("x")).stdout == "a"


@pytest.mark.seed(20)
async def test_a_trio_worker_thread_speaks_under_its_cell() -> None:
    async def speak(kernel: Kernel) -> None:
        content = {"name": "stdout", "text": "a"}
        say = partial(kernel.send_response, kernel.iopub_socket, "stream", content)
        await trio.to_thread.run_sync(say)

    async with served(Speaker(speak), "tcp") as client:
        for _ in range(5):
            assert (await client.execute("x")).stdout == "a"


@pytest.mark.seed(20)
async def test_many_threads_lose_and_tear_nothing(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        def say(name: int) -> None:
            for number in range(200):
                content = {"n": [name, number]}
                kernel.send_response(kernel.iopub_socket, "custom", content, buffers=[b"x" * 9])

        threads = [threading.Thread(target=say, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async with serving(Speaker(speak)) as client:
        said = [one["n"] for one in contents(await client.execute("x"), "custom")]
    assert len(said) == 8 * 200
    for name in range(8):
        assert [number for who, number in said if who == name] == list(range(200))


@pytest.mark.seed(20)
async def test_a_response_on_another_channel_goes_to_the_asking_client(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        kernel.send_response(kernel.shell_stream, "extra_reply", {"x": 1})

    kernel = Speaker(speak)
    async with serving(kernel), open_peer(kernel) as peer:
        msg_id = peer.send("execute_request", {"code": "x"})
        extra, reply = await peer.receive(), await peer.receive()
    assert (extra.msg_type, extra.content, extra.parent_id) == ("extra_reply", {"x": 1}, msg_id)
    assert reply.msg_type == "execute_reply"


@pytest.mark.seed(27)
async def test_what_json_cannot_say_never_stops_a_send(serving: Serving) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    def speak(kernel: Kernel) -> Any:
        data = {
            "nan": float("nan"),
            "bytes": b"abc",
            "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
            "set": {1},
            "odd": Odd(),
            "surrogate": "\ud800",
            3: 2**70,
        }
        kernel.send_response(kernel.iopub_socket, "display_data", {"data": data})
        return {"status": "ok", "payload": [data]}

    async with serving(Speaker(speak)) as client:
        heard = await client.execute("x")
    expected = {
        "nan": None,
        "bytes": "YWJj",
        "date": "2026-01-02T00:00:00+00:00",
        "set": [1],
        "odd": "<unprintable Odd object>",
        "surrogate": "\ud800",
        "3": 2**70,
    }
    assert contents(heard, "display_data") == [{"data": expected, "metadata": {}}]
    assert reply_of(heard)["payload"] == [expected]


@pytest.mark.seed(32)
async def test_the_names_that_subclasses_use_are_there(serving: Serving) -> None:
    seen: dict[str, Any] = {}

    def speak(kernel: Kernel) -> None:
        seen["parent"] = kernel._parent_header["header"]["msg_type"]
        seen["ident"] = kernel._parent_ident["shell"]
        seen["topic"] = kernel._topic("x")
        seen["info"] = kernel.kernel_info["implementation"]
        seen["instance"] = type(kernel).instance() is kernel
        seen["log"] = kernel.log.name
        kernel._publish_status("busy", kernel.get_parent())
        kernel._publish_status("idle")

    kernel = Speaker(speak)
    async with serving(kernel), open_peer(kernel, b"me") as peer:
        msg_id = peer.send("execute_request", {"code": "x"})
        await peer.receive()
        about: list[Any] = []
        while sum(one.content.get("execution_state") == "idle" for one in about) < 2:
            message = await peer.receive("iopub")
            if message.parent_id == msg_id:
                about.append(message)
    states = [one.content["execution_state"] for one in about if one.msg_type == "status"]
    assert states == ["busy", "busy", "idle", "idle"]
    assert seen == {
        "parent": "execute_request",
        "ident": [b"me"],
        "topic": f"kernel.{kernel.ident}.x".encode(),
        "info": "trikernel",
        "instance": True,
        "log": "trikernel",
    }


@pytest.mark.seed(32)
async def test_set_parent_changes_what_a_task_speaks_about(serving: Serving) -> None:
    def speak(kernel: Kernel) -> None:
        parent = {"header": {"msg_id": "other", "msg_type": "x", "session": "s"}}
        kernel.set_parent([b"who"], parent)
        kernel.send_response(kernel.iopub_socket, "custom", {"a": 1})

    async with serving(Speaker(speak)) as client:
        with client.subscribe() as messages:
            await client.execute("x")
            (custom,) = [one for one in so_far(messages) if one.msg_type == "custom"]
        assert custom.parent_header == {"msg_id": "other", "msg_type": "x", "session": "s"}
        assert message_types(await client.execute("y"))[-1] == "status:idle"


@pytest.mark.seed(32)
async def test_scheduled_calls_run_in_their_turn(serving: Serving) -> None:
    class Scheduling(Recorder):
        async def later(self, word: str) -> None:
            self.ran.append(word)

        def broken(self) -> None:
            raise RuntimeError("scheduled and broken")

    kernel = Scheduling()
    async with serving(kernel) as client:
        cells = Cells(client, "wait", "say cell")
        await until_input(cells.sent[0])
        kernel.schedule_dispatch(20, kernel.later, "last")
        kernel.schedule_dispatch(1, kernel.later, "first")
        thread = threading.Thread(target=kernel.schedule_dispatch, args=(1, kernel.broken))
        thread.start()
        thread.join()
        kernel.released.set()
        assert await cells.statuses() == ["ok", "ok"]
        assert (await ask(client, "is_complete_request", {"code": ""})).status == "unknown"
        with trio.fail_after(10):
            while "last" not in kernel.ran:
                await trio.lowlevel.checkpoint()
    assert kernel.ran == ["wait", "first", "say cell", "last"]


def test_instance_makes_one_and_keeps_it() -> None:
    class Mine(Kernel):
        pass

    assert Mine.instance() is Mine.instance()
    assert isinstance(Mine.instance(), Mine)


async def test_a_kernel_is_served_once_at_a_time(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel):
        with pytest.raises(trikernel.errors.TrikernelError, match="served already"):
            await trikernel.serve(kernel, trikernel.MemoryTransport(), services="inline")
    async with serving(kernel) as client:
        assert (await client.execute("say again")).stdout == "again"


async def test_a_kernel_that_owns_its_process_needs_a_service_thread() -> None:
    with pytest.raises(ValueError, match="needs services='thread'"):
        await trikernel.serve(
            Recorder(), trikernel.MemoryTransport(), services="inline", owns_process=True
        )
