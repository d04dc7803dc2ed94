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
from trikernel.transport.zmq_transport import IOPUB_HWM

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
    raise TimeoutError(f"still full under a mark of {IOPUB_HWM}")


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
        for number in range(3 * IOPUB_HWM):
            send(channel, [b"stream", b"%d" % number])
            assert socket.recv_multipart() == [b"stream", b"%d" % number]


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
