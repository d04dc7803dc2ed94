"""What a person at a notebook waits for: printing, displaying, stopping a cell."""

from __future__ import annotations

import json
import signal
import statistics
import time

from .measuring import Kernel

__all__ = ["CELL_TARGETS", "measure_cells"]

LINES, DISPLAYS, INTERRUPTS = 300_000, 5_000, 15
CELL_TARGETS = {
    "print in a cell, µs a call": "≤ 1",
    "printed lines per second": "≥ 500000",
    "display() per second": "≥ 10000",
    "interrupt to reply, a loop that spins, ms": "≤ 10",
    "interrupt to reply, time.sleep, ms": "≤ 10",
    "interrupt to reply, a cell that awaits, ms": "≤ 10",
}
_PRINTS = (
    "import time; t = time.perf_counter()\n"
    f"for n in range({LINES}): print('line')\n"
    "t = time.perf_counter() - t"
)
_WAITS = {
    "a loop that spins": "while True: pass",
    "time.sleep": "import time; time.sleep(100)",
    "a cell that awaits": "import trio; await trio.sleep_forever()",
}


def measure_cells(kernel: Kernel, *, trio: bool) -> dict[str, float]:
    """The figures of one kernel; ``trio`` if its cells run in Trio."""
    seconds, lines = _lines(kernel)
    figures = {"printed lines per second": lines / seconds}
    cost = float(_text(kernel, "print(t)")) / LINES * 1e6
    figures["print in a cell, µs a call"] = cost
    begun = time.perf_counter()
    kernel.run(kernel.encode_cell(f"for n in range({DISPLAYS}): display(n)"))
    figures["display() per second"] = DISPLAYS / (time.perf_counter() - begun)
    for name, code in _WAITS.items():
        if trio or "await" not in code:
            figures[f"interrupt to reply, {name}, ms"] = _interrupt(kernel, code)
    return figures


def _lines(kernel: Kernel) -> tuple[float, int]:
    """Seconds of a cell that prints, from its request to its idle, and how many lines came."""
    begun = time.perf_counter()
    text = _text(kernel, _PRINTS)
    return time.perf_counter() - begun, text.count("\n")


def _text(kernel: Kernel, code: str) -> str:
    frames = kernel.encode_cell(code)
    msg_id = frames[2].split(b'"', 4)[3]
    kernel.shell.send_multipart(frames)
    texts = []
    while True:
        parts = kernel._receive(kernel.iopub)
        if b'"idle"' in parts[-1] and msg_id in parts[-3]:
            break
        if parts[0].startswith(b"stream") or b'"stream"' in parts[-4]:
            texts.append(json.loads(parts[-1])["text"])
    kernel._receive(kernel.shell)
    return "".join(texts)


def _interrupt(kernel: Kernel, code: str) -> float:
    """Median milliseconds from SIGINT to the reply."""
    times = []
    for _ in range(INTERRUPTS):
        frames = kernel.encode_cell(f"print('begun', flush=True)\n{code}")
        kernel.shell.send_multipart(frames)
        while b"begun\\n" not in kernel._receive(kernel.iopub)[-1]:
            continue
        time.sleep(0.05)  # the cell has to be where it waits
        begun = time.perf_counter()
        kernel.process.send_signal(signal.SIGINT)
        kernel._receive(kernel.shell)
        times.append(time.perf_counter() - begun)
        kernel.until_idle(frames)
        time.sleep(0.15)  # beyond the window in which an error aborts what comes
    return statistics.median(times) * 1e3
