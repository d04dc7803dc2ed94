"""What warm starts are for: libraries imported already, many kernels, many notebooks."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import nbformat
import psutil

from .environments import STACK, environment
from .measuring import Kernel, started
from .notebooks import nbclient_runs, with_bytecode

__all__ = ["measure_warm"]

COUNTS = (1, 10, 50)
NOTEBOOKS = 20
Figures = dict[str, dict[str, float]]
IMPORTS = "".join(f"import {one}\n" for one in STACK)
CELLS = ("x = 6 * 7", "print(x)", "sum(range(x))")


def measure_warm(rounds: int) -> Figures:
    """Figures by contender, measured in turns."""
    figures: Figures = {"warm": {}, "trikernel": {}, "ipykernel": {}, "xeus-python": {}}
    for part in (_one(rounds), _with_stack(rounds), _many(), _notebooks(rounds)):
        for name, found in part.items():
            figures[name] |= found
    return figures


def _one(rounds: int) -> Figures:
    """Milliseconds from the start to the first reply, and to the first cell's."""
    names = ("warm", "ipykernel", "xeus-python")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with started(name) as kernel:
                kernel.ask(kernel.shell, kernel.encode_cell())
                times[name].append((kernel.first_reply, time.perf_counter() - kernel.begun))
    return {
        name: {
            "start_1": statistics.median(reply for reply, _ in found) * 1e3,
            "cell_1": statistics.median(cell for _, cell in found) * 1e3,
        }
        for name, found in times.items()
    }


def _with_stack(rounds: int) -> Figures:
    """Milliseconds from the start to the end of a cell that imports the libraries."""
    names = {"warm-stack": "warm", "ipykernel-stack": "ipykernel", "trikernel-stack": "trikernel"}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with started(name) as kernel:
                kernel.ask(kernel.shell, kernel.encode_cell(IMPORTS))
                times[name].append((time.perf_counter() - kernel.begun) * 1e3)
    return {names[one]: {"start_stack": statistics.median(found)} for one, found in times.items()}


def _many() -> Figures:
    """For 1, 10 and 50 kernels that are idle at once: median start, and memory of their own."""
    figures: Figures = {}
    for name in ("warm", "ipykernel", "xeus-python"):
        figures[name] = {}
        for count in COUNTS:
            with ExitStack() as stack:
                kernels = [stack.enter_context(started(name)) for _ in range(count)]
                for one in kernels:
                    one.ask(one.shell, one.encode_cell())
                time.sleep(1)  # what is done after a first cell
                figures[name][f"memory_own_{count}"] = sum(map(_unshared, kernels))
                if count > 1:
                    replies = statistics.median(one.first_reply for one in kernels)
                    figures[name][f"start_{count}"] = replies * 1e3
    return figures


def _unshared(kernel: Kernel) -> float:
    return float(psutil.Process(kernel.process.pid).memory_full_info().uss / 1e6)


def _notebooks(rounds: int) -> Figures:
    """Seconds for small notebooks: by ``trikernel run``, by nbclient one after the other."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder, with_bytecode():
        names = [f"{number}.ipynb" for number in range(NOTEBOOKS)]
        for name in names:
            nbformat.write(book, Path(folder) / name)
        command = [str(environment("trikernel")), "-m", "trikernel", "run", *names]
        environ = {**os.environ, "IPYTHONDIR": folder}
        environ.pop("PYTHONPYCACHEPREFIX", None)
        nbclient_runs("python3", book)
        for _ in range(max(1, rounds // 2)):
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True)
            middle = time.perf_counter()
            for _ in names:
                nbclient_runs("python3", book)
            ours.append(middle - begun)
            theirs.append(time.perf_counter() - middle)
    return {
        "warm": {"notebooks": statistics.median(ours)},
        "ipykernel": {"notebooks": statistics.median(theirs)},
    }
