"""What a program waits for that asks kernels: in memory, over sockets, and with notebooks."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import trio
from nbclient import NotebookClient

from trikernel import Kernel as AuthorsKernel
from trikernel.client import connect, run_notebook
from trikernel.client.manager import new_manager
from trikernel.python import PythonKernel
from trikernel.testing import open_memory_client
from trikernel.transport import ConnectionInfo

from .environments import ROOT
from .measuring import started

__all__ = ["section"]

KERNELS, TURNS, EXECUTES, CELLS = 100, 6, 150, 500


class Echo(AuthorsKernel):
    """Says what it is told."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})


def section(python: Path, arguments: list[str], rounds: int) -> list[str]:
    """The lines of the page's section."""
    start, per_second = trio.run(_in_memory, Echo)
    _, python_per_second = trio.run(_in_memory, PythonKernel)
    raw, ours = _client_overhead(python, arguments)
    times = _notebooks(rounds)
    mine, theirs, mixed = (statistics.median(times[name]) for name in times)
    return [
        "| figure | | to reach |",
        "|---|--:|---|",
        f"| kernel in memory, start to first reply, ms | {start * 1e3:.2f} | ≤ 5 |",
        f"| kernels tested in memory per second | {per_second:.0f} | ≥ 200 |",
        f"| the same, Python kernels | {python_per_second:.0f} | |",
        f"| execute by the client, over a raw socket client's {raw * 1e6:.0f} µs, µs "
        f"| {(ours - raw) * 1e6:.0f} | ≤ 150 |",
        f"| a notebook of {CELLS} cells, started and ended, s | {mine:.2f} | |",
        f"| nbclient on ipykernel: {theirs:.2f} s, times as long | {theirs / mine:.1f} | ≥ 3 |",
        f"| nbclient on trikernel: {mixed:.2f} s, times as long | {mixed / mine:.1f} | ≥ 1.5 |",
    ]


async def _in_memory(kernel_class: type[AuthorsKernel]) -> tuple[float, float]:
    """Seconds from a kernel's start to its first reply, and kernels per second, tests included."""
    first = []
    async with open_memory_client(kernel_class()) as client:
        await client.execute("1")
    begun = time.perf_counter()
    for _ in range(KERNELS):
        start = time.perf_counter()
        async with open_memory_client(kernel_class()) as client:
            await client.kernel_info()
            first.append(time.perf_counter() - start)
            await client.expect("1", status="ok")
    return statistics.median(first), KERNELS / (time.perf_counter() - begun)


def _client_overhead(python: Path, arguments: list[str]) -> tuple[float, float]:
    """Medians of an execute, in seconds: by bare sockets, by the client, in turns on one kernel.

    Only one of them is connected at a time, so that neither hears of the other's cells.
    """
    raw: list[float] = []
    ours: list[float] = []
    with started(python, arguments) as (kernel, _):
        for _ in range(TURNS):
            kernel.iopub.subscribe(b"")
            kernel.run(kernel.encode_cell())
            for frames in [kernel.encode_cell() for _ in range(EXECUTES)]:
                begun = time.perf_counter()
                kernel.run(frames)
                raw.append(time.perf_counter() - begun)
            kernel.iopub.unsubscribe(b"")
            trio.run(_execute, kernel.info, ours)
            kernel.drain()
    return statistics.median(raw), statistics.median(ours)


async def _execute(info: ConnectionInfo, times: list[float]) -> None:
    async with connect(info, heartbeat=None) as client:
        await client.execute("a=1+1")
        for _ in range(EXECUTES):
            begun = time.perf_counter()
            await client.execute("a=1+1")
            times.append(time.perf_counter() - begun)


def _notebooks(rounds: int) -> dict[str, list[float]]:
    """Seconds that a notebook takes: here, with nbclient on ipykernel, with nbclient on ours."""
    runs: dict[str, Callable[[], object]] = {
        "trikernel": lambda: trio.run(run_notebook, _notebook()),
        "nbclient on ipykernel": partial(_nbclient, "python3"),
        "nbclient on trikernel": partial(_nbclient, None),
    }
    # A checkout may be told to keep no bytecode, which an installed kernel has.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".bench" / "bytecode")
    runs["trikernel"]()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    return times


def _notebook() -> Any:
    cells = [nbformat.v4.new_code_cell(f"x = {n}\nprint(x)\nx + 1") for n in range(CELLS)]
    return nbformat.v4.new_notebook(cells=cells)


def _nbclient(kernel_name: str | None) -> None:
    async def run() -> None:
        client = NotebookClient(_notebook(), km=new_manager(kernel_name))
        client.owns_km = True
        await client.async_execute()

    with asyncio.Runner() as runner:
        runner.run(run())
