"""Engines of a cluster: ipyparallel's and ours, in turns at one controller of ipyparallel's.

Both engines are there all the time; who is measured first changes with the round. Linux: memory is
what a process has to itself, and its part of what it shares, with the processes beside it that
belong to it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from .environments import environment

__all__ = ["measure_engines"]

MODULES = {"ipyparallel": "ipyparallel.engine", "trikernel": "trikernel.engine"}
LAUNCHERS = {
    "ipyparallel": "from ipyparallel.cluster.launcher import LocalEngineSetLauncher as Launcher",
    "trikernel": "from trikernel.engine import TrioEngineLauncher as Launcher",
}
LAUNCHES = """
import os, sys
{launcher}
launcher = Launcher(profile_dir={folder!r}, delay=0.0)
print("ready", flush=True)
sys.stdin.readline()
launcher.start({count})
sys.stdin.readline()
for one in launcher.launchers.values():
    one.process.send_signal(15)
os._exit(0)
"""
PING = 250  # milliseconds: an engine is there with the second ping that it hears
MANY_ROUNDS = 2  # each is a minute of the processor, for ipyparallel's
LONG = 300  # seconds
CALLS, LATENCIES, SLEEPS, MANY = 1000, 200, 200, 50
DATA = 100_000_000  # bytes


async def sleep_there(seconds: float) -> None:
    import trio

    await trio.sleep(seconds)


def spin(seconds: float) -> None:
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


for function in (sleep_there, spin):  # which an engine shall not look for in this module
    function.__module__ = "__main__"


class Bench:
    """A controller in a folder, and one engine of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "IPYTHONDIR": str(folder.parent)}
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):  # as an installed one runs
            self.environment.pop(name, None)
        self.python = str(environment("engines"))
        self.processes: list[subprocess.Popen[bytes]] = []
        for name in ("security", "log", "pid", "startup"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        import ipyparallel

        self.start("ipyparallel.controller", f"--ping={PING}", "--nodb")
        file = folder / "security" / "ipcontroller-client.json"
        while not file.with_name("ipcontroller-engine.json").exists():  # which is written last
            time.sleep(0.01)  # between two looks at what another process writes
        self.client = ipyparallel.Client(str(file))

    def start(self, module: str, *options: str) -> psutil.Process:
        command = [self.python, "-m", module, f"--profile-dir={self.folder}", *options]
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
    wait_until(lambda: not set(bench.client.ids) <= known)
    view = bench.client[max(set(bench.client.ids) - known)]
    view.apply(int).get(LONG)
    return (
        view,
        process,
        {"engine_start": time.perf_counter() - begun, "engine_memory": memory_of(process)},
    )


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
    found = {
        "engine_calls": seconds(lambda: client.wait([view.apply(int) for _ in range(CALLS)], LONG))
    }
    after = process.cpu_times()
    found["engine_processor"] = after.user + after.system - before.user - before.system
    latencies = [seconds(lambda: view.apply(int).get(LONG)) for _ in range(LATENCIES)]
    found["engine_latency"] = statistics.median(latencies) * 1000
    data = {"data": os.urandom(1) * DATA}
    found["engine_push"] = seconds(lambda: view.push(data, block=True))
    found["engine_pull"] = seconds(lambda: view.pull("data", block=True))
    if awaits:
        sleeps = [(sleep_there, 0.1)] * SLEEPS
        found["engine_sleeps"] = seconds(
            lambda: client.wait([view.apply(f, number) for f, number in sleeps], LONG)
        )
        found["engine_abort"] = abort(client, view, sleep_there)
        found["engine_abort_busy"] = abort(client, view, spin)
    return found


def abort(client: Any, view: Any, function: Callable[[float], object]) -> float:
    """Milliseconds from an abort to the end of the call."""
    call = view.apply_async(function, 60)
    time.sleep(0.2)  # until it runs, which no message tells
    begun = time.perf_counter()
    client.abort([call], targets=view.targets, block=False)
    call.wait(LONG)
    return (time.perf_counter() - begun) * 1000


def measure_engines(rounds: int) -> dict[str, dict[str, float]]:
    """The figures of both, by whose engine it is: medians of the rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in MODULES}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "profile_default")
        try:
            for number in range(rounds):
                for name in in_turns(number):
                    found[name].append(start_many(bench, name) if number < MANY_ROUNDS else {})
                    found[name][-1] |= start_one(bench, name)
            engines = {name: started(bench, name) for name in MODULES}
            for number in range(rounds):
                for name in in_turns(number):
                    view, process, _ = engines[name]
                    found[name].append(measure(bench.client, view, process, name == "trikernel"))
        finally:
            bench.close()
    return {name: medians(rows) for name, rows in found.items()}


def in_turns(number: int) -> Iterable[str]:
    return sorted(MODULES, reverse=bool(number % 2))


def start_one(bench: Bench, name: str) -> dict[str, float]:
    """A new engine's start and memory; it ends again."""
    known = len(bench.client.ids)
    _, process, found = started(bench, name)
    process.terminate()
    wait_until(lambda: len(bench.client.ids) == known)
    return found


def start_many(bench: Bench, name: str) -> dict[str, float]:
    """Seconds until the client knows of so many engines that a launcher of theirs has started."""
    code = LAUNCHES.format(launcher=LAUNCHERS[name], folder=str(bench.folder), count=MANY)
    known = len(bench.client.ids)
    with subprocess.Popen(
        [bench.python, "-c", code],
        env=bench.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as launcher:
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        launcher.stdout.readline()
        begun = time.perf_counter()
        launcher.stdin.write(b"\n")
        launcher.stdin.flush()
        wait_until(lambda: len(bench.client.ids) >= known + MANY)
        taken = time.perf_counter() - begun
    wait_until(lambda: len(bench.client.ids) == known)
    return {"engines_50": taken}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"the engines are not as they should be after {LONG} seconds")
        time.sleep(0.005)  # between two looks at what the client's thread has heard


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: statistics.median(row[key] for row in rows if key in row) for key in keys}
