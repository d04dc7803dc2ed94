"""The queue in front of iopub: merging, order, stalled subscribers, finalizers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.core import CLOSED, OutboxLimits
from trikernel.core.outbox import Outbox
from trikernel.wire import Codec, Header, Message


class FakeIOPub:
    """A broadcast channel that can stall; remembers what got through."""

    name = "iopub"

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.stalled = False
        self.dropping = 0
        self.beyond: list[Message] = []
        self.during_send: Any = None

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        if self.stalled:
            raise trio.WouldBlock
        hook, self.during_send = self.during_send, None
        if hook is not None:
            hook()
        self.sent.append(list(frames))

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        self.dropping += 1

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        self.beyond.append(Codec().decode(frames))

    def messages(self) -> list[Message]:
        return [Codec().decode(frames) for frames in self.sent]

    def texts(self) -> list[tuple[str, str]]:
        return [
            (one.content["name"], one.content["text"])
            for one in self.messages()
            if one.msg_type == "stream"
        ]


def header(name: str) -> Header:
    return Header(name, "execute_request", "", "", "", "", b'{"msg_id":"%s"}' % name.encode())


ONE, TWO = header("one"), header("two")


@pytest.fixture
def channel() -> FakeIOPub:
    return FakeIOPub()


@pytest.fixture
def outbox(channel: FakeIOPub) -> Outbox:
    return outbox_on(channel)


def outbox_on(channel: FakeIOPub, **limits: Any) -> Outbox:
    return Outbox(channel, Codec(), OutboxLimits(**limits))  # type: ignore[arg-type]


def test_adjacent_text_of_one_cell_and_stream_is_one_message(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel)
    for parent, name, text in [
        (ONE, "stdout", "a"),
        (ONE, "stdout", "b"),
        (ONE, "stderr", "c"),
        (TWO, "stderr", "d"),
        (TWO, "stderr", "e"),
        (ONE, "stdout", "f"),
    ]:
        outbox.write(parent, name, text)
    outbox.drain()
    assert channel.texts() == [("stdout", "ab"), ("stderr", "c"), ("stderr", "de"), ("stdout", "f")]
    assert [one.parent_id for one in channel.messages()] == ["one", "one", "two", "one"]


def test_messages_and_text_keep_their_order(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel)
    outbox.write(ONE, "stdout", "before")
    outbox.post(Codec().encode("display_data", {}, identities=[b"t"]))
    outbox.write(ONE, "stdout", "after")
    outbox.drain()
    assert [one.msg_type for one in channel.messages()] == ["stream", "display_data", "stream"]


def test_a_merged_message_has_a_maximum_size(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel, max_merge=100)
    for _ in range(50):
        outbox.write(ONE, "stdout", "x" * 30)
    outbox.drain()
    sizes = [len(text) for _, text in channel.texts()]
    assert sum(sizes) == 1500
    assert max(sizes) < 130


def test_a_finalizer_that_prints_in_the_middle_of_a_send_does_no_harm(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel)

    def finalizer() -> None:
        outbox.write(ONE, "stdout", "from the finalizer")
        outbox.post(Codec().encode("comm_close", {}, identities=[b"t"]))
        outbox.drain()

    channel.during_send = finalizer
    outbox.write(ONE, "stdout", "first")
    outbox.drain()
    outbox.drain()
    assert [one.msg_type for one in channel.messages()] == ["stream", "stream", "comm_close"]
    assert channel.texts() == [("stdout", "first"), ("stdout", "from the finalizer")]


def test_threads_that_write_at_once_lose_nothing(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel)

    def write(name: str) -> None:
        for number in range(2000):
            outbox.write(ONE, name, f"{number},")
            if number % 100 == 0:
                outbox.drain()

    names = ["stdout", "stderr", "a", "b"]
    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.drain()
    for name in names:
        text = "".join(text for stream, text in channel.texts() if stream == name)
        assert text == "".join(f"{number}," for number in range(2000))


async def test_text_is_sent_soon_and_an_idle_queue_arms_no_timer(
    channel: FakeIOPub, autojump_clock: trio.testing.MockClock
) -> None:
    outbox = outbox_on(channel, interval=0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run_flusher, trio.lowlevel.current_trio_token())
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        outbox.write(ONE, "stdout", "x")
        await trio.sleep(0.4)
        assert channel.texts() == []
        await trio.sleep(0.2)
        assert channel.texts() == [("stdout", "x")]
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        nursery.cancel_scope.cancel()


def test_a_flood_is_sent_before_it_fills_the_memory(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel, budget_bytes=4000)
    for _ in range(1000):
        outbox.write(ONE, "stdout", "x" * 100)
        assert outbox._size <= 1200
    assert channel.sent


async def test_a_stalled_subscriber_is_waited_for_and_loses_nothing_in_time(
    channel: FakeIOPub,
) -> None:
    outbox = outbox_on(channel, budget_seconds=60.0, interval=0.001)
    channel.stalled = True
    outbox.write(ONE, "stdout", "patience")
    async with trio.open_nursery() as nursery:
        flushed = trio.Event()

        async def flush() -> None:
            await outbox.flush()
            flushed.set()

        nursery.start_soon(flush)
        await trio.sleep(0.02)
        assert not flushed.is_set()
        channel.stalled = False
        with trio.fail_after(30):
            await flushed.wait()
    assert channel.texts() == [("stdout", "patience")]
    assert channel.dropping == 0


async def test_a_spent_budget_drops_for_the_stalled_one_and_the_log_says_so(
    channel: FakeIOPub, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = outbox_on(channel, budget_seconds=0.01, interval=0.001)
    channel.stalled = True
    outbox.write(ONE, "stdout", "lost for one")
    with trio.fail_after(30):
        await outbox.flush()
    assert channel.dropping == outbox.dropped == 1
    assert "does not read its output" in caplog.text
    (notice,) = channel.beyond
    assert notice.parent_id == "one"
    assert "output dropped" in notice.content["text"]
    channel.stalled = False
    outbox.write(ONE, "stdout", "heard again")
    outbox.drain()
    assert channel.texts() == [("stdout", "heard again")]


def test_the_budget_counts_messages_too(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel, budget_seconds=60.0, budget_bytes=10_000)
    channel.stalled = True
    for _ in range(20):
        outbox.post(Codec().encode("display_data", {"x": "y" * 1000}, identities=[b"t"]))
    assert channel.dropping > 5
    assert outbox._size <= 11_000


@pytest.mark.parametrize("bad", [[], ["no bytes"]])
def test_frames_that_cannot_be_sent_do_not_stay_in_the_way(
    channel: FakeIOPub, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(frames: Any = None) -> None:
        raise TypeError("not frames")

    outbox = outbox_on(channel)
    channel.during_send = refuse
    outbox.post(bad)
    outbox.write(ONE, "stdout", "goes on")
    outbox.write(ONE, "\ud800", "odd name")
    outbox.drain()
    assert channel.texts()[0] == ("stdout", "goes on")
    assert len(channel.sent) == 2
    assert "could not be sent" in caplog.text


def test_a_drain_sends_what_was_there_when_it_began(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel)
    armed: list[bool] = []
    outbox._arm = lambda: armed.append(True)

    def another_thread_prints() -> None:
        outbox._entries.append(Codec().encode("display_data", {}, identities=[b"t"]))
        channel.during_send = another_thread_prints

    channel.during_send = another_thread_prints
    outbox.post(Codec().encode("display_data", {}, identities=[b"t"]))
    assert len(channel.sent) == 1
    assert armed == [True]


async def test_a_cancelled_flush_keeps_the_queue(channel: FakeIOPub) -> None:
    outbox = outbox_on(channel, budget_seconds=60.0)
    channel.stalled = True
    outbox.write(ONE, "stdout", "kept")
    with trio.move_on_after(0.01) as scope:
        await outbox.flush()
    assert scope.cancelled_caught
    channel.stalled = False
    outbox.drain()
    assert channel.texts() == [("stdout", "kept")]


def test_a_post_never_waits_for_a_thread_that_sends(outbox: Outbox, channel: FakeIOPub) -> None:
    """Its caller may be a finalizer that runs while its thread holds the channel's lock."""

    def while_sending() -> None:
        thread = threading.Thread(target=outbox.post, args=([b"from the other", b""],))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    channel.during_send = while_sending
    outbox.post([b"first", b""])
    assert [frames[0] for frames in channel.sent] == [b"first", b"from the other"]


def test_pieces_are_merged_until_something_else_is_to_be_sent(
    outbox: Outbox, channel: FakeIOPub
) -> None:
    out = outbox.open_text("me", ONE, "stdout")
    out.pieces.extend(["a", "b"])
    err = outbox.open_text("me", ONE, "stderr")
    assert out.writer is CLOSED
    err.pieces.append("c")
    outbox.post(Codec().encode("status", {}, identities=[b"status"]))
    assert err.writer is CLOSED
    outbox.write(ONE, "stdout", "d")
    outbox.drain()
    assert channel.texts() == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]
    assert [one.msg_type for one in channel.messages()] == ["stream", "stream", "status", "stream"]


def test_a_piece_that_comes_while_its_text_is_closed_is_sent_too(
    outbox: Outbox, channel: FakeIOPub
) -> None:
    out = outbox.open_text("me", ONE, "stdout")
    out.pieces.append("in time")
    outbox.drain()
    assert out.writer is CLOSED
    out.pieces.append("late")
    outbox.reopen(out)
    outbox.reopen(out)
    outbox.drain()
    assert "".join(text for _, text in channel.texts()) == "in timelate"


def test_long_texts_are_cut_where_a_message_is_full(outbox: Outbox, channel: FakeIOPub) -> None:
    out = outbox.open_text("me", ONE, "stdout")
    piece = "x" * (outbox.limits.max_merge // 2)
    out.pieces.extend([piece] * 5)
    outbox.drain()
    lengths = [len(text) for _, text in channel.texts()]
    assert lengths == [outbox.limits.max_merge] * 2 + [len(piece)]
