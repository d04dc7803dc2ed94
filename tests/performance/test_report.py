"""The table of the benchmarks says what was measured, and whether it is enough."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.chart import draw
from tests.bench.report import PAGE, Report
from tests.bench.rows import ROWS, Row, Target

FIGURES = {
    "trikernel": {"execute": 500.0, "queued": 3000.0, "printed_arrived": 100.0},
    "ipykernel": {"execute": 2500.0, "queued": 300.0},
    "xeus-python": {"execute": 550.0},
    "echo": {"start": 90.0},
}
ENGINES = {"trikernel": {"engine_start": 1.2}, "ipyparallel": {"engine_start": 2.0}}


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("≤", 0.25, "ipykernel"), True),
        (Target("≤", 0.15, "ipykernel"), False),
        (Target("≥", 0.15, "ipykernel"), True),
        (Target("≤", 0.8, "xeus-python"), False),
        (Target("≤", 500), True),
        (Target("≤", 499), False),
    ],
)
def test_a_target_is_met_or_not(target: Target, met: bool) -> None:
    assert target.is_met(Row("execute", "execute"), FIGURES) is met


def test_a_target_beside_a_kernel_that_has_no_figure_is_neither() -> None:
    assert math.isnan(Target("≤", 1, "floor").ratio(Row("execute", "execute"), FIGURES))
    assert "| -; -; yes, 10.00 |" in Report(FIGURES, 1).as_text()


def test_the_table_has_figures_targets_and_verdicts() -> None:
    lines = Report(FIGURES, 1).as_text().splitlines()
    (line,) = (one for one in lines if one.startswith("| execute"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:6] == ["**500**", "2,500", "-", "550", "-"]
    targets = "≤ 1 x xeus-python; ≤ 0.75 x async-kernel; ≤ 0.22 x ipykernel"
    assert cells[6:] == [targets, "yes, 0.91; -; yes, 0.20"]


def test_engines_have_those_of_ipyparallel_beside_them() -> None:
    lines = Report(ENGINES, 1).as_text().splitlines()
    assert lines[2] == "|  | trikernel | ipyparallel | to reach | reached |"
    title = "start to the first result, s"
    assert lines[4] == f"| {title} | **1.2** | 2 | ≤ 0.6 x ipyparallel | yes, 0.60 |"


def test_a_run_of_some_rows_keeps_the_figures_and_versions_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "versions", lambda name: f"{name} 0.1")
    last = json.loads(PAGE.with_suffix(".json").read_text("utf-8"))
    found = json.loads(Report({"ipykernel": {"execute": 1.0}}, 1).over_the_last().as_json())
    assert found["figures"]["ipykernel"].pop("execute") == 1.0
    del last["figures"]["ipykernel"]["execute"]
    assert found["figures"] == last["figures"]
    names = [one.partition(" ")[0] for one in last["versions"]]
    assert [one.partition(" ")[0] for one in found["versions"]] == names
    assert "ipykernel 0.1" in found["versions"]


def test_rows_that_were_not_measured_are_left_out() -> None:
    text = Report(FIGURES, 1).as_text()
    assert "printed lines" not in text
    assert "Growth" not in text


def test_the_picture_is_one(tmp_path: Path) -> None:
    draw(FIGURES, tmp_path / "chart.svg")
    root = ET.parse(tmp_path / "chart.svg").getroot()
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"trikernel", "ipykernel", "a cell", "queued"} <= words


def test_the_page_has_every_row() -> None:
    figures = json.loads(PAGE.with_suffix(".json").read_text("utf-8"))["figures"]
    missing = [row for rows in ROWS.values() for row in rows if row.key not in figures[row.ours]]
    assert missing == []
    page = PAGE.read_text("utf-8")
    assert [row.title for rows in ROWS.values() for row in rows if row.title not in page] == []
