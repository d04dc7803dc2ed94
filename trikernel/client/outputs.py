"""A cell's outputs: turns iopub messages into the list of outputs that a notebook file has.

Consecutive text of one stream is merged, ``clear_output`` clears (at once, or when the next output
comes), ``update_display_data`` changes displays. The outputs are plain dictionaries in
the shapes of nbformat 4: ``stream`` (``name``, ``text``), ``display_data`` and
``execute_result`` (``data``, ``metadata``, the latter with ``execution_count``), ``error``
(``ename``, ``evalue``, ``traceback``). Source: nbformat's documentation, "Code cell outputs".

A kernel may send anything. A field whose value has a wrong type would make the file invalid, so it
counts as missing, and is reported: see `Fields`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..wire import Message

__all__ = ["OUTPUT_TYPES", "Fields", "Output", "OutputArea", "as_output", "mapping_of"]

OUTPUT_TYPES = frozenset({"stream", "display_data", "execute_result", "error"})

Output = dict[str, Any]

_JSON = re.compile(r"application/(.*\+)?json")  # as nbformat's schema has it


class Fields:
    """Reads the content of a kernel's message field by field.

    A field that is missing or has a value of a wrong type is read as an empty one. For a wrong type
    ``note`` is called with a sentence that names the message and the field.
    """

    def __init__(
        self,
        kind: str,
        content: Mapping[str, Any],
        note: Callable[[str], object] = lambda fault: None,
    ) -> None:
        self._kind = kind
        self._content = content
        self._note = note

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        text: str = self._valid(name, default, "a string", lambda value: isinstance(value, str))
        return text

    def mapping(self, name: str) -> dict[str, Any]:
        """An object."""
        return dict(self._valid(name, {}, "an object", lambda value: isinstance(value, Mapping)))

    def lines(self, name: str) -> list[str]:
        """A list of strings."""
        lines: list[str] = self._valid(name, [], "a list of strings", _is_lines)
        return lines

    def count(self, name: str) -> int | None:
        """The number of a cell: an integer from 0 on, or None. True and 1.0 do not count."""
        words = "an integer, 0 or more"
        count: int | None = self._valid(name, None, words, _is_count)
        return count

    def _valid(self, name: str, default: Any, words: str, fits: Callable[[Any], bool]) -> Any:
        value = self._content.get(name)
        if value is None or fits(value):
            return default if value is None else value
        self._note(
            f"the kernel's {self._kind} has a field {name!r} that must be {words}, "
            f"not {value!r:.80}; it is left out"
        )
        return default


def as_output(message: Message, note: Callable[[str], object] = lambda fault: None) -> Output:
    """One output message (of `OUTPUT_TYPES`) as nbformat keeps it; missing fields are empty.

    ``note`` is called for fields of a wrong type, see `Fields`.
    """
    kind = message.msg_type
    fields = Fields(kind, message.content, note)
    if kind == "stream":
        name = fields.text("name") or "stdout"
        return {"output_type": kind, "name": name, "text": fields.text("text")}
    if kind == "error":
        return {
            "output_type": kind,
            "ename": fields.text("ename"),
            "evalue": fields.text("evalue"),
            "traceback": fields.lines("traceback"),
        }
    output: Output = {
        "output_type": kind,
        "data": _bundle(fields),
        "metadata": fields.mapping("metadata"),
    }
    if kind == "execute_result":
        output["execution_count"] = fields.count("execution_count")
    return output


class OutputArea:
    """The outputs of one cell; ``outputs`` are those at the beginning.

    Taking a message never fails, whatever its content is; ``note`` is called for what is wrong.
    """

    def __init__(
        self,
        outputs: Iterable[Output] = (),
        note: Callable[[str], object] = lambda fault: None,
    ) -> None:
        self._note = note
        self._outputs: list[Output] = [dict(one) for one in outputs]
        # For each output that is a stream its text in parts; an empty list for others.
        self._chunks = [
            [one["text"]] if isinstance(one.get("text"), str) else [] for one in self._outputs
        ]
        self._displays: dict[str, list[Output]] = {}
        self._clear_first = False

    @property
    def outputs(self) -> list[Output]:
        """The current outputs."""
        for output, chunks in zip(self._outputs, self._chunks, strict=True):
            if len(chunks) > 1:
                chunks[:] = ["".join(chunks)]
            if chunks:
                output["text"] = chunks[0]
        return self._outputs

    def text(self, name: str) -> str:
        """All text of one stream: ``stdout`` or ``stderr``."""
        texts = [one["text"] for one in self.outputs if one.get("name") == name]
        return "".join(texts)

    def take(self, message: Message) -> None:
        """Change the outputs as an iopub message says; other message types change nothing."""
        kind = message.msg_type
        if kind in OUTPUT_TYPES:
            self._append(message)
        elif kind == "clear_output":
            if message.content.get("wait"):
                self._clear_first = True
            else:
                self.clear()
        elif kind == "update_display_data":
            self.update(message.content)

    def update(self, content: Mapping[str, Any]) -> bool:
        """Change the displays with the content's ``display_id``. Returns whether there were any."""
        displayed = self._displays.get(display_id(content), [])
        fields = Fields("update_display_data", content, self._note)
        for output in displayed:
            output["data"], output["metadata"] = _bundle(fields), fields.mapping("metadata")
        return bool(displayed)

    def clear(self) -> None:
        """Remove everything."""
        self._clear_first = False
        self._outputs = []
        self._chunks = []
        self._displays = {}

    def _append(self, message: Message) -> None:
        if self._clear_first:
            self.clear()
        output = as_output(message, self._note)
        if message.msg_type == "stream":
            last = self._outputs[-1] if self._outputs else {}
            if last.get("name") == output["name"] and self._chunks[-1]:
                self._chunks[-1].append(output["text"])
            else:
                self._outputs.append(output)
                self._chunks.append([output["text"]])
            return
        self._outputs.append(output)
        self._chunks.append([])
        if name := display_id(message.content):
            self._displays.setdefault(name, []).append(output)


def mapping_of(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one, because a kernel may send anything."""
    return value if isinstance(value, Mapping) else {}


def _is_lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _bundle(fields: Fields) -> dict[str, Any]:
    """The ``data``. Values of non-JSON MIME types that are no text are converted to JSON text, as
    nbformat's schema demands.
    """
    return {
        mime: value
        if isinstance(value, str) or _JSON.fullmatch(mime) or _is_lines(value)
        else json.dumps(value)
        for mime, value in fields.mapping("data").items()
    }


def display_id(content: Mapping[str, Any]) -> str:
    """The ``transient.display_id`` of a display; empty if it has none."""
    found = mapping_of(content.get("transient")).get("display_id")
    return found if isinstance(found, str) else ""
