"""Busy, handler, output, reply, idle: the order of every answer, and who is served when."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import pytest
import trio
import zmq
from zmq.utils.monitor import recv_monitor_message

import trikernel
from trikernel import Kernel, Request
from trikernel.client import open_client
from trikernel.testing import message_types
from trikernel.transport import ZmqClientTransport, ZmqTransport
from trikernel.wire import Codec

from ..cells import Cells, Medium, ask, contents, reply_of, until_input
from ..conftest import Serving
from ..harness import TIMEOUT, Peer, connect, open_peer, open_transport, served_on
from .kernels import Recorder


@pytest.mark.seed(7, 11, 25)
async def test_everything_a_cell_puts_out_comes_between_busy_and_idle(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        for number in range(20):
            heard = await client.execute(f"say {number}")
            assert message_types(heard) == ["status:busy", "execute_input", "stream", "status:idle"]
            assert heard.stdout == str(number)


@pytest.mark.promise(3)
@pytest.mark.seed(25)
async def test_output_is_out_before_the_reply_without_sleeping(serving: Serving) -> None:
    """The reply finds all output sent: nothing is left for a timer."""

    class Chatty(Kernel):
        def do_execute(self, code: str, silent: bool) -> Any:
            for number in range(1000):
                content = {"name": "stdout", "text": f"{number}\n"}
                self.send_response(self.iopub_socket, "stream", content)

    async with serving(Chatty(flush_interval=10.0)) as client:
        before = trio.current_time()
        heard = await client.execute("x")
        assert trio.current_time() - before < 5
        assert heard.stdout == "".join(f"{number}\n" for number in range(1000))
        assert len(contents(heard, "stream")) < 5


@pytest.mark.seed(7, 9)
async def test_the_order_is_kept_when_the_verb_raises(serving: Serving) -> None:
    class Failing(Kernel):
        async def do_execute(self, code: str, silent: bool) -> Any:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "x"})
            raise KeyError("k")

    async with serving(Failing()) as client:
        heard = await client.execute("x")
    assert message_types(heard) == [
        "status:busy",
        "execute_input",
        "stream",
        "error",
        "status:idle",
    ]
    assert reply_of(heard)["ename"] == contents(heard, "error")[0]["ename"] == "KeyError"
    assert reply_of(heard)["execution_count"] == 1


@pytest.mark.promise(3)
@pytest.mark.seed(7)
async def test_the_order_is_kept_when_the_cell_is_cancelled(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        heard = client.start("wait")
        await until_input(heard)
        await ask(client, "interrupt_request", channel="control")
        await heard.wait()
    assert message_types(heard) == ["status:busy", "execute_input", "error", "status:idle"]
    assert reply_of(heard)["ename"] == contents(heard, "error")[0]["ename"] == "KeyboardInterrupt"


@pytest.mark.seed(10)
async def test_starting_is_published_once_without_a_parent(medium: Medium) -> None:
    class Quick(Recorder):
        async def started(self) -> None:
            await trio.sleep(0.5)  # time for the client to subscribe and see what comes after

    transport = open_transport(medium)
    with closing(transport), closing(connect(transport, b"first")) as client:
        peer = Peer(client)
        async with served_on(transport, Quick()):
            await peer.until_idle(peer.send("execute_request", {"code": "say x"}))
        starting = [one for one in peer.iopub if one.content.get("execution_state") == "starting"]
    parentless = [
        one for one in peer.iopub if not one.parent_header and one.msg_type != "iopub_welcome"
    ]
    assert len(starting) <= 1
    assert parentless == starting


@pytest.mark.seed(10)
async def test_the_first_word_in_memory_is_starting() -> None:
    transport = trikernel.MemoryTransport()
    client = transport.connect()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trikernel.serve, Recorder(), transport, services="inline")
        )
        words: list[Any] = []
        while len(words) < 2:
            try:
                words.append(Codec().decode(client.iopub.receive_nowait()))
            except trio.WouldBlock:
                await trio.lowlevel.checkpoint()
        server.stop()
    states = [word.content.get("execution_state") for word in words]
    assert sorted(states, key=str) == [None, "starting"]
    assert all(word.parent_header == {} for word in words)


@pytest.mark.seed(11)
async def test_a_silent_request_counts_and_shows_nothing(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        heard = await client.execute("say secret", silent=True)
        assert message_types(heard) == ["status:busy", "status:idle"]
        assert reply_of(heard)["execution_count"] == 0
        failed = await client.execute("fail", silent=True)
        assert message_types(failed) == ["status:busy", "status:idle"]
        assert failed.status == "error"
        assert reply_of(await client.execute("say x"))["execution_count"] == 1


@pytest.mark.seed(11)
async def test_execute_input_repeats_the_code_with_its_number(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        for number in (1, 2, 3):
            heard = await client.execute(f"say {number}")
            assert contents(heard, "execute_input") == [
                {"code": f"say {number}", "execution_count": number}
            ]
            assert heard.reply is not None
            assert heard.reply.metadata["started"].endswith("+00:00")


@pytest.mark.seed(11)
@pytest.mark.parametrize("content", [{}, {"code": 5}, {"code": "x", "silent": "maybe"}])
async def test_bad_content_is_an_error_reply_and_idle(
    serving: Serving, content: dict[str, Any]
) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        heard = await ask(client, "execute_request", content)
        assert set(reply_of(heard)) == {"status", "ename", "evalue", "traceback", "execution_count"}
        assert reply_of(heard)["ename"] == "ContentError"
        assert message_types(heard) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).status == "ok"
    assert kernel.ran == ["say on"]


@pytest.mark.seed(5)
async def test_requests_are_handled_one_at_a_time_in_order(serving: Serving) -> None:
    class Overlapping(Kernel):
        inside = 0
        order: list[str]

        async def do_execute(self, code: str, silent: bool) -> Any:
            self.inside += 1
            assert self.inside == 1
            await trio.sleep(0.001)
            self.order.append(code)
            self.inside -= 1

    kernel = Overlapping()
    kernel.order = []
    async with serving(kernel) as client:
        cells = Cells(client, *map(str, range(30)))
        assert await cells.statuses() == ["ok"] * 30
    assert kernel.order == [str(number) for number in range(30)]


@pytest.mark.promise(6)
@pytest.mark.seed(5)
async def test_control_is_served_while_a_cell_runs(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        waiting = await until_input(client.start("wait"))
        info = await ask(client, "kernel_info_request", channel="control")
        assert reply_of(info)["implementation"] == "recorder"
        assert message_types(info) == ["status:busy", "status:idle"]
        kernel.released.set()
        assert (await waiting.wait()).status == "ok"


@pytest.mark.seed(5)
async def test_what_touches_the_namespace_overtakes_queued_cells_from_control(
    serving: Serving,
) -> None:
    class Clearing(Recorder):
        def do_clear(self) -> Any:
            self.ran.append("clear")

    kernel = Clearing()
    async with serving(kernel) as client:
        cells = Cells(client, "wait", "say 1", "say 2")
        await until_input(cells.sent[0])
        clearing = client.send("clear_request", {}, channel="control")
        await ask(client, "kernel_info_request", channel="control")
        assert clearing.reply is None
        kernel.released.set()
        await cells.wait()
    assert kernel.ran == ["wait", "clear", "say 1", "say 2"]


@pytest.mark.seed(3)
async def test_several_shell_channels_share_one_kernel(medium: Medium) -> None:
    kernel = Recorder()
    transport = open_transport(medium, shell_channels=3)
    with closing(transport):
        async with served_on(transport, kernel):
            assert [one.name for one in transport.shell] == ["shell", "shell_1", "shell_2"]
            assert [one.name for one in kernel.shell_streams] == ["shell", "shell_1", "shell_2"]
            for shell in range(3):
                async with open_peer(kernel, b"%d" % shell, shell) as peer:
                    for word in ("a", "b"):
                        msg_id = peer.send("execute_request", {"code": f"say {word}"})
                        about = await peer.until_idle(msg_id)
                        texts = [one.content.get("text") for one in about if "text" in one.content]
                        assert texts == [word]
                        assert (await peer.receive()).parent_id == msg_id
    assert len(kernel.ran) == 6


@pytest.mark.seed(3)
async def test_a_control_channel_that_is_also_a_shell_channel_has_one_receiver() -> None:
    class Shared(trikernel.MemoryTransport):
        def __init__(self) -> None:
            super().__init__(key=b"key")
            self.shell = (*self.shell, self.control)

    transport = Shared()
    connection = transport.connect()
    async with served_on(transport, Recorder()), open_client(connection) as client:
        assert (await ask(client, "kernel_info_request", channel="control")).status == "ok"
        assert (await client.execute("say x")).stdout == "x"


@pytest.mark.seed(21)
async def test_iopub_topics_name_the_kernel_and_the_type(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        heard = await client.execute("say x")
        topics = {(one.msg_type, bytes(one.identities[0])) for one in heard.messages}
    assert topics >= {
        ("status", f"kernel.{kernel.ident}.status".encode()),
        ("execute_input", f"kernel.{kernel.ident}.execute_input".encode()),
        ("stream", b"stream.stdout"),
    }


@pytest.mark.promise(3)
async def test_every_subscription_is_welcomed_under_its_topic(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel), open_peer(kernel) as peer:
        if hasattr(peer.transport.iopub, "_socket"):
            peer.transport.iopub._socket.subscribe(b"topic")
        else:
            peer.transport.iopub.send_nowait([b"\x01topic"])
        while (message := await peer.receive("iopub")).content != {"subscription": "topic"}:
            continue
    assert message.msg_type == "iopub_welcome"
    assert message.identities == [b"topic"]
    assert message.parent_header == {}
    first = next(one for one in peer.iopub if one.msg_type == "iopub_welcome")
    assert first.content == {"subscription": ""}
    assert [bytes(frame) for frame in first.identities] == [b""]


async def test_the_longest_topic_is_welcomed_and_a_longer_one_is_disconnected() -> None:
    """By libzmq, which a topic of 130,000 bytes makes crash when its subscriber leaves."""
    kernel = Recorder()
    transport = open_transport("tcp")
    assert isinstance(transport, ZmqTransport)
    with transport:
        async with served_on(transport, kernel):
            longest = ZmqClientTransport(transport.info, topic=b"t" * 4086)
            with longest, ZmqClientTransport(transport.info, topic=b"t" * 4087) as longer:
                monitor = longer.iopub.configure(lambda socket: socket.get_monitor_socket())
                monitor.set(zmq.RCVTIMEO, TIMEOUT * 1000)
                event = 0
                while event != zmq.EVENT_DISCONNECTED:
                    event = (await trio.to_thread.run_sync(recv_monitor_message, monitor))["event"]
                peer = Peer(longest)
                welcome = await peer.receive("iopub")
                assert welcome.msg_type == "iopub_welcome"
                assert welcome.content == {"subscription": "t" * 4086}
                peer.send("kernel_info_request")
                assert (await peer.receive()).content["status"] == "ok"
                longer.iopub.configure(lambda socket: socket.disable_monitor())
                monitor.close()


@pytest.mark.seed(31)
async def test_a_subclass_adds_and_replaces_message_types(serving: Serving) -> None:
    class Extended(Recorder):
        msg_types = [*Kernel.msg_types, "greet_request"]
        control_msg_types = [*Kernel.control_msg_types, "poke_request"]

        async def greet_request(self, request: Request) -> dict[str, Any]:
            return {"status": "ok", "hello": request.message.content["name"]}

        def poke_request(self, request: Request) -> dict[str, Any]:
            return {"status": "ok", "poked": True}

        async def is_complete_request(self, request: Request) -> dict[str, Any]:
            return {"status": "complete", "replaced": True}

    kernel = Extended()

    def old_style(stream: Any, ident: Any, message: dict[str, Any]) -> None:
        content = {"status": "ok", "asked": message["content"], "ident": len(ident)}
        kernel.send_response(stream, "old_reply", content)

    kernel.shell_handlers["old_request"] = old_style
    async with serving(kernel) as client:
        greeting = await ask(client, "greet_request", {"name": "you"})
        assert reply_of(greeting) == {"status": "ok", "hello": "you"}
        assert reply_of(await ask(client, "poke_request", channel="control"))["poked"]
        assert reply_of(await ask(client, "is_complete_request", {"code": ""}))["replaced"]
        old = await ask(client, "old_request", {"x": 1})
        assert old.reply is not None
        assert old.reply.msg_type == "old_reply"
        assert reply_of(old) == {"status": "ok", "asked": {"x": 1}, "ident": 1}
        assert (await ask(client, "greet_request", {}, channel="control")).status == "error"


@pytest.mark.seed(12)
async def test_the_metadata_hooks_shape_the_replys_metadata(serving: Serving) -> None:
    class Hooked(Recorder):
        def init_metadata(self, parent: dict[str, Any]) -> dict[str, Any]:
            return {"first": parent["content"]["code"]}

        def finish_metadata(self, parent: Any, metadata: Any, reply_content: Any) -> Any:
            return {**metadata, "ended": reply_content["status"]}

    async with serving(Hooked()) as client:
        heard = await client.execute("say x")
        assert heard.reply is not None
        metadata = heard.reply.metadata
    assert (metadata["first"], metadata["ended"]) == ("say x", "ok")
    assert "started" in metadata


@pytest.mark.seed(15)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_should_handle_decides_for_each_request(serving: Serving, kind: str) -> None:
    class Choosy(Recorder):
        def should_handle(self, stream: Any, msg: dict[str, Any], idents: Any) -> Any:
            return "no" not in msg["content"].get("code", "")

    class Asking(Choosy):
        async def should_handle(self, stream: Any, msg: dict[str, Any], idents: Any) -> bool:
            await trio.sleep(0.001)
            return bool(super().should_handle(stream, msg, idents))

    kernel = Choosy() if kind == "plain" else Asking()
    async with serving(kernel) as client:
        refused = await client.execute("say no")
        assert refused.status == "aborted"
        assert message_types(refused) == ["status:busy", "status:idle"]
        assert (await client.execute("say yes")).stdout == "yes"
    assert kernel.ran == ["say yes"]


@pytest.mark.seed(5, 15)
@pytest.mark.parametrize("hook", ["should_handle", "pre_handler_hook", "post_handler_hook"])
async def test_a_hook_that_raises_is_an_error_reply_and_stops_nothing(
    serving: Serving, hook: str
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("broken hook")

    kernel = type("Broken", (Recorder,), {hook: broken})()
    async with serving(kernel) as client:
        for _ in range(2):
            heard = await client.execute("say x", stop_on_error=False)
            assert heard.status == "error"
            assert reply_of(heard)["evalue"] == "broken hook"
            assert message_types(heard)[-1] == "status:idle"


@pytest.mark.seed(23)
async def test_the_handler_hooks_surround_each_handler(serving: Serving) -> None:
    calls: list[str] = []

    class Hooked(Recorder):
        def pre_handler_hook(self) -> None:
            calls.append("pre")

        def post_handler_hook(self) -> None:
            calls.append("post")

        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            calls.append(code)
            raise ValueError

    async with serving(Hooked()) as client:
        await client.execute("x")
    assert calls == ["pre", "x", "post"]
