"""``python -m tests.bench.floods``: what a flood of output does to a kernel, in figures.

For pieces of 1 byte to 1 MB, printed, displayed and written to descriptor 1, from the cell, from
four threads and from a nursery: how long control takes to answer meanwhile, how long an interrupt
takes to its reply, by how much the kernel's memory grows, how many pieces a second a client gets
that reads as fast as it can, and how many of them it misses. Each flood ends by itself after some
seconds, and a kernel that grows beyond 1.5 GB is killed.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import statistics
import sys
import time

from ..faults.flooding import SOURCES, WAYS, Flood, FloodedKernel, open_flooded

SIZES = {"1 B": 1, "100 B": 100, "3 kB": 3_000, "100 kB": 100_000, "1 MB": 1_000_000}
BYS = ("message", "signal")
TIMEOUT = 5.0  # seconds, after which an answer counts as never
PAUSE = 0.02  # seconds between two questions on control

Row = dict[str, float | str]


def measure(flood: Flood, seconds: float) -> Row:
    """One flood after the other in one kernel, each interrupted in another way."""
    row: Row = {"way": flood.way, "source": flood.source, "size": flood.size}
    row |= dict.fromkeys(BYS, math.inf)
    answers: list[float] = []
    rates, lost, growths = [], 0, []
    with open_flooded() as kernel:
        for by in BYS:
            msg_id = kernel.start(flood)
            try:
                answers += _ask(kernel, seconds)
                rates.append(_rate(kernel, flood))
                row[by] = kernel.interrupt(by, TIMEOUT)[0] * 1e3
                missing, invented = kernel.finish(flood, msg_id)
                lost += missing + invented + len(kernel.reader.misplaced)
            except (TimeoutError, queue.Empty) as error:
                row["note"] = f"{by}: {error or 'no idle'}"
                answers.append(math.inf)
                rates.append(_rate(kernel, flood))
                lost = -1
                break
            finally:
                growths.append(kernel.grown / 1e6)
    row |= {
        "control p50": statistics.median(answers) * 1e3,
        "control max": max(answers) * 1e3,
        "growth": max(growths),
        "rate": max(rates),
        "lost": lost,
    }
    return row


def _ask(kernel: FloodedKernel, seconds: float) -> list[float]:
    """Round trips on control, for that long."""
    answers = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answers.append(kernel.ask_control(TIMEOUT))
        time.sleep(PAUSE)  # what is asked is to be no flood itself
    return answers


def _rate(kernel: FloodedKernel, flood: Flood) -> float:
    """Pieces a second that have come."""
    seconds = time.monotonic() - kernel.reader.first_at
    return kernel.reader.characters / flood.size / seconds


def _line(row: Row) -> str:
    names = ("control p50", "control max", *BYS)
    times = [
        f"{float(row[name]):9.1f}" if math.isfinite(float(row[name])) else "    never"
        for name in names
    ]
    size = next(word for word, size in SIZES.items() if size == row["size"])
    lost = "?" if row["lost"] == -1 else f"{row['lost']}"
    return (
        f"{row['way']:8}{row['source']:9}{size:>7} {' '.join(times)} {float(row['growth']):8.0f}"
        f" {float(row['rate']):12,.0f} {lost:>6}  {row.get('note', '')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.floods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each flood lasts")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print(
            f"{'way':8}{'source':9}{'size':>7}  control p50 / max   by message   signal  growth"
            "       pieces   lost\n"
            f"{'':24}        ms        ms        ms        ms       MB     a second"
        )
    for way in options.ways:
        for source in options.sources:
            for size in options.sizes:
                safety = options.seconds + 2 * TIMEOUT
                rows.append(measure(Flood(way, source, SIZES[size], safety), options.seconds))
                if not options.json:
                    print(_line(rows[-1]), flush=True)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
