"""Which test shows which row of the seed's behaviour, gathered while pytest runs.

``python -m tests.seed_table`` writes `docs/reference/seed.md` from the tests' marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "seed.md"

ROWS = {
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
    32: "`set_parent`, `_publish_status`, `_topic`, `schedule_dispatch`, `session`, `instance` ...",
}

tests_of: dict[int, list[str]] = {}
passed: set[str] = set()
ran: set[str] = set()


def name_of(nodeid: str) -> str:
    """A test's name without its parameters."""
    return nodeid.partition("[")[0]


def note_items(items: list[pytest.Item]) -> None:
    """Remember which rows the collected tests show."""
    for item in items:
        for mark in item.iter_markers("seed"):
            for number in mark.args:
                names = tests_of.setdefault(number, [])
                if name_of(item.nodeid) not in names:
                    names.append(name_of(item.nodeid))


def note_report(report: pytest.TestReport) -> None:
    """Remember what passed; one failing parameter takes a test's name out for good."""
    name = name_of(report.nodeid)
    if report.when == "call":
        if report.passed and (name in passed or name not in ran):
            passed.add(name)
        elif not report.passed:
            passed.discard(name)
        ran.add(name)


def page() -> str:
    """The reference page."""
    lines = [
        "# The seed's behaviour, row by row",
        "",
        "What ipykernel's kernel base class does, re-created on Trio, and the tests that show it.",
        "This page is made by `python -m tests.seed_table`; a test fails when it is out of date,",
        "or when a row has no passing test.",
        "",
        "| # | behaviour | tests |",
        "|--:|---|---|",
    ]
    for number, text in ROWS.items():
        names = "<br>".join(f"`{name}`" for name in sorted(tests_of.get(number, [])))
        lines.append(f"| {number} | {text} | {names} |")
    return "\n".join(lines) + "\n"


class _Collector:
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        note_items(items)


if __name__ == "__main__":
    code = pytest.main(["--collect-only", "-qq", "tests"], plugins=[_Collector()])
    # Under ``-m`` this module and the one that conftest imports are two: write the noted one.
    from tests import seed_table as noted

    PAGE.write_text(noted.page(), "utf-8")
    sys.exit(0 if code == 0 else 1)
