"""``python -m tests.bench.nested``: `trio.run` of an empty function, in a cell and outside of one.

The same code measures itself in a process of its own and in a cell, in turns; the fastest of each
is what is compared, because time on a shared machine only ever gets longer. What a cell costs that
uses nothing of it is counted in ``tests/performance``: nothing on its way knows of nested runs.
"""

from __future__ import annotations

import subprocess
import sys

from ..processes import KernelProcess, kernel_process

LIMIT = 1.2
ROUNDS = 5
CODE = """
import time, trio

async def nothing():
    pass

def measure(times=300):
    best = []
    for _ in range(times):
        begun = time.perf_counter()
        trio.run(nothing)
        best.append(time.perf_counter() - begun)
    return min(best)

print(measure())
"""


def outside() -> float:
    """Seconds of one run in a plain process."""
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return float(run.stdout)


def inside(kernel: KernelProcess) -> float:
    """Seconds of one run in a cell."""
    _, outputs = kernel.execute(CODE)
    text = [one["content"] for one in outputs if one["msg_type"] == "stream"]
    return float("".join(one["text"] for one in text if one["name"] == "stdout"))


def main() -> int:
    """Print the figures; 1 if the limit is not kept."""
    rows: dict[str, list[float]] = {"outside": [], "inside": []}
    with kernel_process() as kernel:
        for _ in range(ROUNDS):
            rows["outside"].append(outside())
            rows["inside"].append(inside(kernel))
    plain, nested = (min(rows[name]) for name in ("outside", "inside"))
    print(f"trio.run of nothing: {plain * 1e6:.1f} us outside, {nested * 1e6:.1f} us in a cell, "
          f"{nested / plain:.3f} times as long")  # fmt: skip
    return int(nested > LIMIT * plain)


if __name__ == "__main__":
    sys.exit(main())
