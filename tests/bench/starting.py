"""What a kernel costs before anything is asked of it: its start, its memory, its idleness."""

from __future__ import annotations

import time

import psutil

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
    """What an idle kernel takes: CPU, and how often a thread of it wakes."""
    time.sleep(1)  # what the last request left behind
    before, switches = _used(kernel)
    time.sleep(IDLE)
    after, later = _used(kernel)
    return {"idle_cpu": (after - before) / IDLE * 1e3, "idle_wakes": (later - switches) / IDLE}


def _used(kernel: Kernel) -> tuple[float, int]:
    """CPU seconds and voluntary context switches so far, of all its threads."""
    process = psutil.Process(kernel.process.pid)
    used = process.cpu_times()
    return used.user + used.system, _switches(process)


def _switches(process: psutil.Process) -> int:
    from pathlib import Path

    total = 0
    for thread in process.threads():
        status = Path(f"/proc/{process.pid}/task/{thread.id}/status")
        if status.exists():
            total += int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total
