"""``python -m tests.bench.windows [tk] [qt] [gtk3] [gtk4] [wx]``: how late a click is heard, and
what a window costs. Without arguments Tk and Qt.

Needs Xvfb, xdotool and what is measured (tkinter, PyQt6, PyGObject, wxPython). A window's own clock
is compared with the time at which the X server noted the click, which is the same clock on Linux.
Of cells the median of each round is taken, and of those the smallest, because time on a shared
machine only gets longer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import psutil

from ..processes import KernelProcess, kernel_process
from ..python.test_windows import GTK3, GTK4, QT, TK, WX, clicks

SETUPS = {"tk": TK, "qt": QT, "gtk3": GTK3, "gtk4": GTK4, "wx": WX}
ROUNDS, CELLS, SECONDS = 15, 100, 6


def measure_cells(kernel: KernelProcess) -> tuple[float, float]:
    """Seconds of a cell that does nothing, the median of many, and the kernel's processor time."""
    taken, before = [], used(kernel)
    for _ in range(CELLS):
        begun = time.perf_counter()
        kernel.execute("1")
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken), used(kernel) - before


def used(kernel: KernelProcess) -> float:
    """Seconds of a processor that the kernel has used."""
    times = psutil.Process(kernel.process.pid).cpu_times()
    return float(times.user + times.system)


def late(kernel: KernelProcess) -> str:
    """Milliseconds from a click to its callback."""
    found = [float(one) for one in kernel.text("print(*late)\nlate.clear()").split()]
    return f"median {statistics.median(found):.1f} ms, worst of {len(found)} {max(found):.1f} ms"


def measure(name: str, display: str) -> None:
    """Print the figures of one window system."""
    with kernel_process(DISPLAY=display) as kernel:
        kernel.execute(SETUPS[name])
        time.sleep(1)  # the window is shown
        for _ in range(2):
            clicks(display)
        time.sleep(0.3)  # the last click has been heard
        print(f"{name}: idle, {late(kernel)}")
        msg_id = kernel.send("await trio.sleep(4)")
        for _ in range(2):
            clicks(display)
        kernel.finish(msg_id)
        print(f"{name}: a cell awaits, {late(kernel)}")
        process = psutil.Process(kernel.process.pid)
        process.cpu_percent()
        time.sleep(SECONDS)  # in which the processor's time is counted
        print(f"{name}: {process.cpu_percent():.1f} % of a processor, idle")
        beside, without = [], []
        for _ in range(ROUNDS):  # in turns: what else the machine does changes
            kernel.execute(f"%gui {name}")
            beside.append(measure_cells(kernel))
            kernel.execute("%gui none")
            without.append(measure_cells(kernel))
        (wall, cpu), (wall_without, cpu_without) = map(_best, (beside, without))
        print(f"{name}: a cell takes {wall / wall_without:.2f} times as long as without")
        print(f"{name}: a cell takes {cpu / cpu_without:.2f} times the processor's time")


def _best(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """The smallest of the medians, and all of the processor's time."""
    return min(wall for wall, _ in rounds), sum(cpu for _, cpu in rounds)


def main() -> None:
    """Print the figures of those that are named."""
    with subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        display = f":{server.stdout.readline().strip()}"
        for name in sys.argv[1:] or ("tk", "qt"):
            measure(name, display)
        server.terminate()


if __name__ == "__main__":
    main()
