"""What only shows over real sockets: identities, the heartbeat, topics, subscriptions."""

from __future__ import annotations

from contextlib import suppress

import trio

from ...errors import WireError
from ...transport import Channel, ZmqClientTransport, receive
from ...wire import Codec, Message
from ..manifest import NotChecked, NotOffered, requirement
from ..probe import ANSWER, Probe, ok
from ..schema import require

SLOW = 0.002  # seconds between two messages that a slow subscriber reads
TRIES = 3  # because this process may be delayed, and then reads nothing at all for a while
HELD_UP = 0.25  # seconds of such a delay that are too many: a kernel may give up that subscriber
SLOWLY = 10  # seconds for which it reads slowly, at most: on a busy machine it is slow anyway
SILENCE = 10  # seconds without a message, after which no more are expected
FEW = 10  # messages: the high-water mark of the slow subscriber's socket


@requirement(
    "sockets.handover",
    "A client that comes back under its identity is answered, not the one of before.",
    "Sockets: ROUTER_HANDOVER",
    "sockets",
)
async def check_handover(probe: Probe) -> None:
    name = b"conform"
    async with probe.another_client(identity=name) as before:
        await probe.reply(before.send("kernel_info_request", {}))
        async with probe.another_client(identity=name) as after:
            for channel in ("shell", "control"):
                execution = after.send("kernel_info_request", {}, channel=channel)
                await probe.reply(execution, 5, f"on {channel}, with the identity of another")


@requirement(
    "sockets.two-clients",
    "A reply goes to who asked, and what is published to everybody.",
    "Introduction",
    "sockets",
)
async def check_two_clients(probe: Probe) -> None:
    async with probe.another_client() as other:
        with other.subscribe() as heard:
            await _hears(probe, heard)
            execution = await probe.ask("kernel_info_request")
            with trio.move_on_after(ANSWER) as scope:
                while (await heard.receive()).parent_id != execution.msg_id:
                    pass
            require(not scope.cancelled_caught, "the other client does not hear of it on iopub")
            require(execution.replies == 1, f"there are {execution.replies} replies")


async def _hears(probe: Probe, heard: trio.MemoryReceiveChannel[object]) -> None:
    """Send requests until ``heard`` gets a message, which shows that the kernel knows of its
    subscription.
    """
    for _ in range(50):
        await probe.ask("kernel_info_request")
        with trio.move_on_after(0.1):
            await heard.receive()
            return


@requirement(
    "heartbeat.echo", "The heartbeat sends back what it gets.", "Heartbeat for kernels", "sockets"
)
async def check_heartbeat(probe: Probe) -> None:
    with ZmqClientTransport(probe.info) as transport:
        for beat in (b"ping", b"\x00\xff", b"x" * 1000):
            await _beat(transport.heartbeat, beat)


@requirement(
    "heartbeat.busy",
    "The heartbeat answers while code keeps the interpreter's lock.",
    "Heartbeat for kernels",
    "sockets",
)
async def check_heartbeat_while_busy(probe: Probe) -> None:
    code = probe.sample("computing")
    probe.needs_apart()
    with ZmqClientTransport(probe.info) as transport:
        await _beat(transport.heartbeat, b"first")
        cell = await probe.begun(probe.client.start(code))
        for number in range(3):
            with trio.move_on_after(1) as scope:
                await _beat(transport.heartbeat, b"%d" % number)
            require(not scope.cancelled_caught, "there is no echo within a second")
        if cell.reply is not None:
            raise NotChecked("the cell has ended before the echoes were there")
        ok(await probe.answer(cell))


async def _beat(channel: Channel, beat: bytes) -> None:
    channel.send_nowait([b"", beat])
    with trio.move_on_after(ANSWER) as scope:
        while (frames := await receive(channel))[-1] != beat:
            pass
    require(not scope.cancelled_caught, "there is no echo")
    require(list(frames) == [b"", beat], f"the echo of {beat!r:.20} is {frames!r:.80}")


def _is_utf8(topic: bytes) -> bool:
    try:
        topic.decode()
    except UnicodeDecodeError:
        return False
    return True


@requirement(
    "iopub.topic",
    "Each message on iopub has one topic in front, text in UTF-8.",
    "The Wire Protocol; iopub topics",
)
async def check_topics(probe: Probe) -> None:
    await probe.ask("kernel_info_request")
    for one in probe.iopub:
        topics = [bytes(frame) for frame in one.identities]
        right = len(topics) == 1 and _is_utf8(topics[0])
        if one.msg_type == "iopub_welcome":  # has requirements of its own
            continue
        if not right:
            probe.seen.append(one)
        require(right, f"{one.msg_type} has the topics {topics}")


@requirement(
    "iopub.no-drop", "A subscriber that reads slowly loses nothing.", "Sockets: IOPub",
    "sockets",
)  # fmt: skip
async def check_no_drop(probe: Probe) -> None:
    code = probe.sample("flooding")
    probe.needs_apart()
    steadily = None
    for _ in range(TRIES):
        probe.asked.clear()
        found, late = await _count_slowly(probe, code)
        if found == 3000:
            return
        if late < HELD_UP:
            steadily = found
    if steadily is None:
        raise NotChecked("this machine does too much else for a subscriber that reads steadily")
    raise AssertionError(f"{steadily} of 3000 displays came")


async def _count_slowly(probe: Probe, code: str) -> tuple[int, float]:
    """How many displays of a cell a subscriber receives that reads slowly while the cell runs; and
    the longest delay of this process meanwhile, in seconds.
    """
    with ZmqClientTransport(probe.info, iopub_hwm=FEW) as transport:
        await _subscribed(probe, transport.iopub)
        cell = probe.client.start(code)
        codec, found = Codec(transport.key, transport.signature_scheme), 0
        begun, late, ended = trio.current_time(), 0.0, False
        while not ended:
            with trio.move_on_after(SILENCE) as silence:
                message = codec.decode(await receive(transport.iopub))
            if silence.cancelled_caught:
                break
            if not cell.done and trio.current_time() < begun + SLOWLY:
                due = trio.current_time() + SLOW
                await trio.sleep_until(due)
                late = max(late, trio.current_time() - due)
            if message.parent_id == cell.msg_id:
                found += message.msg_type == "display_data"
                ended = message.content.get("execution_state") == "idle"
        await probe.answer(cell)
    return found, late


async def _subscribed(probe: Probe, channel: Channel) -> None:
    """Send requests until a message comes on that channel."""
    for _ in range(50):
        await probe.ask("kernel_info_request")
        with trio.move_on_after(0.1):
            await receive(channel)
            return


@requirement(
    "welcome.every", "Every subscriber gets an iopub_welcome, not the first one only.", "JEP 65:",
    "welcome",
)  # fmt: skip
async def check_welcome(probe: Probe) -> None:
    found = [await _welcome(probe, b"") for _ in range(2)]
    known = any(one.msg_type == "iopub_welcome" for one in probe.iopub)
    if not known and not any(found):
        raise NotOffered("no iopub_welcome ever comes")
    count = sum(one is not None for one in found)
    require(count == 2, f"of two further subscribers {count} get one")


@requirement(
    "welcome.topic", "A welcome has the topic that was subscribed to, names it, and has no parent.",
    "JEP 65:", "welcome",
)  # fmt: skip
async def check_welcome_topic(probe: Probe) -> None:
    named = await _welcome(probe, b"conform.topic")
    first = [one for one in probe.iopub if one.msg_type == "iopub_welcome"][:1]
    welcomes = [*first, *([named] if named is not None else [])]
    if not welcomes:
        raise NotOffered("no iopub_welcome ever comes")
    probe.seen.extend(welcomes)
    for one in welcomes:
        topics = [bytes(frame) for frame in one.identities]
        said = str(one.content["subscription"])
        require(topics == [said.encode()], f"its topics are {topics}, its subscription is {said!r}")
        require(one.parent_header == {}, "it has a parent")


@requirement(
    "welcome.odd-topic", "A topic that is no UTF-8 gets no welcome, and stops nothing.", "JEP 65:",
    "welcome",
)  # fmt: skip
async def check_welcome_odd_topic(probe: Probe) -> None:
    if await _welcome(probe, b"conform.other") is None:
        raise NotOffered("no iopub_welcome comes for a new topic")
    require(await _welcome(probe, b"\xff\xfe", 0.5) is None, "it gets one")
    await probe.lives_on("a subscription that is no UTF-8")


async def _welcome(probe: Probe, topic: bytes, seconds: float = 3) -> Message | None:
    """The ``iopub_welcome`` that a new subscriber to ``topic`` gets; None if there is none within
    ``seconds``.
    """
    with ZmqClientTransport(probe.info, topic=topic) as transport:
        codec = Codec(transport.key, transport.signature_scheme)
        with trio.move_on_after(seconds):
            while True:
                with suppress(WireError):
                    message = codec.decode(await receive(transport.iopub))
                    if message.msg_type == "iopub_welcome":
                        return message
    return None
