"""The table's rows: what each figure is called, and what it has to reach."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

__all__ = ["PEERS_OF", "ROWS", "Row", "Target"]

Figures = Mapping[str, Mapping[str, float]]  # by contender, by figure


@attrs.frozen
class Target:
    """At most, or at least, ``factor`` times the figure of ``peer``; without one, of 1."""

    comparison: str
    factor: float
    peer: str = ""

    def __str__(self) -> str:
        return f"{self.comparison} {self.factor:g}" + (f" x {self.peer}" if self.peer else "")

    def ratio(self, row: Row, figures: Figures) -> float:
        """Our figure over the peer's; NaN where it has none."""
        ours = figures[row.ours].get(row.key, math.nan)
        return ours / figures.get(self.peer, {}).get(row.key, math.nan) if self.peer else ours

    def is_met(self, row: Row, figures: Figures) -> bool:
        ratio = self.ratio(row, figures)
        return ratio <= self.factor if self.comparison == "≤" else ratio >= self.factor


@attrs.frozen
class Row:
    """``ours`` is the contender that the target is about."""

    key: str
    title: str
    targets: tuple[Target, ...] = ()
    ours: str = "trikernel"


def _most(factor: float, peer: str = "") -> Target:
    return Target("≤", factor, peer)


def _least(factor: float, peer: str = "") -> Target:
    return Target("≥", factor, peer)


ENGINES = "Engines of a cluster (at ipyparallel's controller)"
PEERS_OF: Mapping[str, tuple[str, ...]] = {ENGINES: ("ipyparallel",)}
"""Whom the rows of a section are measured beside, where it is not the other kernels."""

ROWS: Mapping[str, tuple[Row, ...]] = {
    "Requests": (
        Row(
            "execute",
            "execute, p50, µs",
            (_most(1, "xeus-python"), _most(0.75, "async-kernel"), _most(0.22, "ipykernel")),
        ),
        Row(
            "queued",
            "1000 queued executes, per s",
            (_least(1, "xeus-python"), _least(1.7, "async-kernel"), _least(9, "ipykernel")),
        ),
        Row("kernel_info", "kernel_info, p50, µs", (_most(1.4, "xeus-python"),)),
        Row(
            "clients",
            "50 clients x 20 requests, per s",
            (_least(0.8, "xeus-python"), _least(0.9, "floor")),
        ),
    ),
    "Outputs": (
        Row("display", "`display()` in a loop, per s", (_least(1.3, "xeus-python"),)),
        Row("printed", "printed lines, per s", (_least(3, "ipykernel"),)),
        Row("printed_arrived", "of them arrived, %", (_least(100),)),
        Row("print_call", "`print`, µs a call", (_most(1),)),
        Row("large_result", "32 MiB result, MB/s", (_least(3, "ipykernel"),)),
        Row("large_result_copies", "memory for it, in payloads beside the value", (_most(2),)),
    ),
    "While a cell spins": (
        Row("control_busy", "control, p50, ms", (_most(1), _most(0.2, "ipykernel"))),
        Row("heartbeat_busy", "heartbeat, p50, µs", (_most(1.1, "ipykernel"),)),
        Row(
            "interrupt_first",
            "the first interrupt to its reply: a loop, ms",
            (_most(5), _most(0.5, "ipykernel")),
        ),
        Row(
            "interrupt_spin",
            "interrupt to reply: a loop, ms",
            (_most(5), _most(0.5, "ipykernel")),
        ),
        Row(
            "interrupt_sleep",
            "interrupt to reply: `time.sleep`, ms",
            (_most(5), _most(0.5, "ipykernel")),
        ),
        Row("interrupt_await", "interrupt to reply: `await`, ms", (_most(5),)),
        Row(
            "aborted",
            "500 aborted, until the next cell has run, ms",
            (_most(0.8, "async-kernel"), _most(0.8, "ipykernel"), _most(0.8, "xeus-python")),
        ),
    ),
    "Subshells": (
        Row("subshell_created", "created, to its first reply, ms", (_most(20),)),
        Row("subshells_waiting", "execute beside 8 that await, over alone", (_most(1.1),)),
    ),
    "Debugger": (
        Row("debugger_attached", "execute with one attached, over without", (_most(1.5),)),
    ),
    "Start and rest": (
        Row(
            "start",
            "start to first reply, ms",
            (_most(1.3, "xeus-python"), _most(0.65, "ipykernel")),
        ),
        Row("start_cell", "start to first executed cell, ms", (_most(1.3, "xeus-python"),)),
        Row("start", "start to first reply, echo kernel, ms", (_most(1.4, "floor"),), "echo"),
        Row("memory", "resident memory, MB", (_most(0.6, "ipykernel"),)),
        Row("memory_own", "of it not shared with other processes, MB"),
        Row("idle_cpu", "CPU while idle, ms per s", (_most(0.1),)),
        Row("idle_wakes", "wake-ups of its threads while idle, per s"),
    ),
    "Warm starts (a fork server starts trikernel)": (
        Row(
            "start_1",
            "start to first reply, ms",
            (_most(0.35, "xeus-python"), _most(0.2, "ipykernel")),
            "warm",
        ),
        Row(
            "cell_1",
            "start to first executed cell, ms",
            (_most(0.35, "xeus-python"), _most(0.2, "ipykernel")),
            "warm",
        ),
        Row(
            "start_stack",
            "start to a cell that imports pandas and matplotlib, ms",
            (_most(0.1, "ipykernel"),),
            "warm",
        ),
        Row(
            "restart",
            "JupyterLab: restart to idle in the browser, ms",
            (_most(0.5, "ipykernel"),),
            "warm",
        ),
        Row(
            "notebooks",
            "20 small notebooks: `trikernel run`, nbclient, s",
            (_most(0.2, "ipykernel"),),
            "warm",
        ),
        Row("memory_own_1", "memory of its own, idle, MB", (_most(0.65, "xeus-python"),), "warm"),
        Row("memory_own_10", "10 of them, MB", (), "warm"),
        Row("memory_own_50", "50 of them, MB", (_most(0.4, "ipykernel"),), "warm"),
        Row("start_10", "start to first reply of 10, one after the other, ms", (), "warm"),
        Row("start_50", "of 50, ms", (), "warm"),
    ),
    ENGINES: (
        Row("engine_start", "start to the first result, s", (_most(0.6, "ipyparallel"),)),
        Row("engines_50", "50 engines, started by a launcher, s", (_most(2),)),
        Row("engine_memory", "memory, MB", (_most(0.6, "ipyparallel"),)),
        Row("engine_calls", "1000 empty calls, s", (_most(1 / 2.5, "ipyparallel"),)),
        Row("engine_processor", "processor time of the engine for them, s"),
        Row("engine_latency", "one call, p50, ms", (_most(0.8, "ipyparallel"),)),
        Row("engine_push", "100 MB pushed, s", (_most(1, "ipyparallel"),)),
        Row("engine_pull", "100 MB pulled, s", (_most(1, "ipyparallel"),)),
        Row("engine_sleeps", "200 async sleeps of 0.1 s on one engine, s", (_most(0.4),)),
        Row("engine_abort", "abort of a call that awaits, ms", (_most(20),)),
        Row("engine_abort_busy", "abort of a call that computes, ms", (_most(20),)),
    ),
    "Growth (trikernel)": (
        Row("queue_growth", "cost of a request, 100,000 queued over 10 queued", (_most(1.1),)),
        Row("memory_growth", "memory after 100,000 cells over 10,000, no history", (_most(1.01),)),
        Row("history_bytes", "bytes a cell in the history", ()),
        Row("history_bytes_alone", "the same, IPython alone", ()),
    ),
    "Clients, notebooks, tests (trikernel)": (
        Row("import", "`import trikernel` over `import trio`", (_most(1.5),)),
        Row("memory_start", "kernel in memory, start to first reply, ms", (_most(5),)),
        Row("memory_kernels", "kernels tested in memory, per s", (_least(200),)),
        Row("memory_python_kernels", "the same, Python kernels, per s", (_least(40),)),
        Row("memory_each", "1,000 kernels in memory, kB each", (_most(300),)),
        Row("client_overhead", "execute by the client, over a raw socket, µs", (_most(150),)),
        Row("notebook", "a notebook of 500 cells, s"),
        Row("notebook_nbclient_ipykernel", "nbclient on ipykernel takes x as long", (_least(3),)),
        Row("notebook_nbclient", "nbclient on trikernel takes x as long", (_least(1.5),)),
    ),
    "Connections (trikernel)": (
        Row("handshake_start", "start by the handshake, over the classic one", (_most(1),)),
        Row("curve_execute", "execute over CURVE, over plain", (_most(1.3),)),
        Row("curve_large", "32 MiB output over CURVE, over plain"),
    ),
    "Timeline (trikernel)": (
        Row("timeline_on", "a cell of 10,000 switches, recorded over not", (_most(1.15),)),
        Row("timeline_drawn", "its picture, drawn after it, ms"),
    ),
    "Waiting for a socket (trikernel)": (
        Row("round_trip", "round trip over tcp in one loop, µs"),
        Row("round_trip_future", "zmq-anyio's Future takes x as long"),
        Row("messages", "queued messages, per s"),
        Row("messages_future", "x zmq-anyio's"),
    ),
}
