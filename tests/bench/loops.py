"""``python -m tests.bench.loops``: an asyncio cell beside a Trio cell, from request to reply.

The same kernel process runs, in turns, a cell that passes a checkpoint of Trio, the same in asyncio
by ``%autoawait asyncio`` and by ``%%asyncio``, and cells that start 100 tasks and wait for them.
The median of each round is taken, and of those the smallest, because time on a shared machine only
ever gets longer.
"""

from __future__ import annotations

import statistics
import sys
import time

from ..processes import KernelProcess, kernel_process

LIMIT = 1.3
ROUNDS, CELLS = 7, 150
SETUP = (
    "import asyncio, trio\n"
    "async def trio_tasks():\n"
    "    async with trio.open_nursery() as nursery:\n"
    "        for _ in range(100):\n"
    "            nursery.start_soon(trio.lowlevel.checkpoint)\n"
    "async def asyncio_tasks():\n"
    "    async with asyncio.TaskGroup() as group:\n"
    "        for _ in range(100):\n"
    "            group.create_task(asyncio.sleep(0))\n"
)
ROWS = {  # in which loop, what, and beside which other row
    "Trio, a checkpoint": ("trio", "await trio.lowlevel.checkpoint()", ""),
    "asyncio, the same": ("asyncio", "await asyncio.sleep(0)", "Trio, a checkpoint"),
    "%%asyncio": ("trio", "%%asyncio\nawait asyncio.sleep(0)", "%%time"),
    "%%time": ("trio", "%%time\nawait trio.lowlevel.checkpoint()", ""),
    "asyncio, no await": ("asyncio", "1", "Trio, no await"),
    "Trio, no await": ("trio", "1", ""),
    "asyncio, 100 tasks": ("asyncio", "await asyncio_tasks()", "Trio, 100 tasks"),
    "Trio, 100 tasks": ("trio", "await trio_tasks()", ""),
}


def measure(kernel: KernelProcess, code: str) -> float:
    """Seconds of one cell, the median of many."""
    taken = []
    for _ in range(CELLS):
        begun = time.perf_counter()
        kernel.finish(kernel.send(code))
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> int:
    """Print the figures; 1 if the limit is not kept."""
    figures: dict[str, list[float]] = {name: [] for name in ROWS}
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        for _ in range(ROUNDS):
            for name, (loop, code, _) in ROWS.items():
                kernel.execute(f"%autoawait {loop}")
                figures[name].append(measure(kernel, code))
    failed = False
    for name, (_, _, other) in ROWS.items():
        line = f"{name:20} {min(figures[name]) * 1e6:7.0f} us"
        if other:
            ratio = min(figures[name]) / min(figures[other])
            failed = failed or ratio > LIMIT
            line += f"  {ratio:.2f} times {other}"
        print(line)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
