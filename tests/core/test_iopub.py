"""The queue in front of iopub: merging, order, stalled subscribers, finalizers."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.core import IOPub, OutputLimits, StreamText, TextKey, call_unprotected
from trikernel.core.waiting import wait_until_free
from trikernel.system import RepeatedEvent
from trikernel.wire import Codec, Header, Message


class FakeIOPub:
    """A broadcast channel that can stall; remembers what got through."""

    name = "iopub"

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.stalled = False
        self.dropping = self.waited = 0
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

    def wait_writable_blocking(self, seconds: float) -> None:
        self.waited += 1
        if self.waited == 3:
            self.stalled = False

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


def encoded(msg_type: str) -> list[bytes]:
    return Codec().encode(msg_type, {}, identities=[b"t"])


ONE, TWO = header("one"), header("two")


@pytest.fixture
def channel() -> FakeIOPub:
    return FakeIOPub()


@pytest.fixture
def iopub(channel: FakeIOPub) -> IOPub:
    return iopub_on(channel)


def iopub_on(channel: FakeIOPub, **limits: Any) -> IOPub:
    return IOPub(channel, Codec(), "kernel.ident", OutputLimits(**limits))  # type: ignore[arg-type]


def test_adjacent_text_of_one_cell_and_stream_is_one_message(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel)
    for parent, name, text in [
        (ONE, "stdout", "a"),
        (ONE, "stdout", "b"),
        (ONE, "stderr", "c"),
        (TWO, "stderr", "d"),
        (TWO, "stderr", "e"),
        (ONE, "stdout", "f"),
    ]:
        iopub.write(TextKey(parent, name), text)
    iopub.drain()
    assert channel.texts() == [("stdout", "ab"), ("stderr", "c"), ("stderr", "de"), ("stdout", "f")]
    assert [one.parent_id for one in channel.messages()] == ["one", "one", "two", "one"]


def test_messages_and_text_keep_their_order(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel)
    iopub.write(TextKey(ONE, "stdout"), "before")
    iopub.post(Codec().encode("display_data", {}, identities=[b"t"]))
    iopub.write(TextKey(ONE, "stdout"), "after")
    iopub.drain()
    assert [one.msg_type for one in channel.messages()] == ["stream", "display_data", "stream"]


def test_a_merged_message_has_a_maximum_size(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, max_merge=100)
    for _ in range(50):
        iopub.write(TextKey(ONE, "stdout"), "x" * 30)
    iopub.drain()
    sizes = [len(text) for _, text in channel.texts()]
    assert sum(sizes) == 1500
    assert max(sizes) < 130


def test_a_finalizer_that_prints_in_the_middle_of_a_send_does_no_harm(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel)

    def finalizer() -> None:
        iopub.write(TextKey(ONE, "stdout"), "from the finalizer")
        iopub.post(Codec().encode("comm_close", {}, identities=[b"t"]))
        iopub.drain()

    channel.during_send = finalizer
    iopub.write(TextKey(ONE, "stdout"), "first")
    iopub.drain()
    iopub.drain()
    assert [one.msg_type for one in channel.messages()] == ["stream", "stream", "comm_close"]
    assert channel.texts() == [("stdout", "first"), ("stdout", "from the finalizer")]


def test_threads_that_write_at_once_lose_nothing(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel)

    def write(name: str) -> None:
        for number in range(2000):
            iopub.write(TextKey(ONE, name), f"{number},")
            if number % 100 == 0:
                iopub.drain()

    names = ["stdout", "stderr", "a", "b"]
    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while iopub.entries:
        iopub.drain()
    for name in names:
        text = "".join(text for stream, text in channel.texts() if stream == name)
        assert text == "".join(f"{number}," for number in range(2000))


async def test_text_is_sent_soon_and_an_idle_queue_arms_no_timer(
    channel: FakeIOPub, autojump_clock: trio.testing.MockClock
) -> None:
    iopub = iopub_on(channel, interval=0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(iopub.run_flusher)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        iopub.write(TextKey(ONE, "stdout"), "x")
        await trio.sleep(0.4)
        assert channel.texts() == []
        await trio.sleep(0.2)
        assert channel.texts() == [("stdout", "x")]
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        nursery.cancel_scope.cancel()


async def test_the_flusher_leaves_whoever_sends_alone(
    channel: FakeIOPub, mock_clock: trio.testing.MockClock
) -> None:
    """To look again and again would take the interpreter from him: ten times as slow."""
    iopub = iopub_on(channel)
    sending, go_on = threading.Event(), threading.Event()

    def block() -> None:
        sending.set()
        assert go_on.wait(30)

    channel.during_send = block
    thread = threading.Thread(target=iopub.post, args=[encoded("first")], daemon=True)
    looks = 0
    drain = iopub.drain

    def counted(*, wait: bool = False) -> None:
        nonlocal looks
        looks += 1
        drain(wait=wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(iopub.run_flusher)
        await trio.testing.wait_all_tasks_blocked()
        thread.start()
        assert sending.wait(30)
        iopub.post(encoded("second"))
        iopub.drain = counted  # type: ignore[method-assign]
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(iopub.limits.interval * 1.5)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert looks == 1
        go_on.set()
        thread.join(30)
        mock_clock.autojump_threshold = 0
        await trio.sleep(1)
        assert [one.msg_type for one in channel.messages()] == ["first", "second"]
        nursery.cancel_scope.cancel()


def _length(entry: StreamText | list[bytes]) -> int:
    return sum(map(len, entry.pieces if isinstance(entry, StreamText) else entry))


def test_a_flood_is_sent_before_it_fills_the_memory(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_bytes=4000)
    for length in (100, 2000):
        for _ in range(1000):
            iopub.write(TextKey(ONE, "stdout"), "x" * length)
            assert sum(map(_length, iopub.entries)) <= 4000
    assert channel.sent


async def test_a_stalled_subscriber_is_waited_for_and_loses_nothing_in_time(
    channel: FakeIOPub,
) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, interval=0.001)
    channel.stalled = True
    iopub.write(TextKey(ONE, "stdout"), "patience")
    async with trio.open_nursery() as nursery:
        flushed = trio.Event()

        async def flush() -> None:
            await iopub.flush()
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
    iopub = iopub_on(channel, budget_seconds=0.01, interval=0.001)
    channel.stalled = True
    iopub.write(TextKey(ONE, "stdout"), "lost for one")
    with trio.fail_after(30):
        await iopub.flush()
    assert channel.dropping == iopub._subscribers.dropped == 1
    assert "does not read its output" in caplog.text
    (notice,) = channel.beyond
    assert notice.parent_id == "one"
    assert "output dropped" in notice.content["text"]
    channel.stalled = False
    iopub.write(TextKey(ONE, "stdout"), "heard again")
    iopub.drain()
    assert channel.texts() == [("stdout", "heard again")]


def test_the_budget_counts_messages_too(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, budget_bytes=10_000)
    channel.stalled = True
    for _ in range(20):
        iopub.post(Codec().encode("display_data", {"x": "y" * 1000}, identities=[b"t"]))
    assert channel.dropping > 5
    assert iopub._size <= 11_000


def test_a_text_that_is_larger_than_the_budget_waits_for_who_reads(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, budget_bytes=10_000, max_merge=1000)
    channel.stalled = True
    iopub.write(TextKey(ONE, "stdout"), "x" * 30_000)
    iopub.drain()
    channel.stalled = False
    iopub.drain()
    assert channel.dropping == 0
    assert sum(len(text) for _, text in channel.texts()) == 30_000


def test_what_comes_on_top_of_a_text_that_is_larger_than_the_budget_is_bounded(
    channel: FakeIOPub,
) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, budget_bytes=10_000, max_merge=1000)
    channel.stalled = True
    iopub.write(TextKey(ONE, "stdout"), "x" * 30_000)
    for _ in range(20):
        iopub.post(Codec().encode("display_data", {"x": "y" * 1000}, identities=[b"t"]))
    assert channel.dropping > 0
    assert iopub._size <= 32_000


@pytest.mark.parametrize("bad", [[], ["no bytes"]])
def test_frames_that_cannot_be_sent_do_not_stay_in_the_way(
    channel: FakeIOPub, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(frames: Any = None) -> None:
        raise TypeError("not frames")

    iopub = iopub_on(channel)
    channel.during_send = refuse
    iopub.post(bad)
    iopub.write(TextKey(ONE, "stdout"), "goes on")
    iopub.write(TextKey(ONE, "\ud800"), "odd name")
    iopub.drain()
    assert channel.texts()[0] == ("stdout", "goes on")
    assert len(channel.sent) == 2
    assert "could not be sent" in caplog.text


def test_a_drain_sends_what_was_there_when_it_began(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel)
    iopub._flusher = RepeatedEvent()

    def another_thread_prints() -> None:
        iopub.entries.append(Codec().encode("display_data", {}, identities=[b"t"]))
        channel.during_send = another_thread_prints

    channel.during_send = another_thread_prints
    iopub.post(Codec().encode("display_data", {}, identities=[b"t"]))
    assert len(channel.sent) == 1
    assert iopub._flusher._is_set


async def test_a_cancelled_flush_keeps_the_queue(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0)
    channel.stalled = True
    iopub.write(TextKey(ONE, "stdout"), "kept")
    with trio.move_on_after(0.01) as scope:
        await iopub.flush()
    assert scope.cancelled_caught
    channel.stalled = False
    iopub.drain()
    assert channel.texts() == [("stdout", "kept")]


def test_a_post_never_waits_for_a_thread_that_sends(iopub: IOPub, channel: FakeIOPub) -> None:
    """Its caller may be a finalizer that runs while its thread holds the channel's lock."""

    def while_sending() -> None:
        thread = threading.Thread(target=iopub.post, args=([b"from the other", b""],))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    channel.during_send = while_sending
    iopub.post([b"first", b""])
    assert [frames[0] for frames in channel.sent] == [b"first", b"from the other"]


def test_who_waits_has_all_sent_also_by_another_thread(iopub: IOPub, channel: FakeIOPub) -> None:
    """So do those who call the user's code, which may keep the interpreter lock from it."""
    sending, go_on, sent = threading.Event(), threading.Event(), list[int]()

    def while_sending() -> None:
        sending.set()
        assert go_on.wait(30)

    def say_busy() -> None:
        iopub.post([b"busy", b""], hold=True)
        iopub.drain(wait=True)
        sent.append(len(channel.sent))

    channel.during_send = while_sending
    other = threading.Thread(target=iopub.post, args=([b"first", b""],))
    other.start()
    assert sending.wait(30)
    waiting = threading.Thread(target=say_busy)
    waiting.start()
    waiting.join(0.1)
    assert sent == []
    go_on.set()
    for thread in (other, waiting):
        thread.join(30)
    assert [frames[0] for frames in channel.sent] == [b"first", b"busy"]
    assert sent == [2]


def test_short_texts_that_are_appended_directly_are_merged_with_what_is_written(
    iopub: IOPub, channel: FakeIOPub
) -> None:
    opened = iopub.write(TextKey(ONE, "stdout"), "a")
    assert iopub.open_text is opened
    opened.pieces.append("b")
    iopub.write(TextKey(ONE, "stderr"), "c")
    assert iopub.open_text is not opened
    iopub.post(Codec().encode("status", {}, identities=[b"status"]))
    assert iopub.open_text is None
    iopub.write(TextKey(ONE, "stdout"), "d")
    iopub.drain()
    assert channel.texts() == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]
    assert [one.msg_type for one in channel.messages()] == ["stream", "stream", "status", "stream"]


def test_what_is_appended_as_the_text_is_sent_comes_behind_the_rest(
    iopub: IOPub, channel: FakeIOPub
) -> None:
    """By a thread that has looked whether it is open before, and appends after that."""
    opened = iopub.write(TextKey(ONE, "stdout"), "a")
    iopub.drain()
    opened.pieces.append("late")
    assert iopub.open_text is not opened
    iopub.requeue(opened)
    iopub.write(TextKey(ONE, "stdout"), "later")
    iopub.drain()
    assert channel.texts() == [("stdout", "a"), ("stdout", "latelater")]
    assert not iopub.is_full
    assert iopub._size == 0


def test_what_is_sent_in_the_middle_of_a_write_is_open_no_longer(
    iopub: IOPub, channel: FakeIOPub
) -> None:
    """By another thread, whose drain has begun before."""

    class Taken(deque[str]):
        def append(self, text: str) -> None:
            super().append(text)
            iopub.entries.clear()
            taken.append(iopub._take(opened))

    taken: list[str] = []
    opened = iopub.write(TextKey(ONE, "stdout"), "a")
    opened.pieces = Taken(opened.pieces)
    iopub.write(TextKey(ONE, "stdout"), "b")
    assert taken == ["ab"]
    assert iopub.open_text is None
    iopub.write(TextKey(ONE, "stdout"), "c")
    iopub.drain()
    assert channel.texts() == [("stdout", "c")]


def test_an_interrupt_never_keeps_the_lock_of_who_sends() -> None:
    lock = threading.RLock()
    seen: list[bool] = []

    class Lock:
        def acquire(self, timeout: float) -> bool:
            seen.append(trio.lowlevel.currently_ki_protected())
            return lock.acquire(timeout=timeout)

        def release(self) -> None:
            seen.append(trio.lowlevel.currently_ki_protected())
            lock.release()

    wait_until_free(Lock(), 0.05)
    assert seen == [True, True]


def test_who_is_called_in_the_middle_of_a_drain_waits_for_nobody(channel: FakeIOPub) -> None:
    """A callback of the collector's, in a thread: only that thread itself could make room."""
    iopub = iopub_on(channel, budget_bytes=16_000)
    waited: list[float] = []

    def callback() -> None:
        iopub.write(TextKey(TWO, "stdout"), "y" * 5000)
        begun = time.monotonic()
        iopub.wait_for_room(lambda: None)
        waited.append(time.monotonic() - begun)

    channel.during_send = callback
    thread = threading.Thread(target=iopub.write, args=(TextKey(ONE, "stdout"), "x" * 9000))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert waited


@pytest.mark.parametrize("lengths", [(1, 60_000), (60_000, 1), (500, 900), (70_000, 3, 200_000)])
def test_pieces_of_all_lengths_are_whole_and_in_order(
    iopub: IOPub, channel: FakeIOPub, lengths: tuple[int, ...]
) -> None:
    written = [f"{n % 10}" * length for n in range(300) for length in lengths]
    for text in written:
        iopub.write(TextKey(ONE, "stdout"), text)
    while iopub.entries:
        iopub.drain()
    assert "".join(text for _, text in channel.texts()) == "".join(written)
    assert max(len(text) for _, text in channel.texts()) <= iopub.limits.max_merge
    assert iopub._size == 0


def test_long_texts_are_cut_where_a_message_is_full(iopub: IOPub, channel: FakeIOPub) -> None:
    most = iopub.limits.max_merge
    iopub.write(TextKey(ONE, "stdout"), "x" * (2 * most + 10))
    iopub.drain()
    assert [len(text) for _, text in channel.texts()] == [most, most, 10]


async def test_text_is_not_appended_directly_while_a_stop_is_pending_or_after_a_flush(
    channel: FakeIOPub, autojump_clock: trio.testing.MockClock
) -> None:
    iopub = iopub_on(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(iopub.run_flusher)
        await trio.testing.wait_all_tasks_blocked()
        assert iopub.open_text is None
        iopub.write(TextKey(ONE, "stdout"), "x")
        assert iopub.open_text is not None
        iopub.note_stop_pending(True)
        iopub.write(TextKey(ONE, "stdout"), "y")
        assert iopub.open_text is None
        iopub.note_stop_pending(False)
        iopub.write(TextKey(ONE, "stdout"), "z")
        assert iopub.open_text is not None
        await trio.sleep(1)
        assert iopub.open_text is None
        assert channel.texts() == [("stdout", "xyz")]
        nursery.cancel_scope.cancel()


def test_who_writes_more_than_is_read_waits_until_there_is_room(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, budget_bytes=40_000)
    channel.stalled = True
    looked: list[int] = []
    iopub.write(TextKey(TWO, "stdout"), "first")
    iopub.drain()  # it waits for the subscriber, and all that follows waits behind it
    iopub.write(TextKey(ONE, "stdout"), "x" * 11_000)
    assert iopub.is_full
    call_unprotected(iopub.wait_for_room, lambda: looked.append(channel.waited))
    assert looked == [1, 2, 3]
    assert channel.texts() == [("stdout", "first"), ("stdout", "x" * 11_000)]


@pytest.mark.parametrize("how", ["protected", "finalizer", "inline"])
def test_who_may_not_wait_does_not(channel: FakeIOPub, how: str) -> None:
    iopub = IOPub(channel, Codec(), "", OutputLimits(16, 1, 4096, 60), may_block=how != "inline")  # type: ignore[arg-type]
    channel.stalled = True
    iopub.write(TextKey(TWO, "stdout"), "first")
    iopub.drain()
    iopub.write(TextKey(ONE, "stdout"), "x" * 3000)
    assert iopub.is_full

    def waits() -> None:
        iopub.wait_for_room(lambda: None)

    class Finalizer:
        def __del__(self) -> None:
            waits()

    if how == "finalizer":
        call_unprotected(Finalizer)
    elif how == "protected":
        trio.lowlevel.enable_ki_protection(waits)()
    else:
        call_unprotected(waits)
    assert channel.waited == 0


def test_an_interrupt_ends_the_wait_for_room(channel: FakeIOPub) -> None:
    iopub = iopub_on(channel, budget_seconds=60.0, budget_bytes=4096)
    channel.stalled = True
    iopub.write(TextKey(TWO, "stdout"), "first")
    iopub.drain()
    iopub.write(TextKey(ONE, "stdout"), "x" * 3000)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_unprotected(iopub.wait_for_room, interrupted)
    channel.stalled = False
    iopub.drain()
    assert channel.texts() == [("stdout", "first"), ("stdout", "x" * 3000)]


def test_what_threads_append_directly_is_whole_and_in_order_whoever_sends(
    channel: FakeIOPub,
) -> None:
    """Three threads write as `print` does, while others send, and post messages in between."""
    iopub = iopub_on(channel)
    iopub._flusher = RepeatedEvent()
    iopub.most_pieces = 5  # so that a text is full, and counted, again and again
    opened = iopub.write(TextKey(ONE, "stdout"), "")
    count, ended = 10_000, threading.Event()

    def write(writer: int) -> None:
        nonlocal opened
        for number in range(count):
            text, entry = f"{writer}:{number};", opened
            if iopub.open_text is entry and len(entry.pieces) < iopub.most_pieces:
                entry.pieces.append(text)
                if iopub.open_text is not entry:
                    iopub.requeue(entry)
            else:
                opened = iopub.write(TextKey(ONE, "stdout"), text)

    def send() -> None:
        while not ended.is_set():
            iopub.drain()

    def post() -> None:
        while not ended.is_set():
            iopub.post(Codec().encode("display_data", {}, identities=[b"t"]))
            ended.wait(0.0001)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        others = [threading.Thread(target=function) for function in (send, send, post)]
        for thread in (*writers, *others):
            thread.start()
        for thread in writers:
            thread.join()
        ended.set()
        for thread in others:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    while iopub.entries:
        iopub.drain(wait=True)
    pieces = "".join(text for _, text in channel.texts()).split(";")[:-1]
    for writer in range(3):
        own = [piece for piece in pieces if piece.startswith(f"{writer}:")]
        assert own == [f"{writer}:{number}" for number in range(count)]
    assert iopub._size == 0
