"""What a kernel costs before anything is asked of it: its start, its memory, its idleness."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from .measuring import Kernel

__all__ = ["measure_idle", "measure_start"]

IDLE = 3.0  # seconds


def measure_start(kernel: Kernel) -> dict[str, float]:
    """Times from the process's start; memory after the first cell."""
    figures = {"start": kernel.first_reply * 1e3}
    kernel.ask(kernel.shell, kernel.encode_cell())
    figures["start_cell"] = (time.perf_counter() - kernel.begun) * 1e3
    kernel.settle()
    figures["memory"], figures["memory_own"] = kernel.memory()
    return figures


def measure_idle(kernel: Kernel) -> dict[str, float]:
    """What an idle kernel takes: CPU, and how often a thread of it wakes. On Linux only."""
    if sys.platform != "linux":
        return {}
    time.sleep(1)  # what the last request left behind
    before, switches = _used(kernel), _switches(kernel)
    time.sleep(IDLE)  # what is measured
    after = _used(kernel)
    wakes = (_switches(kernel) - switches) / IDLE
    return {"idle_cpu": (after - before) / IDLE * 1e3, "idle_wakes": wakes}


def _used(kernel: Kernel) -> float:
    """Seconds of the processor so far, of all its threads; Linux counts nanoseconds."""
    return sum(float(text.split()[0]) for text in _tasks(kernel, "schedstat")) / 1e9


def _switches(kernel: Kernel) -> float:
    """How often its threads have gone to sleep so far."""
    texts = _tasks(kernel, "status")
    return sum(float(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts)


def _tasks(kernel: Kernel, name: str) -> list[str]:
    folder = Path(f"/proc/{kernel.process.pid}/task")
    return [(one / name).read_text() for one in folder.iterdir()]
