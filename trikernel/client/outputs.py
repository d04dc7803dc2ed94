"""What a cell put out: iopub messages to the list of outputs that a notebook file keeps.

Consecutive text of one stream is merged, ``clear_output`` clears (at once, or as the next output
comes), ``update_display_data`` changes what stands there. The outputs are plain dictionaries in
the shapes of nbformat 4: ``stream`` (``name``, ``text``), ``display_data`` and
``execute_result`` (``data``, ``metadata``, the latter with ``execution_count``), ``error``
(``ename``, ``evalue``, ``traceback``). Source: nbformat's documentation, "Code cell outputs".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..wire import Message

__all__ = ["OUTPUT_TYPES", "Output", "OutputArea", "as_output", "lines_of", "mapping_of"]

OUTPUT_TYPES = frozenset({"stream", "display_data", "execute_result", "error"})

Output = dict[str, Any]

_JSON = re.compile(r"application/(.*\+)?json")  # as nbformat's schema has it


def as_output(message: Message) -> Output:
    """One output message (of `OUTPUT_TYPES`) as nbformat keeps it; missing fields are empty."""
    content = message.content
    kind = message.msg_type
    if kind == "stream":
        return {
            "output_type": kind,
            "name": str(content.get("name") or "stdout"),
            "text": str(content.get("text") or ""),
        }
    if kind == "error":
        return {
            "output_type": kind,
            "ename": str(content.get("ename") or ""),
            "evalue": str(content.get("evalue") or ""),
            "traceback": lines_of(content.get("traceback")),
        }
    output: Output = {
        "output_type": kind,
        "data": _bundle(content),
        "metadata": dict(mapping_of(content.get("metadata"))),
    }
    if kind == "execute_result":
        count = content.get("execution_count")
        output["execution_count"] = count if isinstance(count, int) else None
    return output


class OutputArea:
    """The outputs below one cell, at first those given.

    Taking a message never fails, whatever its content is.
    """

    def __init__(self, outputs: Iterable[Output] = ()) -> None:
        self._outputs: list[Output] = [dict(one) for one in outputs]
        # Of each output that is a stream its text in parts.
        self._chunks = [[one["text"]] if "text" in one else [] for one in self._outputs]
        self._displays: dict[str, list[Output]] = {}
        self._clear_first = False

    @property
    def outputs(self) -> list[Output]:
        """The outputs as they stand now."""
        for output, chunks in zip(self._outputs, self._chunks, strict=True):
            if len(chunks) > 1:
                chunks[:] = ["".join(chunks)]
            if chunks:
                output["text"] = chunks[0]
        return self._outputs

    def text(self, name: str) -> str:
        """Everything that stands there of one stream: ``stdout`` or ``stderr``."""
        texts = [one["text"] for one in self.outputs if one.get("name") == name]
        return "".join(texts)

    def take(self, message: Message) -> None:
        """Change the outputs as an iopub message asks; other types of message change nothing."""
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
        """Change what was displayed under the content's ``display_id``; whether anything was."""
        displayed = self._displays.get(display_id(content), [])
        for output in displayed:
            output["data"] = _bundle(content)
            output["metadata"] = dict(mapping_of(content.get("metadata")))
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
        output = as_output(message)
        if message.msg_type == "stream":
            last = self._outputs[-1] if self._outputs else {}
            if last.get("name") == output["name"]:
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
    """The value if it is an object, else an empty one: a kernel may send anything."""
    return value if isinstance(value, Mapping) else {}


def lines_of(value: Any) -> list[str]:
    """The value if it is a list, as strings, else an empty one."""
    return [str(line) for line in value] if isinstance(value, list) else []


def _bundle(content: Mapping[str, Any]) -> dict[str, Any]:
    """The ``data``, with objects of MIME types that are no JSON as text: a file needs it so."""
    data = mapping_of(content.get("data"))
    return {
        mime: value if isinstance(value, str) or _JSON.fullmatch(mime) else _as_text(value)
        for mime, value in data.items()
    }


def _as_text(value: Any) -> Any:
    is_lines = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return value if is_lines else json.dumps(value)


def display_id(content: Mapping[str, Any]) -> str:
    """The ``transient.display_id`` of a display; empty if it has none."""
    found = mapping_of(content.get("transient")).get("display_id")
    return found if isinstance(found, str) else ""
