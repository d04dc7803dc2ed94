"""``python -m tests.bench.stops``: from a deadline to the reply of the next cell, whatever runs.

Each way to be stuck of ``tests/faults/stuck.py``, under a deadline of the kernel's own and under
the client's time-out, in one process. Asked is a median of at most the grace and 0.2 seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import suppress

import trio

from trikernel.client import Client, open_kernel
from trikernel.errors import ExecutionTimeout

from ..faults.stuck import SETUP, STUCK

DEADLINE, GRACE, MORE = 0.3, 1.0, 0.2  # seconds
SIDES = ("the kernel's deadline", "the client's time-out")


async def measure(client: Client, code: str, side: str) -> float:
    """Seconds from the deadline of a cell to the reply of the next one."""
    begun = trio.current_time()
    with suppress(ExecutionTimeout):
        if side == SIDES[0]:
            await client.execute(code, metadata={"trikernel.timeout": DEADLINE})
        else:
            await client.execute(code, timeout=DEADLINE)
    (await client.execute("assert kept == 'for hours'")).raise_for_error()
    return trio.current_time() - begun - DEADLINE


async def measure_all(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Each row's figures by side."""
    figures: dict[str, dict[str, list[float]]] = {row: {one: [] for one in SIDES} for row in STUCK}
    async with open_kernel() as client:
        (await client.execute(SETUP)).raise_for_error()
        for _ in range(rounds):
            for row, code in STUCK.items():
                for side in SIDES:
                    figures[row][side].append(await measure(client, code, side))
    return figures


def main() -> int:
    """Print the medians; 1 if one is beyond what is asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    figures = trio.run(measure_all, parser.parse_args().rounds)
    limit, beyond = GRACE + MORE, 0
    print(f"{'seconds, medians; at most ' + format(limit, 'g'):44}{SIDES[0]:>24}{SIDES[1]:>24}")
    for row, sides in figures.items():
        medians = [statistics.median(sides[side]) for side in SIDES]
        beyond += sum(one > limit for one in medians)
        print(f"{row:44}{medians[0]:24.3f}{medians[1]:24.3f}")
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
