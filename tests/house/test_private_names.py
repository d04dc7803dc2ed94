"""Private names of other libraries: each stands in one table, exists, and is still needed."""

from __future__ import annotations

import ast
import sys

import pytest

from trikernel.system.private_names import PRIVATE_NAMES, PrivateName

from .foreign import names_outside_of_self, resolve, touches
from .source import MODULES

TEXTS = {module.name: module.text for module in MODULES}


def private_parts(row: PrivateName) -> set[str]:
    return {part for part in row.name.split(".") if part.startswith("_")}


@pytest.mark.parametrize("row", PRIVATE_NAMES, ids=lambda row: row.name)
def test_a_listed_name_exists(row: PrivateName) -> None:
    if row.only[:1].isdigit():
        is_here = sys.version_info >= tuple(map(int, row.only.split(".")))
    else:
        is_here = row.only in ("", sys.platform)
    if row.is_optional:
        pytest.importorskip(row.name.partition(".")[0])
    if is_here:
        resolve(row.name)  # raises for what is not there


@pytest.mark.parametrize("row", PRIVATE_NAMES, ids=lambda row: row.name)
def test_a_listed_name_is_touched_where_the_table_says(row: PrivateName) -> None:
    last = row.name.rpartition(".")[2]
    for module in row.where:
        assert module in TEXTS, f"{module} is gone: where is {row.name} touched now?"
        assert last in TEXTS[module], f"{module} does not touch {row.name} any more"


def test_no_name_is_listed_twice() -> None:
    names = [row.name for row in PRIVATE_NAMES]
    assert len(set(names)) == len(names)


def test_no_private_name_is_touched_that_is_not_listed() -> None:
    listed = {(part, where) for row in PRIVATE_NAMES for part in private_parts(row)
              for where in row.where}  # fmt: skip
    missing = [str(one) for one in touches() if (one.name, one.module) not in listed]
    if missing:
        about = (
            "Private names of another library that trikernel/system/private_names.py does not "
            "list, or of another module of ours, which should offer something instead:"
        )
        pytest.fail("\n  ".join([about, *missing]), pytrace=False)


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(LookupError, match=r"trio has no '_nothing'"):
        resolve("trio._nothing")
    with pytest.raises(LookupError, match=r"there is no module 'no_such_library'"):
        resolve("no_such_library._name")


def test_the_table_has_no_row_without_a_private_part_or_a_reason() -> None:
    for row in PRIVATE_NAMES:
        assert private_parts(row), row.name
        assert row.why
        assert row.without
        assert row.where
        assert ast.parse(row.name, mode="eval")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import trio._core._run", {"_core", "_run"}),
        ("from IPython.core.magics.execution import _format_time", {"_format_time"}),
        ("from ._codec import encode", set()),
        ("trio._core", {"_core"}),
        ("getattr(shell, '_instance')", {"_instance"}),
        ("getattr(shell, 'instance')", set()),
        ("self._own", set()),
        ("os.__stdout__", set()),
    ],
)
def test_a_private_name_is_found_in_code(code: str, found: set[str]) -> None:
    nodes = ast.walk(ast.parse(code))
    assert {name for node in nodes for name in names_outside_of_self(node)} == found
