"""Writes the tables of the tour from the code's own: ``python -m tests.house.tour``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

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


SECTIONS: dict[str, Callable[[], str]] = {"private names": private_names}


def filled(text: str) -> str:
    """The page with its sections made anew."""
    return _SECTION.sub(lambda found: found[1] + SECTIONS[found["name"]]() + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
