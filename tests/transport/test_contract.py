"""What every transport promises, run over all of them."""

from __future__ import annotations

import gc
import os
import random
import select
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Any

import pytest
import trio
import zmq
import zmq_anyio

from trikernel.errors import PeerGone
from trikernel.transport import (
    ClientTransport,
    ConnectionInfo,
    MemoryTransport,
    Transport,
    ZmqClientTransport,
    ZmqTransport,
    receive,
)
from trikernel.transport.zmq_anyio import ZmqAnyioTransport

TIMEOUT = 60
Connect = Callable[[bytes], ClientTransport]
Opened = tuple[Transport, Connect]


@asynccontextmanager
async def open_memory(path: Any) -> AsyncIterator[Opened]:
    transport = MemoryTransport(key=b"k")
    yield transport, lambda identity: transport.connect(identity=identity)
    transport.close()


@asynccontextmanager
async def open_zmq(path: Any, info: ConnectionInfo | None = None) -> AsyncIterator[Opened]:
    clients: list[ZmqClientTransport] = []
    with ZmqTransport(info or ConnectionInfo()) as transport:

        def connect(identity: bytes) -> ClientTransport:
            clients.append(ZmqClientTransport(transport.info, identity=identity))
            return clients[-1]

        try:
            yield transport, connect
        finally:
            for client in clients:
                client.close()


@asynccontextmanager
async def open_ipc(path: Any) -> AsyncIterator[Opened]:
    async with open_zmq(path, ConnectionInfo(transport="ipc", ip=str(path / "k"))) as opened:
        yield opened


@asynccontextmanager
async def open_hosted(path: Any) -> AsyncIterator[Opened]:
    """Sockets that this test, as the host, owns."""
    context = zmq.Context()
    clients: list[ZmqClientTransport] = []
    kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.XPUB}
    sockets = {name: zmq_anyio.Socket(context, kind) for name, kind in kinds.items()}
    for name, socket in sockets.items():
        if name == "stdin":
            socket.set(zmq.ROUTER_MANDATORY, 1)
        if name == "iopub":
            socket.set(zmq.XPUB_VERBOSE, 1)
        else:
            socket.set(zmq.ROUTER_HANDOVER, 1)
            socket.set(zmq.SNDHWM, 0)
        socket.bind("tcp://127.0.0.1:*")
    async with trio.open_nursery() as nursery:
        for socket in sockets.values():
            await nursery.start(socket.start)
        transport = ZmqAnyioTransport(
            shell=sockets["shell"],
            control=sockets["control"],
            stdin=sockets["stdin"],
            iopub=sockets["iopub"],
        )
        info = ConnectionInfo(key="", **transport.ports)  # type: ignore[arg-type]

        def connect(identity: bytes) -> ClientTransport:
            clients.append(ZmqClientTransport(info, identity=identity))
            return clients[-1]

        try:
            yield transport, connect
        finally:
            transport.close()
            for client in clients:
                client.close()
            for socket in sockets.values():
                socket.close(linger=0)
            nursery.cancel_scope.cancel()
    context.term()


OPEN: dict[str, Callable[[Any], AbstractAsyncContextManager[Opened]]] = {
    "memory": open_memory,
    "tcp": open_zmq,
    "ipc": open_ipc,
    "zmq-anyio": open_hosted,
}


@pytest.fixture(params=OPEN)
def opening(
    request: pytest.FixtureRequest, tmp_path: Any
) -> Callable[[], AbstractAsyncContextManager[Opened]]:
    if request.param == "ipc" and sys.platform == "win32":
        pytest.skip("libzmq has no ipc on Windows")
    return lambda: OPEN[request.param](tmp_path)


Opening = Callable[[], AbstractAsyncContextManager[Opened]]


async def echo(transport: Transport, send: Callable[[list[bytes]], Any]) -> None:
    """A kernel's receiver as the core has it: drain, then wait."""
    channel = transport.shell[0]
    while True:
        await channel.wait_readable()
        while True:
            try:
                frames = channel.receive_nowait()
            except trio.WouldBlock:
                break
            send(frames)


async def in_time(awaitable: Awaitable[Any]) -> Any:
    with trio.fail_after(TIMEOUT):
        return await awaitable


async def test_a_message_arrives_with_its_peers_identity_and_is_answered(opening: Opening) -> None:
    async with opening() as (transport, connect):
        client = connect(b"me")
        client.shell.send_nowait([b"a", b"", b"c"])
        assert await in_time(receive(transport.shell[0])) == [b"me", b"a", b"", b"c"]
        transport.shell[0].send_nowait([b"me", b"answer"])
        assert await in_time(receive(client.shell)) == [b"answer"]


def sent(channel: Any, frames: list[bytes]) -> bool:
    """False while the queue is full: libzmq's own thread, or who reads, has not had its turn."""
    try:
        channel.send_nowait(frames)
    except trio.WouldBlock:
        return False
    return True


async def send(channel: Any, frames: list[bytes]) -> None:
    while not sent(channel, frames):  # noqa: ASYNC110  # a socket has no event for that
        await trio.sleep(0.0005)


@pytest.mark.promise(1)
@pytest.mark.parametrize("sender", ["task", "thread"])
async def test_a_burst_is_answered_whole_when_replies_go_out_elsewhere(
    opening: Opening, sender: str
) -> None:
    """Any call on a zmq socket may eat the edge that the receiver waits for."""
    count = 5000
    async with opening() as (transport, connect):
        client = connect(b"me")
        to_send, to_reply = trio.open_memory_channel[list[bytes]](count)
        stop = threading.Event()
        waiting: list[list[bytes]] = []

        async def reply_from_a_task() -> None:
            async for frames in to_reply:
                await send(transport.shell[0], frames)

        def reply_from_a_thread() -> None:
            while not stop.is_set():
                while waiting and sent(transport.shell[0], waiting[0]):
                    del waiting[0]
                stop.wait(0.0005)

        thread = threading.Thread(target=reply_from_a_thread)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply_from_a_task)
            thread.start()
            hand_over = to_send.send_nowait if sender == "task" else waiting.append
            nursery.start_soon(echo, transport, hand_over)

            async def ask() -> None:
                for number in range(count):
                    await send(client.shell, [b"%d" % number])
                    if number % 50 == 0:
                        await trio.lowlevel.checkpoint()

            nursery.start_soon(ask)
            answers: list[bytes] = []
            try:
                with trio.fail_after(TIMEOUT):
                    while len(answers) < count:
                        answers += await receive(client.shell)
            finally:
                stop.set()
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(thread.join)
        assert answers == [b"%d" % number for number in range(count)]


async def test_nothing_is_lost_when_waiting_receivers_are_cancelled_at_random_times(
    opening: Opening,
) -> None:
    count, chance = 300, random.Random(7)
    async with opening() as (transport, connect):
        client = connect(b"me")
        client.shell.send_nowait([b"first"])
        await in_time(receive(transport.shell[0]))
        # zmq-anyio's own reader ends and starts a task per event: count when it has settled
        await trio.testing.wait_all_tasks_blocked(0.01)
        tasks = trio.lowlevel.current_statistics().tasks_living
        received: list[bytes] = []
        cancelled = 0
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                for number in range(count):
                    client.shell.send_nowait([b"%d" % number])
                    await trio.sleep(chance.random() * 0.002)

            nursery.start_soon(ask)
            with trio.fail_after(TIMEOUT):
                while len(received) < count:
                    with trio.move_on_after(chance.random() * 0.002) as scope:
                        received.append((await receive(transport.shell[0]))[1])
                    cancelled += scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert received == [b"%d" % number for number in range(count)]
        assert cancelled > 20
        assert trio.lowlevel.current_statistics().tasks_living <= tasks


async def test_closing_wakes_a_waiting_receiver(opening: Opening) -> None:
    async with opening() as (transport, _connect):
        channel = transport.control
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await receive(channel)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            channel.close()
        with pytest.raises(trio.ClosedResourceError):
            channel.send_nowait([b"me", b"late"])
        with pytest.raises(trio.ClosedResourceError):
            channel.receive_nowait()
        channel.close()


async def test_a_64_mib_frame_goes_both_ways(opening: Opening) -> None:
    frame = bytes(64 << 20)
    async with opening() as (transport, connect):
        client = connect(b"me")
        client.shell.send_nowait([b"head", frame])
        assert await in_time(receive(transport.shell[0])) == [b"me", b"head", frame]
        transport.shell[0].send_nowait([b"me", frame, b"tail"])
        assert await in_time(receive(client.shell)) == [frame, b"tail"]


async def test_iopub_reports_each_subscription_and_reaches_every_subscriber(
    opening: Opening,
) -> None:
    async with opening() as (transport, connect):
        clients = [connect(b"a"), connect(b"b")]
        for _ in clients:
            assert await in_time(receive(transport.iopub)) == [b"\x01"]
        for number in range(100):
            transport.iopub.send_nowait([b"topic", b"%d" % number])
        for client in clients:
            for number in range(100):
                assert await in_time(receive(client.iopub)) == [b"topic", b"%d" % number]
        transport.iopub.send_dropping([b"topic", b"last"])
        assert await in_time(receive(clients[0].iopub)) == [b"topic", b"last"]


async def test_stdin_minds_an_absent_peer(opening: Opening) -> None:
    async with opening() as (transport, _connect):
        with pytest.raises(PeerGone):
            transport.stdin.send_nowait([b"nobody", b"question"])


async def test_a_new_client_of_the_same_identity_takes_over(opening: Opening) -> None:
    async with opening() as (transport, connect):
        old = connect(b"me")
        old.shell.send_nowait([b"old"])
        await in_time(receive(transport.shell[0]))
        new = connect(b"me")
        new.shell.send_nowait([b"new"])
        await in_time(receive(transport.shell[0]))
        transport.shell[0].send_nowait([b"me", b"answer"])
        assert await in_time(receive(new.shell)) == [b"answer"]


async def test_only_one_task_waits_on_a_channel(opening: Opening) -> None:
    async with opening() as (transport, _connect):
        if isinstance(transport, ZmqAnyioTransport):
            return  # zmq-anyio queues its waiters itself
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.control.wait_readable)
            await trio.testing.wait_all_tasks_blocked(0.01)
            with pytest.raises(trio.BusyResourceError):
                await transport.control.wait_readable()
            nursery.cancel_scope.cancel()


@contextmanager
def no_descriptor_leaks() -> Any:
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        yield
        return
    gc.collect()
    before = len(os.listdir(folder))
    yield
    gc.collect()
    assert len(os.listdir(folder)) <= before


async def test_opening_and_closing_leaks_no_descriptor(opening: Opening) -> None:
    async def once() -> None:
        async with opening() as (transport, connect):
            client = connect(b"me")
            client.shell.send_nowait([b"x"])
            with trio.move_on_after(0.001):
                await receive(transport.control)
            await in_time(receive(transport.shell[0]))

    await once()
    with no_descriptor_leaks():
        for _ in range(10):
            await once()


async def test_a_send_between_looking_and_parking_loses_no_wakeup() -> None:
    with (
        ZmqTransport(ConnectionInfo()) as transport,
        ZmqClientTransport(transport.info, identity=b"me") as client,
    ):
        channel = transport.shell[0]
        with trio.fail_after(TIMEOUT):
            for text in (b"one", b"two"):
                client.shell.send_nowait([text])
                if text == b"one":
                    await receive(channel)
                    with pytest.raises(trio.WouldBlock):
                        channel.receive_nowait()
            select.select([channel._fd], [], [], TIMEOUT)
            channel.send_nowait([b"me", b"reply"])  # eats the edge, as another thread may
            await channel.wait_readable()
            assert channel.receive_nowait() == [b"me", b"two"]


async def test_a_frame_that_is_none_leaves_nothing_half_sent() -> None:
    with (
        ZmqTransport(ConnectionInfo()) as transport,
        ZmqClientTransport(transport.info, identity=b"me") as client,
    ):
        channel = transport.shell[0]
        with trio.fail_after(TIMEOUT):
            client.shell.send_nowait([b"hello"])
            await receive(channel)
            with pytest.raises(TypeError):
                channel.send_nowait([b"me", b"part", None])  # type: ignore[list-item]
            channel.send_nowait([b"me", b"whole"])
            assert await receive(client.shell) == [b"whole"]


class Garbage:
    """A circle, so that the collector finds it, which then sends."""

    def __init__(self, send: Callable[[], None]) -> None:
        self.me, self.send, self.rest = self, send, [[] for _ in range(300)]  # type: ignore[var-annotated]

    def __del__(self) -> None:
        self.send()


async def test_a_finalizer_may_send_while_the_receiver_parks() -> None:
    transport = MemoryTransport()
    client, channel = transport.connect(identity=b"me"), transport.shell[0]
    received = 0

    async def receiver() -> None:
        nonlocal received
        while True:
            with suppress(trio.WouldBlock):
                while True:
                    channel.receive_nowait()
                    received += 1
            Garbage(lambda: client.shell.send_nowait([b"x"]))
            await channel.wait_readable()

    for _ in range(3000):  # the collector comes when it likes; a few hundred are enough
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver)
            for _ in range(2):
                await trio.lowlevel.checkpoint()
                Garbage(lambda: client.shell.send_nowait([b"x"]))
            nursery.cancel_scope.cancel()
    assert received > 200
