"""``python -m tests.bench.profile``: where each microsecond of one cell goes, in the kernel.

Runs a kernel with a stopwatch around each step, sends it cells, one at a time and all at once, and
prints what each step took without the steps inside it, from the loop's waking to its next sleep.
The stopwatch itself takes about half a microsecond for each call of a step.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import statistics
import tempfile
import threading
from collections import Counter
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import trio

from . import environments, measuring
from .environments import ROOT, Contender

__all__ = ["main"]

PAGE = ROOT / "docs" / "discussion" / "performance.md"
BEGIN, END = "<!-- profile -->", "<!-- end of profile -->"

CELLS, WARM = 600, 100
RUN = "IPython: run the cell"
REST = "Trio's loop, tasks, and what is between the steps"
TOTAL = "**all of it**"
Rounds = list[tuple[dict[str, int], dict[str, int]]]


class Stopwatch(trio.abc.Instrument):
    """Self times and calls by step, one pair of counters for each time that the loop was awake."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.rounds: list[tuple[Counter[str], Counter[str]]] = []
        self.times: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.stack: list[str] = []
        self.since = 0

    def before_io_wait(self, timeout: float) -> None:
        """The loop goes to sleep, or only looks whether something came."""
        if timeout > 0 and self.since:
            self._count()
            self.rounds.append((self.times, self.calls))
            self.since = 0

    def after_io_wait(self, timeout: float) -> None:
        """The loop wakes."""
        if timeout > 0:
            self.times, self.calls, self.stack = Counter(), Counter(), []
            self.since = perf_counter_ns()

    def _count(self) -> None:
        now = perf_counter_ns()
        self.times[self.stack[-1] if self.stack else REST] += now - self.since
        self.since = now

    def enter(self, name: str) -> None:
        self._count()
        self.calls[name] += 1
        self.stack.append(name)

    def leave(self) -> None:
        self._count()
        if self.stack:
            self.stack.pop()

    def watch(self, name: str, owner: Any, attribute: str) -> None:
        """Replace a function by one that is timed; an async one must not wait for anything."""
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self.thread or not self.since:
                return function(*args, **kwargs)
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        @functools.wraps(function)
        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return await function(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, attribute, timed_async if inspect.iscoroutinefunction(function) else timed)


def steps() -> list[tuple[str, Any, str]]:
    """What is timed, in the order in which a cell meets it."""
    from trikernel.core.dispatch import Dispatcher
    from trikernel.core.iopub import IOPub
    from trikernel.core.shell_lane import ShellLane
    from trikernel.kernel.sender import Sender
    from trikernel.python.kernel import PythonKernel
    from trikernel.python.shell import ZMQInteractiveShell
    from trikernel.transport.zmq_channel import ZmqChannel
    from trikernel.wire.codec import Codec

    return [
        ("receive: take the frames from libzmq", ZmqChannel, "receive_nowait"),
        ("decode: frames to a message", Codec, "decode"),
        ("verify and sign: HMAC-SHA256", Codec, "sign"),
        ("deliver: make a request, choose its lane", Dispatcher, "deliver"),
        ("queue: the priority channel", ShellLane, "admit"),
        ("busy and idle: what to say", IOPub, "encode_status"),
        ("encode: a message to frames", Codec, "encode"),
        ("iopub: keep the order", IOPub, "post"),
        ("send: hand the frames to libzmq", ZmqChannel, "send_nowait"),
        ("execute_input: what to say", Sender, "send"),
        ("do_execute: ours, around IPython", PythonKernel, "do_execute"),
        ("IPython: transform the cell", ZMQInteractiveShell, "transform_cell"),
        (RUN, ZMQInteractiveShell, "run_cell_async"),
        ("run the code: ours, and the code", ZMQInteractiveShell, "run_code"),
        ("everything said goes out", IOPub, "flush"),
        ("reply and idle: send them", ShellLane, "send_reply_and_idle"),
    ]


def serve(connection_file: str, result: str) -> None:
    """The kernel, timed; writes what it has measured when it ends."""
    import trikernel
    from trikernel.python import PythonKernel

    stopwatch: list[Stopwatch] = []

    class Timed(PythonKernel):
        async def started(self) -> None:
            await super().started()
            stopwatch.append(Stopwatch())
            trio.lowlevel.add_instrument(stopwatch[0])
            for step in steps():
                stopwatch[0].watch(*step)

    trikernel.run(Timed(), connection_file)
    Path(result).write_text(json.dumps(stopwatch[0].rounds))


def one_at_a_time(rounds: Rounds) -> dict[str, tuple[float, float]]:
    """Medians over those rounds in which a whole cell was run."""
    whole = [one for one in rounds if one[1].get(RUN) == 1][WARM:]
    figures = {
        step: (
            statistics.median(one[0].get(step, 0) for one in whole) / 1e3,
            statistics.median(one[1].get(step, 0) for one in whole),
        )
        for step in [*(label for label, *_ in steps()), REST]
    }
    total = statistics.median(sum(one[0].values()) for one in whole) / 1e3
    return {**figures, TOTAL: (total, 1)}


def in_a_queue(rounds: Rounds) -> dict[str, tuple[float, float]]:
    """Means over the round in which all of the queue was run."""
    times, calls = max(rounds, key=lambda one: one[1].get(RUN, 0))
    figures = {
        step: (times.get(step, 0) / calls[RUN] / 1e3, calls.get(step, 0) / calls[RUN])
        for step in [*(label for label, *_ in steps()), REST]
    }
    return {**figures, TOTAL: (sum(times.values()) / calls[RUN] / 1e3, 1)}


def report(rounds: Rounds) -> str:
    """The table of both."""
    alone, queued = one_at_a_time(rounds), in_a_queue(rounds)
    head = ["| step | calls | one at a time, µs | queued, µs |", "|---|--:|--:|--:|"]
    return "\n".join(
        [
            *head,
            *(
                f"| {step} | {calls:.0f} | {time:.1f} | {queued[step][0]:.1f} |"
                for step, (time, calls) in alone.items()
            ),
        ]
    )


def drive() -> str:
    """Send cells to a timed kernel, one at a time and all at once; the table."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rounds.json"
        arguments = ("-m", "tests.bench.profile", "--result", str(result), "--serve")
        environments.CONTENDERS["timed"] = Contender(
            "timed", (), arguments, environment="trikernel", environ={"PYTHONPATH": str(ROOT)}
        )
        with measuring.started("timed") as kernel:
            kernel.settle()
            for frames in [kernel.encode_cell() for _ in range(CELLS + WARM)]:
                kernel.run(frames)
            queue = [kernel.encode_cell() for _ in range(CELLS)]
            for frames in queue:
                kernel.shell.send_multipart(frames)
            kernel.until_idle(queue[-1])
            kernel.ask(kernel.control, kernel.encode("shutdown_request", restart=False))
            kernel.process.wait(30)
        return report(json.loads(result.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.result)
        return
    table = drive()
    print(table)
    if options.write:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    main()
