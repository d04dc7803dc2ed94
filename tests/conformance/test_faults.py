"""Checks find what they are for: a kernel that does one thing wrong misses one requirement."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from trikernel import Kernel, MemoryTransport
from trikernel.client import Client, Execution, open_client
from trikernel.conformance import Log, Requirement, Result, Samples, Subject, run_checks, select
from trikernel.conformance.probe import Probe
from trikernel.conformance.requirements import sockets
from trikernel.conformance.requirements.outputs import _displays
from trikernel.conformance.run import result_of
from trikernel.testing import open_clients, open_memory_client
from trikernel.transport import ZmqClientTransport, receive
from trikernel.wire import Codec, Message

from ..kernel.kernels import Recorder

RECORDER = Samples(code="say x", failing="fail", printing="say x", completing="s")


async def missed_by(kernel: Kernel, samples: Samples = RECORDER) -> dict[str, Result]:
    """What a kernel in memory misses, and how."""
    async with open_memory_client(kernel) as client:
        subject = Subject(client, is_apart=False)
        results = await run_checks(select(), lambda log: nullcontext(subject), samples)
        client.pop_background_errors()
    return {one.requirement.id: one for one in results if one.outcome == "missed"}


class NoMatches(Recorder):
    def do_complete(self, code: str, cursor_pos: int) -> Any:
        found = {"matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}
        return {"status": "ok", **found}


class OddHistory(Recorder):
    def do_history(self, **asked: Any) -> Any:
        return {"status": "ok", "history": [["just", "two"]]}


class FailsOnEmpty(Recorder):
    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if not code:
            raise ValueError("empty")
        return await super().do_execute(code, silent, **options)


class NoUpdate(Recorder):
    """Displays, and updates what nobody has seen."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "update":
            content = {"data": {}, "metadata": {}, "transient": {"display_id": "other"}}
            self.send_response(self.iopub_socket, "update_display_data", content)
            return {"status": "ok"}
        return await super().do_execute(code, silent, **options)


@pytest.mark.parametrize(
    ("kernel_class", "ids"),
    [
        (Recorder, {"complete.reply"}),  # it completes nothing
        (NoMatches, {"complete.reply"}),
        (OddHistory, {"history.tail", "history.range", "history.search", "history.outputs"}),
        (FailsOnEmpty, {"execute.empty"}),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else "",
)
async def test_a_kernel_that_does_one_thing_wrong_misses_that_requirement(
    kernel_class: type[Kernel], ids: set[str], autojump_clock: Any
) -> None:
    missed = await missed_by(kernel_class())
    assert set(missed) - {"complete.reply"} == ids - {"complete.reply"}
    assert "complete.reply" in missed or kernel_class is not NoMatches
    for one in missed.values():
        assert one.why
        assert any(line.startswith("-> ") for line in one.shown)


async def test_an_update_of_a_display_that_nobody_has_seen_is_a_miss(autojump_clock: Any) -> None:
    missed = await missed_by(NoUpdate(), Samples(code="say x", updating="update"))
    assert "the update is ['other']" in missed["display.update"].why
    assert '"display_id": "other"' in "\n".join(missed["display.update"].shown)


class Wire:
    """A peer that is no kernel of ours: it answers each request as a function says.

    What it receives and sends are frames, so it may do wrong what a kernel of ours cannot.
    """

    def __init__(self, answer: Callable[[Wire, Message, str], None]) -> None:
        self.transport = MemoryTransport(key=b"key")
        self.codec = Codec(b"key")
        self.reading = Codec(b"")  # it takes what is not signed, too
        self._answer = answer

    async def run(self) -> None:
        async def serve(channel: Any) -> None:
            while True:
                frames = await receive(channel)
                try:
                    message = self.reading.decode(frames)
                except Exception:
                    continue
                self._answer(self, message, channel.name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, self.transport.shell[0])
            nursery.start_soon(serve, self.transport.control)

    def publish(self, message: Message, msg_type: str, content: Any, parent: Any = None) -> None:
        frames = self.codec.encode(
            msg_type, content, parent=message.header if parent is None else parent
        )
        self.transport.iopub.send_nowait([b"topic", *frames])

    def reply(self, message: Message, channel: str, content: Any) -> None:
        kind = message.msg_type.replace("_request", "_reply")
        frames = self.codec.encode(
            kind, content, parent=message.header, identities=message.identities
        )
        sockets = {"shell": self.transport.shell[0], "control": self.transport.control}
        sockets[channel].send_nowait(frames)


def careless(wire: Wire, message: Message, channel: str) -> None:
    """Answers everything with ok, whoever sent it and how often."""
    if not message.msg_type.endswith("_request"):
        return
    wire.publish(message, "status", {"execution_state": "busy"})
    wire.reply(message, channel, {"status": "ok"})
    wire.publish(message, "status", {"execution_state": "idle"})


def mute(wire: Wire, message: Message, channel: str) -> None:
    """Says busy and idle, and replies to kernel_info_request only."""
    wire.publish(message, "status", {"execution_state": "busy"})
    if message.msg_type == "kernel_info_request":
        wire.reply(message, channel, {"status": "ok"})
    wire.publish(message, "status", {"execution_state": "idle"})


def parentless(wire: Wire, message: Message, channel: str) -> None:
    """Its parent header is null where there is none, as that of a kernel that is known."""
    careless(wire, message, channel)
    frames = wire.codec.encode("stream", {"name": "stdout", "text": ""})
    body = [frames[2], b"null", frames[4], frames[5]]
    wire.transport.iopub.send_nowait([b"topic", frames[0], wire.codec.sign(body), *body])


async def outcomes(
    answer: Callable[[Wire, Message, str], None], *wanted: str | Requirement
) -> dict[str, Result]:
    """What comes of requirements, those of the manifest by their ids."""
    wire, log, found = Wire(answer), Log(), {}
    ids = [str(one) for one in wanted]
    own = [one for one in wanted if isinstance(one, Requirement)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run)
        transport = wire.transport.connect()
        client = Client(transport)
        log.listen(client)
        async with open_client(transport, client):
            samples = Samples(printing="x", displaying="x", nan="x")
            probe = Probe(Subject(client, is_apart=False), samples, log)
            for one in own or select():
                if one.id in ids:
                    found[one.id] = await result_of(one, probe)
        nursery.cancel_scope.cancel()
    assert set(found) == set(ids)
    return found


async def test_a_kernel_that_looks_at_no_signature_is_found(autojump_clock: Any) -> None:
    found = await outcomes(careless, "wire.unsigned", "wire.replay", "request.malformed")
    assert {one.outcome for one in found.values()} == {"missed"}
    assert "a message with the signature b'' is answered" in found["wire.unsigned"].why
    assert "[2, 2] replies" in found["wire.replay"].why


async def test_a_kernel_that_gives_no_reply_is_found_and_shown(autojump_clock: Any) -> None:
    found = await outcomes(mute, "kernel-info.shell", "execute.reply", "request.malformed")
    assert found["kernel-info.shell"].outcome == "met"
    assert found["execute.reply"].why == "execute_request: busy and idle, but no reply"
    assert found["execute.reply"].shown == (
        "-> execute_request '1'",
        '<- iopub status {"execution_state": "busy"}',
        '<- iopub status {"execution_state": "idle"}',
        "<- no reply",
    )
    assert found["request.malformed"].why.count("but no reply") == 4


async def test_a_parent_header_of_null_is_found_and_its_frames_are_shown(
    autojump_clock: Any,
) -> None:
    found = await outcomes(parentless, "messages.parent-object", "messages.readable")
    assert "the parent frame is a JSON NoneType" in found["messages.parent-object"].why
    assert any(line.strip() == "b'null'" for line in found["messages.parent-object"].shown)
    assert found["messages.readable"].outcome == "met"


def odd(wire: Wire, message: Message, channel: str) -> None:
    """What is no message comes before its idle."""
    wire.publish(message, "status", {"execution_state": "busy"})
    wire.transport.iopub.send_nowait([b"topic", b"no message"])
    wire.reply(message, channel, {"status": "ok"})
    wire.publish(message, "status", {"execution_state": "idle"})


async def test_what_cannot_be_read_is_shown_however_much_came_before(autojump_clock: Any) -> None:
    """The log keeps a thousand of those messages, and no others."""

    async def ask_often(probe: Probe) -> None:
        for _ in range(1100):
            await probe.ask("kernel_info_request")

    async def ask(probe: Probe) -> None:
        await _displays(probe, "nan")

    checks = [("often", ask_often), ("once", ask)]
    found = await outcomes(odd, *(Requirement(id, "", "", "core", one) for id, one in checks))
    assert found["often"].outcome == "met"
    assert found["once"].why.startswith("a message cannot be read")
    assert "   b'no message'" in found["once"].shown


async def test_output_that_comes_after_idle_is_found(autojump_clock: Any) -> None:
    """Here when the next request comes."""
    printed: list[Message] = []

    def tardy(wire: Wire, message: Message, channel: str) -> None:
        while printed:
            wire.publish(printed.pop(), "stream", {"name": "stdout", "text": "x"})
        careless(wire, message, channel)
        if message.msg_type == "execute_request":
            printed.append(message)

    found = await outcomes(tardy, "output.before-idle")
    assert found["output.before-idle"].why == "1 messages came after idle"


async def test_what_a_kernel_dies_of_is_a_miss_of_the_check_before_and_of_no_other(
    autojump_clock: Any,
) -> None:
    async def harm(probe: Probe) -> None:
        probe.client.send("harm", {})

    async def ask(probe: Probe) -> None:
        await probe.ask("kernel_info_request")

    opened = 0
    checks = [("before", ask), ("harms", harm), ("next", ask), ("last", ask)]
    requirements = [Requirement(id, "", "", "core", one) for id, one in checks]

    @asynccontextmanager
    async def open_wire(log: Log) -> AsyncIterator[Subject]:
        nonlocal opened
        opened += 1
        is_harmed = False

        def answer(wire: Wire, message: Message, channel: str) -> None:
            nonlocal is_harmed
            if is_harmed:  # as by an assertion in the code that handles the next message
                client.die("died by signal 6")
                return
            is_harmed = is_harmed or message.msg_type == "harm"
            careless(wire, message, channel)

        wire = Wire(answer)
        transport = wire.transport.connect()
        client = Client(transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run)
            async with open_client(transport, client):
                yield Subject(client, is_apart=False)
            nursery.cancel_scope.cancel()

    results = await run_checks(requirements, open_wire, Samples(), can_reopen=True)
    outcome = {str(one.requirement): one.outcome for one in results}
    assert outcome == {"before": "met", "harms": "missed", "next": "met", "last": "met"}
    assert results[1].why == "after it, the kernel died by signal 6"
    assert opened == 2


async def test_messages_of_a_kernel_that_has_died_unasked_are_not_checked(
    autojump_clock: Any,
) -> None:
    async with open_memory_client(Recorder()) as client:
        client.die("died by signal 6")
        probe = Probe(Subject(client, is_apart=False), Samples(), Log())
        (header,) = (one for one in select() if one.id == "messages.header")
        result = await result_of(header, probe)
    assert (result.outcome, result.why) == (
        "not checked",
        "the kernel has ended, and was asked nothing before",
    )


async def test_a_client_is_asked_only_when_it_is_connected(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    """A question that comes before its stdin socket may be dropped, and the cell waits for ever."""
    done: list[str] = []
    async with open_memory_client(Recorder()) as client:

        class Other:
            def send(self, msg_type: str, content: Any, channel: str) -> Execution:
                done.append(channel)
                return client.send(msg_type, content, channel=channel)

            def start(self, code: str, on_input: Callable[[str, bool], str]) -> Execution:
                done.append(on_input("", False))
                return client.start("say x")

        @asynccontextmanager
        async def another_client(self: Probe) -> AsyncIterator[Other]:
            yield Other()

        monkeypatch.setattr(Probe, "another_client", another_client)
        probe = Probe(Subject(client), Samples(asking="ask"), Log())
        (asker,) = (one for one in select() if one.id == "stdin.asker")
        assert (await result_of(asker, probe)).outcome == "met"
    assert done == ["shell", "control", "second"]


async def aborts(wire: Wire, inbox: trio.MemoryReceiveChannel[tuple[Message, str]]) -> None:
    """Carry out requests as a kernel does that aborts what is queued, and no more."""
    queue: deque[tuple[Message, str]] = deque()
    while True:
        with suppress(trio.WouldBlock):
            while True:
                queue.append(inbox.receive_nowait())
        message, channel = queue.popleft() if queue else await inbox.receive()
        code = message.content.get("code", "")
        wire.publish(message, "status", {"execution_state": "busy"})
        wire.publish(message, "execute_input", {"code": code, "execution_count": 1})
        await trio.sleep(2 if code == "sleep" else 0)
        with suppress(trio.WouldBlock):
            while True:
                queue.append(inbox.receive_nowait())
        error = {"status": "error", "ename": "", "evalue": "", "traceback": []}
        fails = code == "fail"
        wire.reply(message, channel, error if fails else {"status": "ok"})
        wire.publish(message, "status", {"execution_state": "idle"})
        for one in list(queue) if fails else ():
            if one[0].msg_type == "execute_request":
                queue.remove(one)
                wire.publish(one[0], "status", {"execution_state": "busy"})
                wire.reply(*one, {"status": "aborted"})
                wire.publish(one[0], "status", {"execution_state": "idle"})


@pytest.mark.parametrize("id", ["execute.aborts", "execute.aborted-reply"])
async def test_what_is_to_be_aborted_may_arrive_later_than_what_fails(
    id: str, autojump_clock: Any
) -> None:
    """As on a machine that does much else, where libzmq's thread has to wait."""
    arrive, inbox = trio.open_memory_channel[tuple[Message, str]](100)
    underway, under = trio.open_memory_channel[tuple[Message, str]](100)

    async def delay() -> None:
        async for one in under:
            await trio.sleep(0.01)
            arrive.send_nowait(one)

    wire = Wire(lambda wire, message, channel: underway.send_nowait((message, channel)))
    samples = Samples(failing="fail", sleeping="sleep")
    (requirement,) = (one for one in select() if one.id == id)
    async with trio.open_nursery() as nursery:
        for task in (wire.run, delay, partial(aborts, wire, inbox)):
            nursery.start_soon(task)
        transport = wire.transport.connect()
        async with open_client(transport, Client(transport)) as client:
            result = await result_of(requirement, Probe(Subject(client), samples, Log()))
        nursery.cancel_scope.cancel()
    assert (result.outcome, result.why) == ("met", "")


@pytest.mark.parametrize(
    ("late", "outcome"),
    [([0.0] * 3, "missed"), ([9.0, 0.0, 9.0], "missed"), ([9.0] * 3, "not checked")],
)
async def test_a_subscriber_that_was_held_up_itself_proves_nothing(
    late: list[float], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count(probe: Probe, code: str) -> tuple[int, float]:
        return 2999, late.pop()

    monkeypatch.setattr(sockets, "_count_slowly", count)
    (requirement,) = (one for one in select() if one.id == "iopub.no-drop")
    async with open_clients(Recorder(), over="tcp") as (client,):
        transport = client.connection.transport
        assert isinstance(transport, ZmqClientTransport)
        subject = Subject(client, transport.info)
        samples = attrs.evolve(RECORDER, flooding="say x")
        (result,) = await run_checks([requirement], lambda log: nullcontext(subject), samples)
    assert result.outcome == outcome
