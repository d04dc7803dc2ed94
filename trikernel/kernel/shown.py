"""Completes the contents of displays, results and errors that an author sends. Missing fields get
defaults; a value that a frontend could not show raises `TypeError`, which names class and call.

``stream`` messages are checked in `sender`, which has a faster path for them.
Source: messaging.rst, "Display data", "Code execution", "Execution errors".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ..core import Request

__all__ = ["CHECKED", "refuse_call"]

Check = Callable[[str, dict[str, Any], Request | None], None]


def _check_display(owner: str, content: dict[str, Any], request: Request | None) -> None:
    """Check ``data`` and ``metadata`` of a display."""
    _check_data(owner, "a display", content)


def _check_result(owner: str, content: dict[str, Any], request: Request | None) -> None:
    """Check the same, and ``execution_count``, by default the number of the cell."""
    _check_data(owner, "an execute_result", content)
    count = content.get("execution_count")
    if count is None:
        number = request.number if request is not None else None
        content["execution_count"] = 0 if number is None else number
    elif type(count) is not int:
        words = "execution_count is an int, as self.execution_count"
        _refuse(owner, f"an execute_result's {words}", count)


def _check_error(owner: str, content: dict[str, Any], request: Request | None) -> None:
    """Fill in the three fields of an error and convert them to text."""
    lines = content.get("traceback") or ()
    lines = lines.splitlines() if isinstance(lines, str) else lines
    if isinstance(lines, bytes) or not hasattr(lines, "__iter__"):
        _refuse(owner, "an error's traceback is a list of strings", lines)
    name, text = content.get("ename", "Error"), content.get("evalue", "")
    for one in (name, text, *lines):
        if isinstance(one, bytes):
            _refuse(owner, "an error's fields are text", one, "decode it")
    content["ename"], content["evalue"] = str(name), str(text)
    content["traceback"] = [str(line) for line in lines]


CHECKED: Mapping[str, Check] = {
    "display_data": _check_display,
    "update_display_data": _check_display,
    "execute_result": _check_result,
    "error": _check_error,
}
"""For each type of message the function that checks and completes its content."""


def refuse_call(owner: str, stream: object, content: object) -> NoReturn:
    """Raise `TypeError` for a call of `send_response` with wrong arguments, or in a wrong order."""
    if not hasattr(stream, "name"):
        _refuse(owner, "the first argument is a channel, as self.iopub_socket", stream)
    _refuse(owner, "the content is a dictionary", content)


def _check_data(owner: str, what: str, content: dict[str, Any]) -> None:
    data = content.get("data")
    if not isinstance(data, Mapping):
        _refuse(owner, f'{what}\'s data is a dictionary, such as {{"text/plain": "42"}}', data)
    for mime, value in data.items():
        if type(value) is not str and _is_text(mime) and not _is_lines(value):
            hint = "decode it" if isinstance(value, bytes) else "use str()"
            _refuse(owner, f"{what}'s data[{mime!r}] is a str", value, hint)
    metadata = content.get("metadata")
    if metadata is None:
        content["metadata"] = {}
    elif not isinstance(metadata, Mapping):
        _refuse(owner, f"{what}'s metadata is a dictionary", metadata)


def _is_text(mime: object) -> bool:
    return isinstance(mime, str) and mime.startswith("text/")


def _is_lines(value: object) -> bool:
    """Whether the value is text of a subclass of `str`, or a list of lines as in notebook files."""
    return isinstance(value, str) or (
        isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    )


def _refuse(owner: str, words: str, value: object, hint: str = "") -> NoReturn:
    text = f"{owner}.send_response: {words}, not {type(value).__name__} {value!r:.80}"
    raise TypeError(f"{text}: {hint}" if hint else text)
