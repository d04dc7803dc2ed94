"""The tables of what the tests show are complete, current, and true."""

from __future__ import annotations

import pytest

from . import evidence
from .evidence import TABLES, Table

ROWS = [(table, number) for table in TABLES for number in table.rows]


@pytest.mark.parametrize(("table", "number"), ROWS, ids=lambda one: getattr(one, "mark", str(one)))
def test_every_row_has_a_passing_test(table: Table, number: int) -> None:
    names = table.tests_of.get(number, [])
    if not evidence.all_collected() or not evidence.ran.issuperset(names):
        pytest.skip("only part of the suite is run")
    assert names, f"row {number} ({table.rows[number]}) has no test"
    assert evidence.passed.issuperset(names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.mark))
def test_the_page_is_what_the_marks_say(table: Table) -> None:
    if not evidence.all_collected():
        pytest.skip("only part of the suite is collected")
    assert table.path.read_text("utf-8") == table.page()
