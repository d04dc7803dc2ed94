"""``python -m tests.bench.engines``: ipyparallel's engine and ours, in turns at one controller.

Prints a table of medians. Both engines are there all the time; who is measured first changes with
the round. Needs `trikernel[parallel]`. Linux: memory is what a process has to itself, and its part
of what it shares, with the processes beside it that belong to it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipyparallel
import psutil

ROOT = Path(__file__).parent.parent.parent
MODULES = {"ipyparallel": "ipyparallel.engine", "trikernel": "trikernel.engine"}
PING = 250  # milliseconds: an engine is there with the second ping that it hears
LONG = 120  # seconds
CALLS, LATENCIES, SLEEPS = 1000, 200, 200
DATA = 100_000_000  # bytes

TARGETS: Mapping[str, tuple[str, float | None, float | None]] = {
    "start": ("start to the first result, s", 0.6, None),
    "memory": ("memory, MB", 0.6, None),
    "calls": ("1000 empty calls, s", 1 / 2.5, None),
    "latency": ("one call, p50, ms", 0.8, None),
    "push": ("100 MB pushed, s", 1.0, None),
    "pull": ("100 MB pulled, s", 1.0, None),
    "processor": ("processor time of the engine for 1000 calls, s", None, None),
    "sleeps": ("200 async sleeps of 0.1 s on one engine, s", None, 0.4),
    "abort": ("abort of a call that awaits, ms", None, 20.0),
    "abort_busy": ("abort of a call that computes, ms", None, 20.0),
}
"""What a figure is called; what it is to be at most, beside ipyparallel's, and by itself."""


async def sleep_there(seconds: float) -> None:
    import trio

    await trio.sleep(seconds)


def spin(seconds: float) -> None:
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Bench:
    """A controller in a folder, and one engine of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder.parent)}
        self.processes: list[subprocess.Popen[bytes]] = []
        for name in ("security", "log", "pid", "startup"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.start("ipyparallel.controller", f"--ping={PING}", "--nodb")
        file = folder / "security" / "ipcontroller-client.json"
        while not file.with_name("ipcontroller-engine.json").exists():  # which is written last
            time.sleep(0.01)  # between two looks at what another process writes
        self.client = ipyparallel.Client(str(file))

    def start(self, module: str, *options: str) -> psutil.Process:
        command = [sys.executable, "-m", module, f"--profile-dir={self.folder}", *options]
        quiet = subprocess.DEVNULL
        self.processes.append(
            subprocess.Popen(command, env=self.environment, stdout=quiet, stderr=quiet)
        )
        return psutil.Process(self.processes[-1].pid)

    def close(self) -> None:
        self.client.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(LONG)


def started(bench: Bench, name: str) -> tuple[Any, psutil.Process, dict[str, float]]:
    """A new engine's view and process, and what its start took."""
    known, begun = set(bench.client.ids), time.perf_counter()
    process = bench.start(MODULES[name])
    while set(bench.client.ids) <= known:
        time.sleep(0.005)  # between two looks at what the client's thread has heard
    view = bench.client[max(set(bench.client.ids) - known)]
    view.apply(int).get(LONG)
    return view, process, {"start": time.perf_counter() - begun, "memory": memory_of(process)}


def memory_of(process: psutil.Process) -> float:
    """MB of an engine and of those of its user that were started with it and know its number."""
    family = [process, *process.children(recursive=True)]
    watchers = [one for one in psutil.process_iter() if _is_watcher(one, process)]
    return float(sum(one.memory_full_info().pss for one in [*family, *watchers])) / 1e6


def _is_watcher(one: psutil.Process, engine: psutil.Process) -> bool:
    """A watcher is nobody's child; it is as old as its engine, and is told its number."""
    try:
        is_near = 0 <= one.create_time() - engine.create_time() < 1.5
        words = one.cmdline()
        return is_near and words[-1] == str(engine.pid) and "watcher" in words[-3]
    except (psutil.Error, IndexError):
        return False


def seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(client: Any, view: Any, process: psutil.Process, awaits: bool) -> dict[str, float]:
    """The figures of one engine in one round."""
    before = process.cpu_times()
    found = {"calls": seconds(lambda: client.wait([view.apply(int) for _ in range(CALLS)], LONG))}
    after = process.cpu_times()
    found["processor"] = after.user + after.system - before.user - before.system
    latencies = [seconds(lambda: view.apply(int).get(LONG)) for _ in range(LATENCIES)]
    found["latency"] = statistics.median(latencies) * 1000
    data = {"data": os.urandom(1) * DATA}
    found["push"] = seconds(lambda: view.push(data, block=True))
    found["pull"] = seconds(lambda: view.pull("data", block=True))
    if awaits:
        sleeps = [(sleep_there, 0.1)] * SLEEPS
        found["sleeps"] = seconds(
            lambda: client.wait([view.apply(f, number) for f, number in sleeps], LONG)
        )
        found["abort"] = abort(client, view, sleep_there)
        found["abort_busy"] = abort(client, view, spin)
    return found


def abort(client: Any, view: Any, function: Callable[[float], object]) -> float:
    """Milliseconds from an abort to the end of the call."""
    call = view.apply_async(function, 60)
    time.sleep(0.2)  # until it runs, which no message tells
    begun = time.perf_counter()
    client.abort([call], targets=view.targets, block=False)
    call.wait(LONG)
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in MODULES}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "profile_default")
        try:
            engines = {name: started(bench, name) for name in MODULES}
            for name, (_, _, found) in engines.items():
                figures[name].append(found)
            for number in range(rounds):
                for name in sorted(MODULES, reverse=bool(number % 2)):
                    view, process, _ = engines[name]
                    found = measure(bench.client, view, process, name == "trikernel")
                    figures[name].append(found)
        finally:
            bench.close()
    print(table({name: medians(rows) for name, rows in figures.items()}))


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: statistics.median(row[key] for row in rows if key in row) for key in keys}


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: each figure, and whether it is what it is to be."""
    lines = ["| | ipyparallel | trikernel | target | met |", "|---|--:|--:|---|---|"]
    for key, (title, beside, alone) in TARGETS.items():
        theirs, ours = figures["ipyparallel"].get(key), figures["trikernel"][key]
        target, verdict = "", ""
        if beside is not None and theirs:
            target = f"≤ {beside:.2g} x ipyparallel"
            verdict = f"{'yes' if ours <= beside * theirs else '**no**'}, {ours / theirs:.2f}"
        if alone is not None:
            target, verdict = f"≤ {alone:g}", "yes" if ours <= alone else "**no**"
        shown = f"{theirs:.3g}" if theirs else "-"
        lines.append(f"| {title} | {shown} | **{ours:.3g}** | {target} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
