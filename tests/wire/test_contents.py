"""Contents: the specification's defaults, and errors that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from trikernel.errors import ContentError
from trikernel.wire import IOPUB_TYPES, REQUESTS, LaneName, as_content, parse
from trikernel.wire import contents as c


@pytest.mark.seed(11)
@pytest.mark.parametrize(
    ("given", "silent", "store_history"),
    [
        ({}, False, True),
        ({"silent": True}, True, False),
        ({"silent": True, "store_history": True}, True, True),
        ({"store_history": False}, False, False),
    ],
)
def test_store_history_defaults_to_not_silent(
    given: dict[str, Any], silent: bool, store_history: bool
) -> None:
    content = parse(c.ExecuteRequest, "execute_request", {"code": "1", **given})
    assert (content.silent, content.store_history) == (silent, store_history)
    assert content.stop_on_error


def test_the_cursor_defaults_to_the_end_of_the_code() -> None:
    assert parse(c.CompleteRequest, "complete_request", {"code": "abc"}).cursor_pos == 3


@pytest.mark.seed(16)
def test_unknown_fields_are_dropped() -> None:
    content = parse(c.HistoryRequest, "history_request", {"hist_access_type": "tail", "what": 1})
    assert "what" not in as_content(content)


@pytest.mark.parametrize(
    ("cls", "content", "words"),
    [
        (c.ExecuteRequest, {}, "'code' is missing, it must be a string"),
        (c.ExecuteRequest, {"code": 1}, "'code' must be a string, not int 1"),
        (c.ExecuteRequest, {"code": None}, "'code' must be a string, not NoneType None"),
        (c.ExecuteRequest, {"code": "", "silent": "no"}, "'silent' must be true or false"),
        (c.ExecuteRequest, {"code": "", "user_expressions": []}, "'user_expressions' must be"),
        (c.CompleteRequest, {"code": "", "cursor_pos": 1.5}, "'cursor_pos' must be an integer"),
        (c.CompleteRequest, {"code": "", "cursor_pos": True}, "'cursor_pos' must be an integer"),
        (c.InspectRequest, {"code": "", "detail_level": 2}, "'detail_level' must be 0 or 1"),
        (c.HistoryRequest, {"hist_access_type": "x"}, "'tail' or 'range' or 'search'"),
        (c.AbortRequest, {"msg_ids": [1]}, "'msg_ids' must be a string or an array of strings"),
        (c.CommOpen, {"comm_id": "1"}, "'target_name' is missing"),
        (c.ShutdownRequest, {"restart": 1}, "'restart' must be true or false"),
    ],
)
def test_an_error_names_the_field_and_what_it_needs(
    cls: type, content: dict[str, Any], words: str
) -> None:
    with pytest.raises(ContentError) as caught:
        parse(cls, "some_request", content)
    assert words in str(caught.value)
    assert str(caught.value).startswith("some_request: ")


@pytest.mark.parametrize("cls", [c.HistoryRequest, c.CommInfoRequest, c.AbortRequest])
def test_null_means_absent_where_none_is_the_default(cls: type) -> None:
    names = {"session": None, "target_name": None, "msg_ids": None}
    assert parse(cls, "x", names) == parse(cls, "x", {})


@pytest.mark.parametrize("name", REQUESTS)
def test_every_row_of_the_table_is_consistent(name: str) -> None:
    row = REQUESTS[name]
    assert row.name == name
    assert set(row.channels) <= {"shell", "control"}
    assert (row.reply is None) == (row.reply_type is None) == (row.lane is LaneName.COMM)
    assert name not in IOPUB_TYPES or row.lane is LaneName.COMM
    assert isinstance(row.content, type)


def test_only_what_runs_code_is_abortable() -> None:
    assert {row.name for row in REQUESTS.values() if row.abortable} == {
        "execute_request",
        "apply_request",
    }
