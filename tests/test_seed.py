"""The table of the seed's behaviour is complete, current, and true."""

from __future__ import annotations

import pytest

from . import seed_table

ROWS = sorted(seed_table.ROWS)


@pytest.mark.parametrize("number", ROWS)
def test_every_row_has_a_passing_test(number: int) -> None:
    names = seed_table.tests_of.get(number, [])
    if not seed_table.ran.issuperset(names):
        pytest.skip("only part of the suite is run")
    assert names, f"row {number} ({seed_table.ROWS[number]}) has no test"
    assert seed_table.passed.issuperset(names)


def test_the_page_is_what_the_marks_say(request: pytest.FixtureRequest) -> None:
    if len(seed_table.tests_of) < len(ROWS):
        pytest.skip("only part of the suite is collected")
    assert seed_table.PAGE.read_text("utf-8") == seed_table.page()
