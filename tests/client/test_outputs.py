"""Output messages become what a notebook keeps, whatever their order and their content."""

from __future__ import annotations

from typing import Any

import nbformat

from trikernel.client.outputs import OutputArea
from trikernel.wire import Codec, Message

CODEC = Codec()


def message(msg_type: str, **content: Any) -> Message:
    return CODEC.decode(CODEC.encode(msg_type, content))


def area(*messages: Message) -> OutputArea:
    found = OutputArea()
    for one in messages:
        found.take(one)
    return found


def out(text: str, name: str = "stdout") -> Message:
    return message("stream", name=name, text=text)


def shown(text: str, display_id: str | None = None, kind: str = "display_data") -> Message:
    transient = {"display_id": display_id} if display_id else {}
    return message(kind, data={"text/plain": text}, metadata={}, transient=transient)


def test_consecutive_text_of_one_stream_is_merged() -> None:
    found = area(out("a"), out("b"), out("c", "stderr"), out("d"))
    assert [(one["name"], one["text"]) for one in found.outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]
    assert found.text("stdout") == "abd"


def test_text_is_merged_again_after_it_was_read() -> None:
    found = area(out("a"), out("b"))
    assert found.outputs[0]["text"] == "ab"
    found.take(out("c"))
    assert found.outputs[0]["text"] == "abc"


def test_a_display_between_separates_text() -> None:
    assert len(area(out("a"), shown("x"), out("b")).outputs) == 3


def test_clearing_clears_at_once() -> None:
    assert area(out("a"), message("clear_output", wait=False)).outputs == []


def test_clearing_may_wait_for_the_next_output() -> None:
    found = area(out("a"), message("clear_output", wait=True))
    assert found.text("stdout") == "a"
    found.take(out("b"))
    assert found.text("stdout") == "b"


def test_a_display_is_updated_wherever_it_stands() -> None:
    found = area(shown("1", "x"), shown("1", "x"), shown("2"))
    found.take(shown("new", "x", "update_display_data"))
    assert [one["data"]["text/plain"] for one in found.outputs] == ["new", "new", "2"]


def test_an_update_of_what_is_not_there_changes_nothing() -> None:
    found = area(shown("1", "x"))
    assert not found.update({"data": {}, "transient": {"display_id": "y"}})
    assert not found.update({})
    assert found.outputs[0]["data"] == {"text/plain": "1"}


def test_an_update_after_clearing_brings_nothing_back() -> None:
    found = area(shown("1", "x"), message("clear_output"), shown("2", "x", "update_display_data"))
    assert found.outputs == []


def test_what_is_no_output_is_none() -> None:
    assert area(message("status", execution_state="busy"), message("comm_msg")).outputs == []


def test_contents_that_lack_everything_still_give_valid_outputs() -> None:
    kinds = ("stream", "display_data", "execute_result", "error")
    found = area(*(message(kind) for kind in kinds), message("error", traceback=None, ename=None))
    assert [one["output_type"] for one in found.outputs] == [*kinds, "error"]
    cell = nbformat.v4.new_code_cell(outputs=nbformat.from_dict(found.outputs))
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


def test_an_object_of_a_mime_type_that_is_no_json_becomes_text() -> None:
    data = {
        "application/x-mine": {"k": 1},
        "text/plain": ["a", "b"],
        "application/x+json": {"k": 1},
    }
    (output,) = area(message("display_data", data=data, metadata={})).outputs
    assert output["data"] == {**data, "application/x-mine": '{"k": 1}'}
