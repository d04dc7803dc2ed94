"""``python -m tests.bench``: trikernel and its peers side by side, in interleaved rounds.

Prints a table of medians and ratios; ``--write`` puts it into docs/reference as a page, as JSON
and as a picture. ``--before FOLDER`` measures only trikernel, beside another checkout of it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable

from .busy import measure_aborts, measure_busy, measure_interrupts
from .connections import measure_connections
from .debugging import measure_debugger
from .engines import measure_engines
from .environments import CONTENDERS, add_earlier
from .growth import measure_growth
from .measuring import Kernel, started
from .notebooks import measure_clients
from .outputs import measure_outputs
from .report import Report, compared
from .requests import measure_requests
from .starting import measure_idle, measure_start
from .subshells import measure_subshells
from .timeline import measure_timeline
from .transports import measure_transports
from .warm_browser import measure_restarts
from .warm_starts import measure_warm

GROUPS: dict[str, Callable[[Kernel], dict[str, float]]] = {
    "start": measure_start,
    "requests": measure_requests,
    "outputs": measure_outputs,
    "busy": measure_busy,
    "interrupts": measure_interrupts,
    "aborts": measure_aborts,
    "subshells": measure_subshells,
    "debugger": measure_debugger,
    "idle": measure_idle,
}
ALONE = (
    *("growth", "clients", "transports", "connections", "timeline"),
    *("warm", "restarts", "engines"),
)
BESIDE = {"warm": measure_warm, "restarts": measure_restarts, "engines": measure_engines}
"""Those that measure others, too."""


def measure(kernel: Kernel, groups: list[str]) -> dict[str, float]:
    """The figures of one kernel in one round."""
    figures: dict[str, float] = {}
    if "start" not in groups:
        kernel.settle()
    for group, function in GROUPS.items():
        if group in groups and group not in kernel.contender.lacks:
            try:
                figures |= function(kernel)
            except TimeoutError as error:
                print(f"{kernel.contender.name}: {group}: {error}", file=sys.stderr)
                break  # it is in no state to be measured further
    return {key: value for key, value in figures.items() if not math.isnan(value)}


def measure_side_by_side(
    names: list[str], groups: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians of all rounds, by contender; who is first changes with the round."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds if names else 0):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            with started(name) as kernel:
                results[name].append(measure(kernel, groups))
    return {name: _medians(rows) for name, rows in results.items()}


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: statistics.median(row[key] for row in rows if key in row) for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*GROUPS, *ALONE], metavar="GROUP")
    parser.add_argument("--kernels", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--before", metavar="FOLDER", help="a checkout of trikernel to compare this one with"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the page, its data and picture; with --only, those rows",
    )
    options = parser.parse_args()
    groups = options.only or [*GROUPS, *ALONE]
    if options.before is not None:
        add_earlier(options.before)
        figures = measure_side_by_side(["trikernel", "before"], groups, options.rounds)
        print(compared(figures["trikernel"], figures["before"]))
        return
    names = options.kernels if GROUPS.keys() & groups else []
    figures = measure_side_by_side(names, groups, options.rounds)
    alone = figures.setdefault("trikernel", {})
    if "growth" in groups:
        alone |= measure_growth()
    if "clients" in groups:
        alone |= measure_clients(options.rounds)
    if "transports" in groups:
        alone |= measure_transports()
    if "connections" in groups:
        alone |= measure_connections(options.rounds)
    for group, function in BESIDE.items():
        if group in groups:
            for name, found in function(options.rounds).items():
                figures.setdefault(name, {}).update(found)
    if "timeline" in groups:
        alone |= measure_timeline()
    report = Report(figures, options.rounds)
    print(report.as_json() if options.json else report.as_text())
    if options.write:
        (report.over_the_last() if options.only else report).write()


main()
