"""What libzmq holds for a subscriber that does not read is bounded; who reads loses nothing."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import trio
import zmq

from trikernel.transport import ConnectionInfo, MemoryTransport, ZmqTransport
from trikernel.transport.high_water import LIMIT, MOST, START, HighWater

TIMEOUT = 60  # seconds
MB = 1_000_000


@contextmanager
def subscribed(*topics: bytes, receive_buffer: int = 0) -> Iterator[tuple[Any, Any]]:
    """An iopub channel, and a subscriber of it that has room for one message of its own."""
    with (
        ZmqTransport(ConnectionInfo(key="")) as transport,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        socket.set(zmq.RCVHWM, 1)
        socket.set(zmq.LINGER, 0)
        if receive_buffer:
            socket.set(zmq.RCVBUF, receive_buffer)
        socket.connect(transport.info.endpoint(transport.info.iopub_port))
        for topic in topics or (b"",):
            socket.subscribe(topic)
            receive_event(transport.iopub)
        yield transport.iopub, socket


def receive_event(channel: Any) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            channel.receive_nowait()
        except trio.WouldBlock:
            channel.wait_writable_blocking(0.05)
        else:
            return
    raise TimeoutError


def send(channel: Any, frames: list[bytes]) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            channel.send_nowait(frames)
        except trio.WouldBlock:
            channel.wait_writable_blocking(0.05)
        else:
            return
    raise TimeoutError(f"still full under a mark of {channel._high_water.mark}")


def send_until_full(channel: Any, frames: list[bytes]) -> int:
    """How many are taken until none was for half a second."""
    taken, quiet_since = 0, time.monotonic()
    while time.monotonic() - quiet_since < 0.5:
        try:
            channel.send_nowait(frames)
        except trio.WouldBlock:
            channel.wait_writable_blocking(0.05)
        else:
            taken, quiet_since = taken + 1, time.monotonic()
    return taken


def test_a_subscriber_that_does_not_read_costs_16_mb_of_1_mb_messages() -> None:
    with subscribed(receive_buffer=1 << 16) as (channel, _socket):
        assert send_until_full(channel, [b"display", bytes(MB)]) <= 16


def test_larger_messages_are_fewer() -> None:
    with subscribed(receive_buffer=1 << 16) as (channel, _socket):
        assert send_until_full(channel, [b"display", bytes(20 * MB)]) <= 8
        assert channel._high_water.mark <= START // 2


def test_small_messages_have_the_room_of_many() -> None:
    with subscribed(receive_buffer=1 << 16) as (channel, _socket):
        assert send_until_full(channel, [b"stream", bytes(100)]) >= MOST


def test_who_has_read_everything_is_not_taken_for_full_by_a_lower_mark() -> None:
    """libzmq knows of what was read only now and then: see the module."""
    for before in (1, 7, 15, 63, 100, 127, 300):
        with subscribed() as (channel, socket):
            for number in range(before):
                send(channel, [b"small", b"%d" % number])
            for number in range(before):
                assert socket.recv_multipart() == [b"small", b"%d" % number]
            for number in range(12):
                send(channel, [b"large", b"%d" % number, bytes(5 * MB)])
                assert socket.recv_multipart()[:2] == [b"large", b"%d" % number]


def test_nothing_is_lost_to_readers_whatever_the_sizes() -> None:
    chance = random.Random(13)
    with subscribed() as (channel, socket):
        received: list[bytes] = []

        def read() -> None:
            while (frames := socket.recv_multipart())[0] != b"end":
                received.append(frames[1])

        reader = threading.Thread(target=read)
        reader.start()
        count = 0
        for _ in range(60):
            size = chance.choice([10, 600, 9000, 65_000, MB, 9 * MB])
            for _ in range(min(chance.choice([1, 2, 5, 40, 300]), 1 + 30 * MB // size)):
                send(channel, [b"output", b"%d" % count, bytes(size)])
                count += 1
        send(channel, [b"end"])
        reader.join(TIMEOUT)
        assert received == [b"%d" % number for number in range(count)]


def test_a_stalled_subscriber_gets_the_rest_when_it_reads_again() -> None:
    with subscribed(receive_buffer=1 << 16) as (channel, socket):
        taken = send_until_full(channel, [b"display", bytes(MB)])
        for _ in range(taken):
            assert socket.poll(TIMEOUT * 1000)
            socket.recv_multipart()
        for number in range(3 * MOST):
            send(channel, [b"stream", b"%d" % number])
            assert socket.recv_multipart() == [b"stream", b"%d" % number]


def test_a_notice_reaches_one_whose_queue_is_longer_than_a_lowered_mark() -> None:
    with subscribed(receive_buffer=4096) as (channel, socket):
        taken = send_until_full(channel, [b"stream", bytes(20_000)])
        before = channel._high_water.mark
        with pytest.raises(trio.WouldBlock):
            channel.send_nowait([b"display", bytes(7 * MB)])
        assert channel._high_water.mark < before
        channel.send_beyond([b"notice"])
        for _ in range(taken):
            assert socket.poll(TIMEOUT * 1000)
            assert socket.recv_multipart()[0] == b"stream"
        assert socket.poll(TIMEOUT * 1000)
        assert socket.recv_multipart() == [b"notice"]


def test_one_that_takes_some_topics_only_is_not_taken_for_full() -> None:
    with subscribed(b"stream") as (channel, socket):
        for number in range(200):
            send(channel, [b"stream", b"%d" % number])
            send(channel, [b"display", bytes(5 * MB)])
            assert socket.recv_multipart() == [b"stream", b"%d" % number]
        send(channel, [b"stream", bytes(20 * MB)])
        assert len(socket.recv_multipart()[1]) == 20 * MB


def test_room_ends_a_blocking_wait() -> None:
    with subscribed(receive_buffer=1 << 16) as (channel, socket):
        taken = send_until_full(channel, [b"display", bytes(MB)])
        reader = threading.Timer(0.1, lambda: [socket.recv() for _ in range(2 * taken)])
        reader.start()
        end = time.monotonic() + TIMEOUT
        waits = 0
        while time.monotonic() < end:
            channel.wait_writable_blocking(TIMEOUT)
            waits += 1
            with suppress(trio.WouldBlock):
                channel.send_nowait([b"display", bytes(MB)])
                break
        reader.join()
        assert time.monotonic() < end
        assert waits < 50


def test_a_blocking_wait_lets_a_signal_handler_raise_and_holds_no_lock() -> None:
    if sys.platform == "win32":
        pytest.skip("no such timer there")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with subscribed(receive_buffer=1 << 16) as (channel, _socket):
        send_until_full(channel, [b"display", bytes(MB)])
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(trio.WouldBlock):
                channel.send_nowait([b"display", bytes(MB)])
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                channel.wait_writable_blocking(TIMEOUT)
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(trio.WouldBlock):
            channel.send_nowait([b"display", bytes(MB)])
        free = threading.Thread(target=channel.wait_writable_blocking, args=(0.01,))
        free.start()
        free.join(TIMEOUT)
        assert not free.is_alive()


def test_in_memory_there_is_always_room() -> None:
    transport = MemoryTransport()
    transport.connect()
    started = time.monotonic()
    transport.iopub.wait_writable_blocking(TIMEOUT)
    assert time.monotonic() - started < TIMEOUT / 2


class Pipe:
    """libzmq's two ends of a queue, as far as marks go: one writes, one reads and tells of it."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.written = self.read = self.heard = 0
        self.mark = START

    def write(self, size: int) -> bool:
        if self.written - self.heard >= self.mark:
            return False
        self.written += 1
        self.held.append(size)
        return True

    def take(self) -> None:
        if self.held:
            self.held.pop(0)
            self.read += 1
            if self.read % ((self.mark + 1) // 2) == 0:
                self.heard = self.read


@pytest.mark.parametrize("seed", range(30))
def test_by_the_rules_of_libzmq_an_empty_queue_takes_every_message(seed: int) -> None:
    chance, pipe = random.Random(seed), Pipe()
    high_water = HighWater(lambda mark: setattr(pipe, "mark", mark))
    for _ in range(300):
        size = chance.choice([10, 600, 9000, 1 << 16, MB, 9 * MB])
        reads = chance.random() < 0.7
        for _ in range(chance.choice([1, 3, 30, 300])):
            high_water.count(size)
            sent = pipe.write(size)
            while not sent and high_water.raise_mark():
                sent = pipe.write(size)
            assert sent or pipe.held
            if not sent:
                high_water.count_back()
            if reads or not sent:
                while pipe.held:
                    pipe.take()
            assert len(pipe.held) <= MOST
            if len(pipe.held) > MOST // 2:
                assert sum(pipe.held) <= 2 * LIMIT + max(pipe.held)
