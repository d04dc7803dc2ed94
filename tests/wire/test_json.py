"""JSON: orjson's speed, the standard library's answers."""

from __future__ import annotations

import datetime
import enum
import itertools
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trikernel.errors import CellStopped
from trikernel.wire.json import dumps, loads

DOCUMENTS = [
    "NaN", "[Infinity, -Infinity]", '"\\ud800"', '{"a": "\\udc00x"}', "9007199254740993",
    "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1e400", "-0", "-0.0",
    "123456789012345678901234567890", "[1.5, 12345678901234567890123]", '{"1": 1, "1": 2}',
    "0.1", "1E5", "[[[]]]", '"\\u0000"', "12345678901234567890.5",
]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_decode_as_the_standard_library_decodes_them(document: str) -> None:
    ours, theirs = loads(document.encode()), json.loads(document)
    assert repr(ours) == repr(theirs)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )
)
def test_what_the_standard_library_writes_decodes_equal(value: Any) -> None:
    document = json.dumps(value)
    assert repr(loads(document.encode())) == repr(json.loads(document))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.binary(max_size=5)
        | st.sets(st.integers(), max_size=2),
        lambda children: (
            st.lists(children)
            | st.dictionaries(st.text() | st.integers() | st.none() | st.booleans(), children)
        ),
    )
)
def test_anything_encodes_to_json_that_the_standard_library_reads(value: Any) -> None:
    json.loads(dumps(value), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


class Colour(enum.Enum):
    RED = "red"


class Loud(str):
    __slots__ = ()


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Nowhere:
    """As a lazy proxy is without what it stands for."""

    __class__ = property(lambda self: 1 / 0)

    def __repr__(self) -> str:
        return "nowhere"


class Endless(Sequence[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return index

    def __repr__(self) -> str:
        return "endless"


class EndlessMapping(Mapping[int, int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: int) -> int:
        return key

    def __iter__(self) -> Iterator[int]:
        return itertools.count()

    def __repr__(self) -> str:
        return "endless"


class Torn(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")

    def __repr__(self) -> str:
        return "torn"


@pytest.mark.seed(27)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        ([math.inf, 2**70], [None, 2**70]),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        ({1: {2: 3}}, {"1": {"2": 3}}),
        ({None: 1, True: 2, 1.5: 3}, {"null": 1, "true": 2, "1.5": 3}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Colour.RED, "red"),
        (Path("a"), "a"),
        (Loud("x"), "x"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (Hostile(), "<unprintable Hostile object>"),
        ([Nowhere(), Nowhere(), 1], ["nowhere", "nowhere", 1]),
        ({Nowhere(): 1, "a": Nowhere()}, {"nowhere": 1, "a": "nowhere"}),
        (range(10**12), "range(0, 1000000000000)"),
        (Endless(), "endless"),
        ([EndlessMapping(), 2**80], ["endless", 2**80]),
        (dict.fromkeys(range(100_001)).keys(), list(range(100_001))),
        (deque(range(100_001)), list(range(100_001))),
        ([Torn(a=1), 2**80], ["torn", 2**80]),
        ({"a": [Hostile()], "b": 2**80}, {"a": ["<unprintable Hostile object>"], "b": 2**80}),
    ],
)
def test_what_json_has_no_word_for_is_replaced(value: Any, expected: Any) -> None:
    assert json.loads(dumps(value)) == expected


def test_a_cycle_is_cut() -> None:
    value: list[Any] = [2**70]
    value.append(value)
    assert b"..." in dumps(value)


def test_what_is_cut_in_one_field_is_cut_in_no_other() -> None:
    tree: dict[str, Any] = {"name": "root"}
    tree["children"] = [{"name": str(number), "parent": tree} for number in range(1100)]
    field = {"a/json": tree, "b/json": {"x": [[1]]}}
    reply = {"expressions": {"e": {"data": field, "metadata": {}}}, "other": {"x": [{}]}}
    found = json.loads(dumps({"data": field, "transient": {"display_id": "q"}, **reply}))
    assert found["data"]["a/json"]["children"][999] == {"name": "999", "parent": "..."}
    assert found["data"]["a/json"]["children"][1099] == "..."
    assert found["data"]["b/json"] == {"x": [[1]]}
    assert found["transient"] == {"display_id": "q"}
    assert found["expressions"]["e"]["metadata"] == {}
    assert found["other"] == {"x": [{}]}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, CellStopped])
@pytest.mark.parametrize("make", [lambda value: value, lambda value: [2**80, value]])
def test_an_interrupt_passes_through(kind: type[BaseException], make: Any) -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise kind

    with pytest.raises(kind):
        dumps(make(Interrupted()))


def test_surrogates_survive_the_round_trip() -> None:
    assert loads(dumps({"a": "x\ud800y"})) == {"a": "x\ud800y"}


@pytest.mark.parametrize(
    "document", [b"\xff", b'"\xed\xa0\x80"', b"{", b"", b"[1,]", b"\xef\xbb\xbf1"]
)
def test_what_is_no_json_in_utf8_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # what json raises has no better name
        loads(document)
