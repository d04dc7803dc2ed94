"""What the way costs in which kernel and client come together: the handshake, and encryption.

Each is beside the classic way, in turns, so that a machine that is busy with something else is it
for both.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from trikernel.client import Client, connect, open_kernel
from trikernel.transport import ConnectionInfo, Registrar

from .environments import ROOT

__all__ = ["measure_connections"]

STARTS, TURNS, EXECUTES = 4, 10, 50
LARGE = "from IPython.display import display; display({'text/plain': 'x' * (1 << 25)}, raw=True)"


def measure_connections(rounds: int) -> dict[str, float]:
    """Ratios: of starts to a first cell, and of cells, encrypted over plain."""
    execute, large = trio.run(_encryption)
    return {
        "handshake_start": trio.run(_starts, STARTS * rounds),
        "curve_execute": execute,
        "curve_large": large,
    }


async def _starts(count: int) -> float:
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * count):
        handshake = bool(number % 2) is bool(number // 2 % 2)  # each is first in every other turn
        begun = time.perf_counter()
        async with open_kernel(handshake=handshake, env={"PYTHONPATH": str(ROOT)}) as client:
            await client.execute("1")
            times[handshake].append(time.perf_counter() - begun)
    return statistics.median(times[True]) / statistics.median(times[False])


async def _encryption() -> tuple[float, float]:
    times: dict[str, dict[str, list[float]]] = {"1": {}, LARGE: {}}
    async with (
        _kernel(ConnectionInfo()) as plain,
        _kernel(ConnectionInfo().encrypted()) as encrypted,
    ):
        clients = {"plain": plain, "encrypted": encrypted}
        for number in range(TURNS):
            for code, repeats in (("1", EXECUTES), (LARGE, 1)):
                for name in sorted(clients, reverse=bool(number % 2)):
                    found = times[code].setdefault(name, [])
                    for _ in range(repeats):
                        begun = time.perf_counter()
                        await clients[name].execute(code)
                        found.append(time.perf_counter() - begun)
    ratios = [
        statistics.median(found["encrypted"]) / statistics.median(found["plain"])
        for found in times.values()
    ]
    return ratios[0], ratios[1]


@asynccontextmanager
async def _kernel(place: ConnectionInfo) -> AsyncIterator[Client]:
    """A Python kernel in a process of its own, and a client of it."""
    with tempfile.TemporaryDirectory() as folder, Registrar(place) as registrar:
        file = Path(folder) / "registration.json"
        registrar.write(file)
        command = [sys.executable, "-P", "-m", "trikernel", "start", "-f", str(file)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": folder}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.run_process, command, env=environ, check=False))
            async with connect(await registrar.wait_registered()) as client:
                for _ in range(EXECUTES):
                    await client.execute("1")
                yield client
            nursery.cancel_scope.cancel()
