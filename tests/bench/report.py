"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .chart import draw
from .environments import ENGINES, PEERS, ROOT, versions
from .rows import PEERS_OF, ROWS, Row

__all__ = ["Report", "compared"]

PAGE = ROOT / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


@attrs.frozen
class Report:
    """The medians of a run, by contender."""

    figures: Mapping[str, Mapping[str, float]]
    rounds: int
    earlier: tuple[str, ...] = ()  # versions of what this run has not measured

    def as_text(self) -> str:
        """The tables, in Markdown, which reads well in a terminal too."""
        sections = []
        for title, rows in ROWS.items():
            names = PEERS_OF.get(title, PEERS)
            lines = [line for line in (self._line(row, names) for row in rows) if line]
            if lines:
                head = ["", "trikernel", *names, "to reach", "reached"]
                rule = ["---", *["--:"] * (len(names) + 1), "---", "---"]
                sections.append("\n".join([f"## {title}", "", _cells(head), _cells(rule), *lines]))
        return "\n\n".join(sections) + "\n"

    def _line(self, row: Row, names: Sequence[str]) -> str:
        ours = self.figures.get(row.ours, {}).get(row.key)
        if ours is None:
            return ""
        peers = [_figure(self.figures.get(peer, {}).get(row.key)) for peer in names]
        targets = "; ".join(map(str, row.targets))
        return _cells([row.title, f"**{_figure(ours)}**", *peers, targets, self._reached(row)])

    def _reached(self, row: Row) -> str:
        verdicts = []
        for target in row.targets:
            ratio = target.ratio(row, self.figures)
            word = "yes" if target.is_met(row, self.figures) else "**no**"
            if math.isnan(ratio):
                verdicts.append("-")
            else:
                verdicts.append(f"{word}, {ratio:.2f}" if target.peer else word)
        return "; ".join(verdicts)

    def as_json(self) -> str:
        """Every figure, with what it was measured on."""
        content: dict[str, Any] = {
            "command": self.command,
            "system": platform.system(),
            "python": platform.python_version(),
            "versions": self.versions,
            "figures": self.figures,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @property
    def command(self) -> str:
        """What made this."""
        return f"python -m tests.bench --write --rounds {self.rounds}"

    @property
    def versions(self) -> list[str]:
        """Of everything that was measured."""
        if self.earlier:
            return list(self.earlier)
        measured = [name for name in PEERS if name in self.figures]
        measured += [ENGINES.name] if "ipyparallel" in self.figures else []
        return [versions(name) for name in measured]

    def over_the_last(self) -> Report:
        """With the page's figures where this run has measured none."""
        last = json.loads(PAGE.with_suffix(".json").read_text("utf-8"))
        figures = last["figures"]
        for name, found in self.figures.items():
            figures[name] = {**figures.get(name, {}), **found}
        known = {one.partition(" ")[0]: one for one in [*last["versions"], *self.versions]}
        return attrs.evolve(self, figures=figures, earlier=tuple(known.values()))

    def write(self) -> None:
        """Put the tables into the page, in the place of the last ones; its data and its picture."""
        words = (
            f"Made by `{self.command}` on {platform.system()}, Python "
            f"{platform.python_version()}: medians of interleaved rounds, with "
            f"{', '.join(self.versions)}, each in an environment of its own.\n\n"
        )
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        after = rest.split(END)[1]
        text = f"{before}{BEGIN}\n{words}{self.as_text()}{END}{after}"
        PAGE.write_text(text, "utf-8")
        PAGE.with_suffix(".json").write_text(self.as_json(), "utf-8")
        draw(self.figures, PAGE.with_suffix(".svg"))


def compared(now: Mapping[str, float], before: Mapping[str, float]) -> str:
    """A table of the figures that both have, and of the later ones as a ratio to the earlier."""
    lines = [_cells(["", "now", "before", "now / before"]), _cells(["---", *["--:"] * 3])]
    for row in (row for rows in ROWS.values() for row in rows):
        if row.key in now and before.get(row.key):
            ratio = f"{now[row.key] / before[row.key]:.2f}"
            figures = _figure(now[row.key]), _figure(before[row.key])
            lines.append(_cells([row.title, *figures, ratio]))
    return "\n".join(lines)


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
