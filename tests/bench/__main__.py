"""``python -m tests.bench``: trikernel and ipykernel side by side, in interleaved rounds.

Prints a table of medians and ratios; ``--write`` puts it into docs/reference/performance.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import clients, transports
from .cells import CELL_TARGETS, measure_cells
from .environments import KERNELS, environment, versions
from .measuring import Kernel, started

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "performance.md"


def median_us(action: Callable[[], object], count: int) -> float:
    """The median of ``count`` calls, in microseconds."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def measure(kernel: Kernel, start: float) -> dict[str, float]:
    """Every figure of one kernel, in one round."""
    figures = {"start to first reply, ms": start * 1e3}
    kernel.run(kernel.encode_cell())
    kernel.drain()
    figures["resident memory, MB"] = kernel.resident()

    questions = iter([kernel.encode("kernel_info_request") for _ in range(600)])
    for _ in range(100):
        kernel.ask(kernel.shell, next(questions))
    figures["kernel_info p50, µs"] = median_us(
        lambda: kernel.ask(kernel.shell, next(questions)), 500
    )
    kernel.drain()

    cells = iter([kernel.encode_cell() for _ in range(600)])
    for _ in range(100):
        kernel.run(next(cells))
    figures["execute p50, µs"] = median_us(lambda: kernel.run(next(cells)), 500)

    queued = [kernel.encode_cell() for _ in range(1000)]
    begun = time.perf_counter()
    for frames in queued:
        kernel.shell.send_multipart(frames)
    for _ in queued:
        kernel._receive(kernel.shell)
    kernel.until_idle(queued[-1])
    figures["queued executes per second"] = 1000 / (time.perf_counter() - begun)
    return figures


def measure_import(python: Path, module: str) -> float:
    """Milliseconds of an import, in a process of its own."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as folder:  # not the checkout, which may lack bytecode
        run = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True, cwd=folder
        )
    return float(run.stdout) * 1e3


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def page(rounds: int) -> str:
    """Run everything; the page's text."""
    pythons = {name: environment(name) for name in KERNELS}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in KERNELS}
    for number in range(rounds):
        for name, python in pythons.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            with started(python, KERNELS[name][1]) as (kernel, start):
                figures = measure(kernel, start)
                figures |= measure_cells(kernel, trio=name == "trikernel")
                results[name].append(figures)
    medians = {
        name: {key: statistics.median(one[key] for one in rows) for key in rows[0]}
        for name, rows in results.items()
    }
    imports = {
        module: statistics.median(measure_import(pythons["trikernel"], module) for _ in range(15))
        for module in ("trio", "trikernel")
    }
    targets = {
        "execute p50, µs": "≤ 0.30",
        "queued executes per second": "≥ 6",
        "kernel_info p50, µs": "≤ 0.35",
        **CELL_TARGETS,
    }
    lines = [
        "# Performance",
        "",
        f"Made by `python -m tests.bench --write --rounds {rounds}` on "
        f"{platform.system()}, Python {platform.python_version()}: medians of interleaved rounds.",
        "Ratios travel, absolute figures do not.",
        "",
        "## Side by side with ipykernel",
        "",
        f"ipykernel {versions(pythons['ipykernel'])['ipykernel']}, each kernel in its own "
        "environment, IPython inside both. The client signs beforehand and compares bytes.",
        "",
        "| figure | trikernel | ipykernel | ratio | to reach |",
        "|---|--:|--:|--:|---|",
    ]
    for key, ours in medians["trikernel"].items():
        theirs = medians["ipykernel"].get(key)
        beside = f"{_figure(theirs)} | {ours / theirs:.2f}" if theirs is not None else "- | -"
        lines.append(f"| {key} | {_figure(ours)} | {beside} | {targets.get(key, '')} |")
    ratio = imports["trikernel"] / imports["trio"]
    lines += [
        "",
        "## Import",
        "",
        f"`import trio` {imports['trio']:.0f} ms, `import trikernel` (Trio included) "
        f"{imports['trikernel']:.0f} ms: {ratio:.2f} times, at most 1.5 to reach.",
        "",
        "## Clients, notebooks, tests",
        "",
        "Notebooks: each cell assigns, prints and has a result; start and end included.",
        "",
        *clients.section(pythons["trikernel"], KERNELS["trikernel"][1], rounds),
        "",
        "## Waiting for a socket",
        "",
        *transports.section(),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    text = page(options.rounds)
    print(text)
    if options.write:
        PAGE.write_text(text, "utf-8")


main()
