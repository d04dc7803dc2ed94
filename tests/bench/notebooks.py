"""What a program waits for that asks kernels: in memory, over sockets, and with notebooks."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import nbformat
import trio
from nbclient import NotebookClient

from trikernel import Kernel as AuthorsKernel
from trikernel.client import connect, run_notebook
from trikernel.client.kernel_process import new_manager
from trikernel.python import PythonKernel
from trikernel.testing import open_memory_client
from trikernel.transport import ConnectionInfo

from .environments import ROOT, environment
from .measuring import median_of, started

__all__ = ["measure_clients", "nbclient_runs", "with_bytecode"]

KERNELS, TURNS, EXECUTES, CELLS, IMPORTS = 100, 6, 150, 500, 15
_MANY = """
import gc, psutil, trio
from contextlib import AsyncExitStack
from trikernel import Kernel
from trikernel.testing import open_memory_client

class Echo(Kernel):
    async def do_execute(self, code, silent, **options):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

async def main(count):
    me = psutil.Process()
    async with AsyncExitStack() as stack:
        before = me.memory_full_info().uss
        for number in range(count):
            client = await stack.enter_async_context(open_memory_client(Echo()))
            await client.execute("1")
        gc.collect()
        if count > 10:
            print((me.memory_full_info().uss - before) / count / 1e3)

trio.run(main, 10)
trio.run(main, 1000)
"""


class Echo(AuthorsKernel):
    """Says what it is told."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})


def measure_clients(rounds: int) -> dict[str, float]:
    """Kernels in memory, the client's own cost, and notebooks run to their end."""
    start, per_second = trio.run(_in_memory, Echo)
    _, python_per_second = trio.run(_in_memory, PythonKernel)
    raw, ours = _client_overhead()
    mine, theirs, mixed = map(statistics.median, _notebooks(rounds).values())
    return {
        "memory_start": start * 1e3,
        "memory_kernels": per_second,
        "memory_python_kernels": python_per_second,
        "memory_each": _size_in_memory(),
        "client_overhead": (ours - raw) * 1e6,
        "notebook": mine,
        "notebook_nbclient_ipykernel": theirs / mine,
        "notebook_nbclient": mixed / mine,
        "import": _import("trikernel") / _import("trio"),
    }


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


def _size_in_memory() -> float:
    """Kilobytes that each of 1,000 kernels takes that are served at once in one process."""
    run = subprocess.run(
        [environment("trikernel"), "-c", _MANY], capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def _client_overhead() -> tuple[float, float]:
    """Medians of an execute, in seconds: by bare sockets, by the client, in turns on one kernel.

    Only one of them is subscribed at a time, so that neither hears of the other's cells.
    """
    raw: list[float] = []
    ours: list[float] = []
    with started("trikernel") as kernel:
        kernel.settle()
        for _ in range(TURNS):
            kernel.iopub.subscribe(b"")
            kernel.settle()
            raw.append(median_of(kernel.run, [kernel.encode_cell() for _ in range(EXECUTES)], 0))
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
        "nbclient on ipykernel": partial(nbclient_runs, "python3"),
        "nbclient on trikernel": partial(nbclient_runs, None),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    with with_bytecode():
        for run in runs.values():  # what they import is compiled once
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                begun = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begun)
    return times


@contextmanager
def with_bytecode() -> Iterator[None]:
    """A checkout may be told to keep no bytecode, which an installed kernel has."""
    before = dict(os.environ)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".bench" / "bytecode")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _notebook() -> Any:
    cells = [nbformat.v4.new_code_cell(f"x = {n}\nprint(x)\nx + 1") for n in range(CELLS)]
    return nbformat.v4.new_notebook(cells=cells)


def nbclient_runs(kernel_name: str | None, book: Any = None) -> None:
    """Have nbclient run a notebook, by default one of many cells."""

    async def run() -> None:
        client = NotebookClient(book or _notebook(), km=new_manager(kernel_name))
        client.owns_km = True
        await client.async_execute()

    with asyncio.Runner() as runner:
        runner.run(run())


def _import(module: str) -> float:
    """Median seconds of an import, each in a process of its own."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [str(environment("trikernel")), "-c", code]
    with tempfile.TemporaryDirectory() as folder:  # not the checkout, which may lack bytecode
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
            for _ in range(IMPORTS)
        ]
    return statistics.median(float(run.stdout) for run in runs)
