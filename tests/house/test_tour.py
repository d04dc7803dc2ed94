"""The tour says what is there: its tables are current, its links name what they lead to."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .source import MODULES, PACKAGE, ROOT
from .tour import PAGE, SECTIONS, TABLES, filled

TEXT = PAGE.read_text("utf-8")
LINKS = re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", TEXT)


def test_the_tables_of_the_tour_are_current() -> None:
    assert filled(TEXT) == TEXT, "python -m tests.house.tour writes them anew"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_tour_has_every_table(name: str) -> None:
    assert f"<!-- {name}: made by" in TEXT


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_a_link_leads_to_what_it_names(name: str, target: str) -> None:
    path = (PAGE.parent / target).resolve()
    (module,) = (module for module in MODULES if module.path == path)
    names = {name for name, _ in module.functions()} | {one.name for one in module.classes()}
    last = name.rpartition(".")[2]
    is_module = name == module.name.removeprefix("trikernel.").replace("trikernel", "")
    is_constant = re.search(rf"^{last}\b.*=", module.text, re.M) is not None
    assert name in names or is_module or is_constant, f"{target} has no {name}"


def test_the_picture_shows_every_layer() -> None:
    maker = _load(ROOT / "docs" / "images" / "make_house_picture.py")
    shown = {name for name, *_ in (*maker.STACK, *maker.BESIDE)}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert shown == folders
    assert (ROOT / "docs" / "images" / "house.svg").read_text("utf-8") == maker.draw()


def test_the_page_for_contributors_leads_to_the_tour() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    assert "](../docs/contributing/tour.md)" in text


@pytest.mark.parametrize(
    "question",
    [
        "Where is a message's signature checked?",
        "Who decides that a request is aborted?",
        "Where would a new message type go?",
        "What happens on the second Ctrl-C?",
    ],
)
def test_the_tour_answers(question: str) -> None:
    assert f"**{question}**" in TEXT


@pytest.mark.parametrize(
    ("module", "table"), [("request", "request"), ("stop", "stop"), ("peers", "subscribers")]
)
def test_the_table_at_the_top_of_a_module_is_the_one_that_the_code_reads(
    module: str, table: str
) -> None:
    (source,) = (one for one in MODULES if one.name == f"trikernel.core.{module}")
    written = _states_in(ast.get_docstring(source.tree) or "")
    read = {
        state.name: {event.name: following.name for event, following in row.items()}
        for state, row in TABLES[table].items()
    }
    assert written == read


def _states_in(docstring: str) -> dict[str, dict[str, str]]:
    """The first table of states in a docstring: its cells stand below its line of ``===``."""
    lines = docstring.splitlines()
    start = next(at for at, line in enumerate(lines) if line.split()[:1] == ["state"])
    spans = [match.span() for match in re.finditer("=+", lines[start - 1])]
    rows = [lines[start], *_until_rule(lines[start + 2 :])]
    (_, *events), *states = [[row[slice(*span)].strip() for span in spans] for row in rows]
    return {
        state: {event: cell for event, cell in zip(events, cells, strict=True) if cell}
        for state, *cells in states
    }


def _until_rule(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.strip().startswith("="):
            return
        yield line


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
