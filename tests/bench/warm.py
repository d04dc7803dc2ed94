"""``python -m tests.bench.warm [MODULE ...]``: kernels cold and warm, side by side.

For 1, 10 and 50 kernels one after the other, all alive at the end: the median time until a kernel
has answered, and until its first cell has (which imports the modules), and the memory that it
shares with no other process. Give numbers to measure other counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from trikernel.client import open_fork_server, open_kernel


def unshared(pid: int) -> float:
    """MiB of a process that are in no other one (Linux)."""
    found = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            found += int(line.split()[1])
    return found / 1024


async def measure(count: int, modules: list[str], warm: Any) -> tuple[float, float, float]:
    """Milliseconds to the first reply and to the first cell's end, and MiB, of so many kernels."""
    code = "".join(f"import {one}\n" for one in modules) + "import os; os.getpid()"
    replies, cells, pids = [], [], []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            begun = time.perf_counter()
            client = await stack.enter_async_context(open_kernel(warm=warm))
            replies.append(time.perf_counter() - begun)
            cell = await client.execute(code)
            cells.append(time.perf_counter() - begun)
            assert cell.result is not None
            pids.append(int(cell.result["text/plain"]))
        memory = statistics.median(map(unshared, pids))
    return statistics.median(replies) * 1000, statistics.median(cells) * 1000, memory


async def main(modules: list[str], counts: list[int]) -> None:
    """Measure and print."""
    names = ", ".join(modules) or "nothing"
    print(f"preloaded, and imported by the first cell: {names}")
    print("| kernels | | first reply, ms | first cell, ms | unshared, MiB each |")
    print("|--:|---|--:|--:|--:|")
    async with open_fork_server(modules) as server:
        for line in server.left_out:
            print(line)
        for count in counts:
            for name, warm in (("cold", None), ("warm", server)):
                reply, cell, memory = await measure(count, modules, warm)
                print(f"| {count} | {name} | {reply:.0f} | {cell:.0f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    numbers = [int(one) for one in given if one.isdigit()]
    trio.run(main, [one for one in given if not one.isdigit()], numbers or [1, 10, 50])
