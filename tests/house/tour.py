"""Writes the tables of the tour from the code's own: ``python -m tests.house.tour``."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from trikernel.core.peers import SUBSCRIBER_TRANSITIONS
from trikernel.core.request import TRANSITIONS
from trikernel.core.stop_signals import STOP_TRANSITIONS
from trikernel.system.private_names import PRIVATE_NAMES

from .source import ROOT

__all__ = ["PAGE", "SECTIONS", "filled"]

PAGE = ROOT / "docs" / "contributing" / "tour.md"
_SECTION = re.compile(
    r"(<!-- (?P<name>[\w ]+): made by python -m tests\.house\.tour -->\n).*?(<!-- end -->)", re.S
)


def private_names() -> str:
    """The table of private names, those of one class and one reason in one row."""
    grouped: dict[tuple[Any, ...], list[str]] = {}
    for row in PRIVATE_NAMES:
        key = (row.name.rpartition(".")[0], row.where, row.why, row.without, row.only)
        grouped.setdefault(key, []).append(row.name.rpartition(".")[2])
    lines = ["| name | touched in | why | without it |", "|---|---|---|---|"]
    for (owner, where, why, without, only), names in grouped.items():
        first = f"`{owner}.{names[0]}`" + "".join(f", `{name}`" for name in names[1:])
        place = ", ".join(f"`{module.removeprefix('trikernel.')}`" for module in where)
        having = f" ({only})" if only else ""
        lines.append(f"| {first}{having} | {place} | {why} | {without} |")
    return "\n".join(lines) + "\n"


def transitions(table: Mapping[Any, Mapping[Any, Any]]) -> str:
    """A table of states: each row a state, each column an event."""
    (kind,) = {type(event) for row in table.values() for event in row}
    kind = cast("type[enum.Enum]", kind)
    events = list(kind)
    lines = [
        "| state | " + " | ".join(f"`{event.name}`" for event in events) + " |",
        "|---|" + "---|" * len(events),
    ]
    for state, row in table.items():
        cells = (_name(row.get(event)) for event in events)
        lines.append(f"| `{state.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _name(state: enum.Enum | None) -> str:
    return f"`{state.name}`" if state is not None else ""


SECTIONS: dict[str, Callable[[], str]] = {
    "request": partial(transitions, TRANSITIONS),
    "stop": partial(transitions, STOP_TRANSITIONS),
    "subscribers": partial(transitions, SUBSCRIBER_TRANSITIONS),
    "private names": private_names,
}
TABLES: dict[str, Any] = {
    "request": TRANSITIONS,
    "stop": STOP_TRANSITIONS,
    "subscribers": SUBSCRIBER_TRANSITIONS,
}


def filled(text: str) -> str:
    """The page with its sections made anew."""
    return _SECTION.sub(lambda found: found[1] + SECTIONS[found["name"]]() + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
