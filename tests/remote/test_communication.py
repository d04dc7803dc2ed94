"""The communication port, by itself: what comes over connections becomes orders, or nothing."""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trikernel.errors import WireError
from trikernel.remote import CommunicationPort, Order, read_order
from trikernel.remote.communication import LARGEST, MOST, TIMEOUT, Network
from trikernel.remote.launch import bind_communication

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Listener(trio.abc.Listener[Stream]):
    """In memory: `connect` is the other side. `faults` are raised first, one by one."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Stream](1000)
        self.faults: list[OSError] = []

    async def accept(self) -> Stream:
        if self.faults:
            await trio.lowlevel.checkpoint()
            raise self.faults.pop()
        return await self._receive.receive()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def connect(self, breaks: Exception | None = None) -> Stream:
        """A connection; at the kernel's end receiving from it raises ``breaks``, if given."""
        ours, theirs = trio.testing.memory_stream_pair()

        async def break_off() -> None:
            await trio.lowlevel.checkpoint()
            if breaks is not None:
                raise breaks

        theirs.receive_stream.receive_some_hook = break_off
        self._send.send_nowait(theirs)
        return ours


class Port:
    """A communication port in memory, and what it has ordered."""

    def __init__(self, *trusted: Network) -> None:
        self.listener = Listener()
        self.orders: list[Order] = []
        self.never_bound = socket.socket()
        self.port = CommunicationPort(self.never_bound, trusted)

    async def run(self) -> None:
        await self.port.accept(self.listener, lambda order, peer: self.orders.append(order))

    async def send(self, data: bytes) -> None:
        async with self.listener.connect() as stream:
            await stream.send_all(data)


@asynccontextmanager
async def opened(*trusted: Network) -> AsyncIterator[Port]:
    port = Port(*trusted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run)
        yield port
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    port.never_bound.close()


@pytest.mark.parametrize(
    ("data", "order"),
    [
        (b'{"signum": 2}', Order(2)),
        (b'{"signum": 0}', Order(0)),
        (b'{"shutdown": 1}', Order(shutdown=True)),
        (b'{"shutdown": true, "more": [1]}', Order(shutdown=True)),
        (b'{"signum": 15, "shutdown": 0}', Order(15)),
        (b'{"signum": null, "shutdown": 1}', Order(None, True)),
    ],
)
def test_an_order_is_read(data: bytes, order: Order) -> None:
    assert read_order(data) == order


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{", "json"),
        (b"\xff\xfe", "json"),
        (b"[" * LARGEST, "json"),
        (b"[]", "json"),
        (b"2", "json"),
        (b"{}", "order"),
        (b'{"signum": "2"}', "order"),
        (b'{"signum": 1.5}', "order"),
        (b'{"signum": true}', "order"),
        (b'{"signum": NaN}', "order"),
        (b'{"shutdown": "no"}', "order"),
        (b'{"shutdown": 2}', "order"),
        (b'{"shutdown": []}', "order"),
    ],
)
def test_what_is_no_order_is_refused(data: bytes, kind: str) -> None:
    with pytest.raises(WireError) as caught:
        read_order(data)
    assert caught.value.kind == kind


@given(st.binary(max_size=LARGEST) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["signum", "shutdown"]) | st.text(), inner
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_at_all_is_an_order_or_refused(data: bytes) -> None:
    try:
        order = read_order(data)
    except WireError:
        return
    assert isinstance(order, Order)


async def test_orders_come_in_pieces_and_one_after_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        await port.send(b'{"signum": 0}')
        async with port.listener.connect() as stream:
            for byte in b'{"signum": 2}':
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert port.orders == [Order(0), Order(2)]
        assert not port.port.refused


async def test_a_connection_that_says_nothing_is_no_fault(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        await port.send(b"")
        await trio.testing.wait_all_tasks_blocked()
        assert (port.orders, dict(port.port.refused)) == ([], {})


@pytest.mark.parametrize(
    ("data", "kind"), [(b"{" * (LARGEST + 1), "too long"), (b"GET / HTTP/1.1\r\n\r\n", "json")]
)
async def test_nonsense_is_counted_and_the_next_order_heard(
    autojump_clock: trio.testing.MockClock,
    data: bytes,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as port:
        with caplog.at_level(logging.WARNING, "trikernel"):
            for _ in range(20):
                await port.send(data)
                await trio.testing.wait_all_tasks_blocked()
        await port.send(b'{"signum": 2}')
        await trio.testing.wait_all_tasks_blocked()
        assert port.orders == [Order(2)]
        assert dict(port.port.refused) == {kind: 20}
        assert len(caplog.records) == 1


async def test_an_endless_order_is_read_no_further_than_its_bound(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        async with port.listener.connect() as stream:
            await stream.send_all(b" " * 1000 * LARGEST)
            assert await stream.receive_some() == b""
        assert dict(port.port.refused) == {"too long": 1}
        assert trio.current_time() == pytest.approx(0)


async def test_who_never_ends_its_order_is_left_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        started = trio.current_time()
        async with port.listener.connect() as stream:
            await stream.send_all(b'{"signum"')
            assert await stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(TIMEOUT)
        assert dict(port.port.refused) == {"late": 1}


async def test_many_who_say_nothing_do_not_keep_an_order_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        silent = [port.listener.connect() for _ in range(10 * MOST)]
        await port.send(b'{"shutdown": 1}')
        await trio.testing.wait_all_tasks_blocked()
        assert port.orders == [Order(shutdown=True)]
        assert trio.current_time() == pytest.approx(0)
        assert port.port.refused["late"] == 9 * MOST + 1
        for stream in silent:
            await stream.aclose()


async def test_a_peer_that_breaks_off_is_no_fault(autojump_clock: trio.testing.MockClock) -> None:
    async with opened() as port:
        stream = port.listener.connect(breaks=trio.BrokenResourceError("reset"))
        await stream.send_all(b'{"signum"')
        await port.send(b'{"signum": 2}')
        await trio.testing.wait_all_tasks_blocked()
        assert (port.orders, dict(port.port.refused)) == ([Order(2)], {})


async def test_a_process_without_a_descriptor_left_accepts_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened() as port:
        port.listener.faults += [OSError(errno.EMFILE, "too many open files")] * 3
        await port.send(b'{"signum": 2}')  # the first one is accepted by who waits already
        await port.send(b'{"signum": 15}')
        await trio.sleep(1)
        assert port.orders == [Order(2), Order(15)]


async def test_a_listener_that_breaks_ends_the_port_and_nothing_else() -> None:
    port = Port()
    port.listener.faults.append(OSError(errno.EBADF, "bad descriptor"))
    with port.never_bound, trio.fail_after(30):
        await port.run()  # it returns


async def test_only_those_are_heard_who_are_trusted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(ipaddress.ip_network("10.0.0.0/8")) as port:
        await port.send(b'{"signum": 2}')  # in memory nobody has an address
        await trio.testing.wait_all_tasks_blocked()
        assert (port.orders, dict(port.port.refused)) == ([], {"stranger": 1})


@pytest.mark.parametrize(("trusted", "heard"), [("127.0.0.0/8", 1), ("10.0.0.1", 0), ("::1", 0)])
async def test_trust_goes_by_the_address_of_a_connection(trusted: str, heard: int) -> None:
    orders: list[tuple[Order, str]] = []
    with bind_communication("127.0.0.1", None) as listening, trio.fail_after(30):
        port = CommunicationPort(listening, [ipaddress.ip_network(trusted)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.serve, lambda order, peer: orders.append((order, peer)))
            stream = await trio.open_tcp_stream("127.0.0.1", listening.getsockname()[1])
            with trio.move_on_after(30):
                try:
                    await stream.send_all(b'{"signum": 2}')
                    await stream.send_eof()
                    await stream.receive_some()  # until it is closed
                except trio.BrokenResourceError:
                    pass
            await stream.aclose()
            nursery.cancel_scope.cancel()
    assert orders == [(Order(2), "127.0.0.1")] * heard
    assert port.refused.total() == 1 - heard


async def test_it_is_served_again_after_its_loop_was_lost() -> None:
    orders: list[Order] = []
    with bind_communication("127.0.0.1", None) as listening, trio.fail_after(30):
        port = CommunicationPort(listening)
        for number in (2, 15):
            async with trio.open_nursery() as nursery:
                heard = trio.Event()

                def obey(order: Order, peer: str, heard: trio.Event = heard) -> None:
                    orders.append(order)
                    heard.set()

                async with await trio.open_tcp_stream(*listening.getsockname()) as stream:
                    await stream.send_all(b'{"signum": %d}' % number)
                nursery.start_soon(port.serve, obey)  # it was in the system's queue meanwhile
                await heard.wait()
                nursery.cancel_scope.cancel()
    assert orders == [Order(2), Order(15)]


async def test_a_socket_that_the_users_code_has_closed_ends_the_port_only() -> None:
    listening = bind_communication("127.0.0.1", None)
    port = CommunicationPort(listening)
    listening.close()
    with trio.fail_after(30):
        await port.serve(lambda order, peer: None)


def test_a_forked_child_lets_go_of_the_port() -> None:
    listening = bind_communication("127.0.0.1", None)
    address = listening.getsockname()
    CommunicationPort(listening).after_fork()
    with socket.socket() as one:
        assert one.connect_ex(address) == errno.ECONNREFUSED
