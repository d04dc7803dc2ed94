"""Which test shows which row of a reference page, gathered while pytest runs.

``python -m tests.evidence`` writes the pages from the tests' marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "contributing"


@attrs.define(eq=False)
class Table:
    """One page: its rows, and the tests that ``pytest.mark.<mark>(number)`` names for each."""

    mark: str
    title: str
    head: str
    column: str
    rows: dict[int, str]
    tests_of: dict[int, list[str]] = attrs.field(factory=dict)

    @property
    def path(self) -> Path:
        """The page's file."""
        return FOLDER / f"{self.mark}s.md" if self.mark != "seed" else FOLDER / "seed.md"

    def note(self, item: pytest.Item) -> None:
        """Remember which rows a collected test shows."""
        for mark in item.iter_markers(self.mark):
            for number in mark.args:
                names = self.tests_of.setdefault(number, [])
                if name_of(item.nodeid) not in names:
                    names.append(name_of(item.nodeid))

    def page(self) -> str:
        """The page's text."""
        lines = [
            f"# {self.title}",
            "",
            f"{self.head} Made by `python -m tests.evidence`; a test fails",
            "when it is out of date, or when a row has no passing test.",
            "",
            f"| # | {self.column} | tests |",
            "|--:|---|---|",
        ]
        for number, text in self.rows.items():
            names = "<br>".join(f"`{name}`" for name in sorted(self.tests_of.get(number, [])))
            lines.append(f"| {number} | {text} | {names} |")
        return "\n".join(lines) + "\n"


SEED = Table(
    "seed",
    "The seed's behaviour, row by row",
    "What ipykernel's kernel base class does, re-created on Trio, and the tests that show it.",
    "behaviour",
    {
        1: "the verbs `do_execute` ... `do_clear`, each plain or async",
        2: "the facts in `kernel_info_reply`, with defaults for what is missing",
        3: "one receiver for each channel, several shell channels on one kernel",
        4: "`open_priority_channel()`: most urgent first, FIFO among equals",
        5: "dispatch is serial; a failing handler stops nothing; control beside a running cell",
        6: "`process_one` and `do_one_iteration`, from inside a running cell too",
        7: "busy, handler, output, reply, idle: in this order under errors and cancels too",
        8: "undecodable and unknown messages are logged; unknown requests get an error reply",
        9: "a handler that raises is logged and answered",
        10: "`status: starting`, once, without a parent",
        11: "`execute_request`: defaults, silence, counter, `execute_input`, `started`",
        12: "`init_metadata`, `finish_metadata`, metadata of aborted replies",
        13: "an error aborts what is queued, and what comes within `stop_on_error_timeout`",
        14: "`abort_request`: by id, by list, everything; queued and running",
        15: "`should_handle` decides for each request, plain or async",
        16: "complete, inspect, history, is_complete, comm_info, connect: replies and defaults",
        17: "`apply_request` with buffers, `clear_request`, `int_id`, `ident`",
        18: "shutdown: verb, reply, idle, and the broadcast as the last word; bounded",
        19: "`raw_input`, `getpass`, `async_input`",
        20: "`send_response` to the current parent, synchronous, from any thread",
        21: "topics `kernel.<ident>.<type>` on iopub",
        22: "`record_ports` and `connect_reply`",
        23: "an interrupt reaches user code only; an idle kernel ignores it; the hooks",
        24: "`eventloop`: advanced while nothing waits, swapped, cleared, interrupted",
        25: "output is out before the reply, without sleeping",
        26: "`darwin_app_nap`",
        27: "what JSON cannot say never stops a send",
        28: "settings by keyword, flag and environment, and their ranges",
        29: "current jupyter_client",
        30: "`sys.stdout` may be None",
        31: "`msg_types`, handlers added and replaced",
        32: "`set_parent`, `_publish_status`, `_topic`, `schedule_dispatch`, `session` ...",
    },
)

PROMISES = Table(
    "promise",
    "Promises",
    "What people suffer from in notebooks today, and the tests that show that it is not so here.",
    "what does not happen here",
    {
        1: "the kernel stops answering, idle, because a send ate the socket's edge",
        2: "`asyncio.run` fails in a cell, or makes the kernel drop queued cells",
        3: "output is lost, late or out of order; `idle` is lost",
        4: "a cell that awaits cannot be interrupted",
        5: "output of tasks and threads appears in the wrong cell",
        6: "the kernel is deaf while a cell runs or awaits",
        7: "after an error, Run All aborts some cells and runs others",
        8: "a shutdown hangs, or leaves processes behind",
        9: "a flood of output drowns the frontend",
        10: "output of child processes and of C code is lost, or hangs the kernel",
        11: "background tasks stop with the cell that started them",
        12: "context variables do not last from cell to cell",
        13: "exceptions in background tasks are swallowed",
        14: "an interrupt at the wrong moment kills the kernel",
        16: "`input()` wedges the notebook",
        17: "Trio works by half: one crash ends all tasks, the loop does not go on between cells",
        20: "others read the key, replay messages, or drown the kernel without it",
        21: "a forked child answers in its parent's place",
    },
)

TABLES = (SEED, PROMISES)
passed: set[str] = set()
ran: set[str] = set()
files: set[Path] = set()


def all_collected() -> bool:
    """Whether the whole suite was collected, and not a part of it."""
    return files >= set(Path(__file__).parent.rglob("test_*.py"))


def name_of(nodeid: str) -> str:
    """A test's name without its parameters."""
    return nodeid.partition("[")[0]


def note_items(items: list[pytest.Item]) -> None:
    """Remember which rows the collected tests show."""
    for item in items:
        files.add(item.path)
        for table in TABLES:
            table.note(item)


def note_report(report: pytest.TestReport) -> None:
    """Remember what passed; one failing parameter takes a test's name out for good."""
    name = name_of(report.nodeid)
    if report.when == "call":
        if report.passed and (name in passed or name not in ran):
            passed.add(name)
        elif not report.passed and not report.skipped:
            passed.discard(name)
        ran.add(name)


class _Collector:
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        note_items(items)


if __name__ == "__main__":
    code = pytest.main(["--collect-only", "-qq", "tests"], plugins=[_Collector()])
    # Under ``-m`` this module and the one that conftest imports are two: write the noted one.
    from tests import evidence as noted

    for table in noted.TABLES:
        table.path.write_text(table.page(), "utf-8")
    sys.exit(0 if code == 0 else 1)
