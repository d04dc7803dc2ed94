"""Frames that are sent and received without giving away the interpreter lock."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import zmq

from trikernel.transport import held_calls
from trikernel.transport.zmq_channel import ZmqChannel

MANY = 1000  # messages: one call in a hundred that lets go of the lock would show

pytestmark = pytest.mark.skipif(
    held_calls.HELD is None, reason="libzmq's functions cannot be called from here"
)


@contextmanager
def pair(**options: int) -> Iterator[tuple[ZmqChannel, ZmqChannel]]:
    """Two channels that are connected to each other."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[Any]] = [context.socket(zmq.PAIR) for _ in range(2)]
        for one in sockets:
            one.set(zmq.SNDHWM, options.get("mark", 0))
            one.set(zmq.RCVHWM, options.get("mark", 0))
            one.set(zmq.LINGER, 0)
        sockets[0].bind("inproc://pair")
        sockets[1].connect("inproc://pair")
        channels = [ZmqChannel("one", sockets[0]), ZmqChannel("other", sockets[1])]
        try:
            yield channels[0], channels[1]
        finally:
            for channel in channels:
                channel.close()


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or raises, in a thread beside this one."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def send_many(one: ZmqChannel) -> None:
    for _ in range(MANY):
        one.send_nowait([b"a", b"", b"c" * 500])


def receive_many(other: ZmqChannel) -> None:
    for _ in range(MANY):
        assert other.receive_nowait() == [b"a", b"", b"c" * 500]


@pytest.mark.parametrize("work", ["send", "receive"])
def test_who_waits_for_the_lock_gets_it_when_all_is_done(work: str) -> None:
    """With a switch interval of minutes: only who gives it away loses it."""
    order: list[str] = []
    go = threading.Event()
    interval = sys.getswitchinterval()
    with pair() as (one, other):
        if work == "receive":
            send_many(one)

        def beside() -> None:
            go.set()  # this thread is waited for no longer, but has the lock
            if work == "send":
                send_many(one)
            else:
                receive_many(other)
            order.append("done")

        thread = threading.Thread(target=beside)
        sys.setswitchinterval(300)
        try:
            thread.start()
            go.wait()
            order.append("waited")
            thread.join()
        finally:
            sys.setswitchinterval(interval)
    assert order == ["done", "waited"]


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\x00one", b"", b"x" * 100_000],
        [b"a", b"b" * ((1 << 16) - 1)],
        [b"a" * (1 << 16)],
        [bytes(range(256))] * 100,
    ],
)
def test_frames_are_the_same_by_every_way(frames: list[bytes]) -> None:
    with pair() as (one, other):
        for send in (lambda work: work(), in_a_thread):
            for receive in (lambda work: work(), in_a_thread):
                send(lambda: one.send_nowait(frames))
                assert receive(other.receive_nowait) == frames


def test_buffers_of_other_types_are_sent_as_they_are() -> None:
    views: list[Any] = [memoryview(b"abc"), bytearray(b"def")]
    with pair() as (one, other):
        in_a_thread(lambda: one.send_nowait(views))
        assert other.receive_nowait() == [b"abc", b"def"]


def test_a_full_queue_and_an_empty_one_are_told_as_ever() -> None:
    with pair(mark=1) as (one, other):
        assert isinstance(in_a_thread(other.receive_nowait), trio.WouldBlock)

        def fill() -> None:
            while True:
                one.send_nowait([b"a", b"b"])

        assert isinstance(in_a_thread(fill), trio.WouldBlock)
        assert in_a_thread(other.receive_nowait) == [b"a", b"b"]
        one.close()
        assert isinstance(in_a_thread(lambda: one.send_nowait([b"a"])), trio.ClosedResourceError)


def test_what_goes_wrong_is_zmqs_error() -> None:
    held = held_calls.Held()
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        address = int(socket.underlying)
        with pytest.raises(zmq.ZMQError) as caught:
            held.send(address, b"a", zmq.NOBLOCK)
        assert caught.value.errno == errno.EOPNOTSUPP
        with pytest.raises(zmq.Again):
            held.receive(address, zmq.NOBLOCK)


def test_without_the_library_it_is_as_with_pyzmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trikernel.transport.zmq_channel.HELD", None)
    with pair() as (one, other):
        in_a_thread(lambda: one.send_nowait([b"a", b"b"]))
        assert in_a_thread(other.receive_nowait) == [b"a", b"b"]


def test_another_backend_of_pyzmqs_has_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq.backend.cython._zmq", None)
    monkeypatch.delattr("zmq.backend.cython._zmq", raising=False)
    with pytest.raises(LookupError, match="libzmq's functions are not found"):
        held_calls.Held()
