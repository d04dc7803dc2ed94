"""Makes a complete reply of what an author's verb has returned. Missing fields get their defaults;
a value that a client could not read raises `TypeError`, which names class and verb.

Source: messaging.rst, one section per reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..errors import ContentError
from ..wire import as_content, parse
from ..wire import contents as c
from .hooks import name_of
from .served import ServedKernel

__all__ = [
    "apply_reply",
    "complete_error",
    "completion",
    "converted",
    "inspection",
    "refuse",
    "refuse_status",
    "whole_reply",
]

_COMPLETENESS = ("complete", "incomplete", "invalid", "unknown")


def converted(self: ServedKernel, name: str, kind: type, value: Any) -> Any:
    """A field of an ``execute_reply`` as a list of dictionaries, or as a dictionary."""
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    if kind is list and is_list:
        values = list(value)
        if all(isinstance(one, Mapping) for one in values):
            return values
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    words = "a list of dictionaries" if kind is list else "a dictionary"
    refuse(self, "do_execute", f"returned the {name} {value!r:.80}, which must be {words}")


def whole_reply(
    self: ServedKernel,
    verb: str,
    cls: type[Any],
    reply: Any,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The complete reply of a verb other than `do_execute`. ``cls`` defines its fields;
    ``defaults`` are values for missing ones.
    """
    given = _as_dict(self, verb, reply) if reply is not None else {}
    status = given.get("status", "ok")
    if status == "error":
        complete_error(self, verb, given)
        return given
    if status in ("abort", "aborted"):
        return {**given, "status": "aborted"}
    if cls is c.IsCompleteReply:
        if "status" in given and status not in _COMPLETENESS:
            refuse_status(self, verb, status, f"one of {', '.join(_COMPLETENESS)}")
    elif status != "ok":
        refuse_status(self, verb, status, "ok, error or aborted")
    content = {**as_content(cls()), **(defaults or {}), **given}
    for name, value in content.items():
        if isinstance(value, tuple):
            content[name] = list(value)
    try:
        parse(cls, name_of(self, verb), content)
    except ContentError as error:
        raise TypeError(str(error)) from None
    if content.get("status") == "incomplete":
        content.setdefault("indent", "")
    return content


def completion(self: ServedKernel, code: str, cursor_pos: int, reply: Any) -> dict[str, Any]:
    """A complete ``complete_reply``. If it does not say which text the matches replace, that is the
    longest text before the cursor with which all matches begin.
    """
    defaults = {"cursor_start": cursor_pos, "cursor_end": cursor_pos}
    content = whole_reply(self, "do_complete", c.CompleteReply, reply, defaults)
    matches = content.get("matches")
    if matches and isinstance(reply, dict) and "cursor_start" not in reply:
        before = code[:cursor_pos]
        longest = min(len(before), *map(len, matches))
        for length in range(longest, 0, -1):
            if all(one.startswith(before[-length:]) for one in matches):
                content["cursor_start"] = cursor_pos - length
                break
    return content


def inspection(self: ServedKernel, reply: Any) -> dict[str, Any]:
    """A complete ``inspect_reply``. By default ``found`` is true if there is data."""
    found = isinstance(reply, dict) and bool(reply.get("data"))
    return whole_reply(self, "do_inspect", c.InspectReply, reply, {"found": found})


def apply_reply(self: ServedKernel, returned: Any) -> tuple[dict[str, Any], list[bytes]]:
    """The content and the buffers of an ``apply_reply``."""
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        refuse(self, "do_apply", f"returns (reply_content, result_buffers), not {returned!r:.80}")
    content, buffers = returned
    return _as_dict(self, "do_apply", content), [bytes(buffer) for buffer in buffers or ()]


def _as_dict(self: ServedKernel, verb: str, reply: Any) -> dict[str, Any]:
    try:
        return dict(as_content(reply))
    except TypeError as error:
        refuse(self, verb, str(error), ": ")


def complete_error(self: ServedKernel, verb: str, content: dict[str, Any]) -> None:
    """Fill in an error's three fields and convert them to text. Raises `TypeError` for bytes."""
    lines = content.get("traceback") or ()
    if isinstance(lines, str):
        lines = lines.splitlines()
    name, text = content.get("ename", "Error"), content.get("evalue", "")
    if isinstance(lines, bytes) or any(isinstance(one, bytes) for one in (name, text, *lines)):
        refuse(self, verb, "returned an error whose text is bytes: decode it")
    content["ename"], content["evalue"] = str(name), str(text)
    content["traceback"] = [str(line) for line in lines]


def refuse_status(self: ServedKernel, verb: str, status: Any, words: str) -> NoReturn:
    """Raise `TypeError` for a status that does not exist."""
    refuse(self, verb, f"returned the status {status!r:.80}, which must be {words}")


def refuse(self: ServedKernel, verb: str, text: str, separator: str = " ") -> NoReturn:
    """Raise `TypeError`. For verbs that run the user's code it is logged, too, because their errors
    are otherwise taken for the user's.
    """
    text = name_of(self, verb) + separator + text
    if verb in ("do_execute", "do_apply"):
        self.log.error(text)
    raise TypeError(text) from None
