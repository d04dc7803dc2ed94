"""Our display formatter gives what IPython's gives, whoever has registered what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import (
    DisplayFormatter,
    HTMLFormatter,
    IPythonDisplayFormatter,
    MimeBundleFormatter,
)

from trikernel.python import PythonKernel
from trikernel.python.fast_paths import DisplayFormatter as CellDisplayFormatter


class Shown:
    """Represents itself in three ways."""

    def _repr_html_(self) -> str:
        return "<b>shown</b>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/x-own": "own"}


class Number(int):
    """A subclass may have what int has not."""

    def _repr_latex_(self) -> str:
        return "$n$"


def both() -> tuple[CellDisplayFormatter, DisplayFormatter]:
    return CellDisplayFormatter(), DisplayFormatter()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain)
def test_plain_objects_look_the_same(value: Any) -> None:
    ours, theirs = both()
    assert ours.format(value) == theirs.format(value)


def format_interrupted(ours: CellDisplayFormatter, value: Any, line: int) -> bool:
    """Raise `KeyboardInterrupt` in the nth line of ours that it comes to; whether there is one."""
    left = count(line, -1)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if "fast_paths" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(left) == 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(KeyboardInterrupt):
            ours.format(value)
    finally:
        sys.settrace(before)
    return next(left) < 0


def test_an_interrupt_anywhere_while_the_first_value_is_shown_is_the_end_of_that_one_only() -> None:
    line = 0
    ours, theirs = both()
    while format_interrupted(ours, 5, line):
        assert ours.format(5) == theirs.format(5)
        assert ours.format(Number(3)) == theirs.format(Number(3))
        line, ours = line + 1, CellDisplayFormatter()
    assert line > 15


@pytest.mark.parametrize("value", [Shown(), Number(3), [Shown()], Shown, 1 + 2j, {1, 2}, range(3)])
def test_other_objects_look_the_same(value: Any) -> None:
    ours, theirs = both()
    assert ours.format(value) == theirs.format(value)


@pytest.mark.parametrize("options", [{"include": ["text/html"]}, {"exclude": ["text/plain"]}])
def test_a_choice_of_types_is_kept(options: dict[str, Any]) -> None:
    ours, theirs = both()
    assert ours.format(1, **options) == theirs.format(1, **options)


def by_type(one: Any) -> None:
    one.for_type(int, lambda value: f"<i>{value}</i>")


def by_name(one: Any) -> None:
    one.for_type_by_name("builtins", "int", lambda value: f"<i>{value}</i>")


def by_base(one: Any) -> None:
    one.for_type(object, lambda value: f"<i>{value}</i>")


def by_identity(one: Any) -> None:
    one.singleton_printers[id(7)] = lambda value: "<i>seven</i>"


def by_table(one: Any) -> None:
    one.type_printers = {int: lambda value: f"<i>{value}</i>"}


@pytest.mark.parametrize("register", [by_type, by_name, by_base, by_identity, by_table])
def test_a_printer_for_a_plain_type_is_asked(register: Callable[[Any], None]) -> None:
    shown = []
    for one in both():
        assert one.format(7) == ({"text/plain": "7"}, {})
        register(one.formatters["text/html"])
        shown.append(one.format(7))
    assert shown[0] == shown[1]
    assert "text/html" in shown[0][0]


def test_a_printer_of_bundles_is_asked() -> None:
    shown = []
    for one in both():
        one.mimebundle_formatter.for_type(int, lambda value, **_: {"text/x-own": "own"})
        shown.append(one.format(7))
    assert shown == [({"text/plain": "7", "text/x-own": "own"}, {})] * 2


def test_somebodys_own_formatter_is_asked() -> None:
    class Loud(HTMLFormatter):
        def __call__(self, value: Any) -> str:
            return "<b>!</b>"

    shown = []
    for one in both():
        one.format(7)
        one.formatters["text/html"] = Loud(parent=one)
        shown.append(one.format(7))
    assert shown == [({"text/plain": "7", "text/html": "<b>!</b>"}, {})] * 2


def test_somebodys_own_formatter_of_bundles_is_asked() -> None:
    class Loud(MimeBundleFormatter):
        def __call__(self, value: Any, include: Any = None, exclude: Any = None) -> Any:
            return {"text/x-own": "own"}, {}

    shown = []
    for one in both():
        one.format(7)
        one.mimebundle_formatter = Loud(parent=one)
        shown.append(one.format(7))
    assert shown == [({"text/plain": "7", "text/x-own": "own"}, {})] * 2


def test_somebody_who_shows_everything_is_asked() -> None:
    class Shows(IPythonDisplayFormatter):
        def __call__(self, value: Any) -> bool:
            return True

    shown = []
    for one in both():
        one.format(7)
        one.ipython_display_formatter = Shows(parent=one)
        shown.append(one.format(7))
    assert shown == [({}, {})] * 2


@pytest.mark.parametrize("metadata", [{"a": 1}, {}, None])
def test_a_printer_of_text_may_give_metadata(metadata: Any) -> None:
    shown = []
    for one in both():
        text = one.formatters["text/plain"]
        text.__class__ = type(
            "Text", (type(text),), {"__call__": lambda self, value: ("7", metadata)}
        )
        shown.append(one.format(7))
    assert shown[0] == shown[1]
    assert shown[0][0] == {"text/plain": "7"}


@pytest.fixture
def kernel() -> PythonKernel:
    return PythonKernel()


async def test_an_element_that_cannot_be_shown_is_asked_once(kernel_client: Any) -> None:
    await kernel_client.execute(
        "class Bad:\n    asked = 0\n    def __repr__(self): Bad.asked += 1; raise ValueError('bad')"
    )
    execution = await kernel_client.execute("[Bad()]")
    assert [one["output_type"] for one in execution.outputs] == ["error"]
    await kernel_client.expect("Bad.asked", result="1")


async def test_it_is_configured_by_ipythons_name(kernel_client: Any) -> None:
    await kernel_client.expect("%config DisplayFormatter.active_types", status="ok")
