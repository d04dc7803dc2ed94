"""Waiting on a socket's file descriptor, and awaiting zmq-anyio's Future, side by side.

Echo over tcp, client and kernel in one loop: what trikernel does, and what it would be to receive
through zmq-anyio's Futures (here by `ZmqAnyioTransport`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import zmq
import zmq_anyio

from trikernel.transport import (
    ClientTransport,
    ConnectionInfo,
    Transport,
    ZmqClientTransport,
    ZmqTransport,
    receive,
)
from trikernel.transport.zmq_anyio import ZmqAnyioTransport

__all__ = ["measure_transports"]

COUNT = 2000
Answer = Callable[[], Awaitable[None]]


@asynccontextmanager
async def descriptor() -> AsyncIterator[tuple[Transport, ClientTransport]]:
    with (
        ZmqTransport(ConnectionInfo()) as transport,
        ZmqClientTransport(transport.info, identity=b"me") as client,
    ):
        yield transport, client


@asynccontextmanager
async def future() -> AsyncIterator[tuple[Transport, ClientTransport]]:
    context = zmq.Context()
    sockets = [zmq_anyio.Socket(context, kind) for kind in (zmq.ROUTER,) * 3 + (zmq.XPUB,)]
    async with trio.open_nursery() as nursery:
        for socket in sockets:
            socket.bind("tcp://127.0.0.1:*")
            await nursery.start(socket.start)
        shell, control, stdin, iopub = sockets
        transport = ZmqAnyioTransport(shell=shell, control=control, stdin=stdin, iopub=iopub)
        ports = transport.ports
        info = ConnectionInfo(
            shell_port=ports["shell_port"],
            iopub_port=ports["iopub_port"],
            stdin_port=ports["stdin_port"],
            control_port=ports["control_port"],
        )
        with ZmqClientTransport(info, identity=b"me") as client:
            yield transport, client
        for socket in sockets:
            socket.close(linger=0)
        nursery.cancel_scope.cancel()
    context.term()


async def ping_pong(transport: Transport, client: ClientTransport) -> tuple[float, float]:
    """The median of a round trip in microseconds, and queued messages per second."""
    channel = transport.shell[0]

    async def echo() -> None:
        while True:
            channel.send_nowait(await receive(channel))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        times = []
        for _ in range(COUNT):
            begun = time.perf_counter()
            client.shell.send_nowait([b"ping"])
            await receive(client.shell)
            times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for _ in range(COUNT):
            client.shell.send_nowait([b"ping"])
        for _ in range(COUNT):
            await receive(client.shell)
        rate = COUNT / (time.perf_counter() - begun)
        nursery.cancel_scope.cancel()
    return statistics.median(times) * 1e6, rate


def measure_transports() -> dict[str, float]:
    """zmq-anyio's round trip and rate as ratios to ours: medians of five interleaved rounds."""

    async def once(name: str) -> tuple[float, float]:
        async with (descriptor if name == "descriptor" else future)() as (transport, client):
            return await ping_pong(transport, client)

    names = ("descriptor", "future")
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(5):
        for name in names:
            rows[name].append(trio.run(once, name))
    median = {
        name: [statistics.median(one[index] for one in rows[name]) for index in (0, 1)]
        for name in names
    }
    ours, theirs = median["descriptor"], median["future"]
    return {
        "round_trip": ours[0],
        "round_trip_future": theirs[0] / ours[0],
        "messages": ours[1],
        "messages_future": ours[1] / theirs[1],
    }
