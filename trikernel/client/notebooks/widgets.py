"""The widgets of a notebook that runs: their state for the file, and ``Output`` widgets.

A notebook file keeps the state of each widget, so that it can be shown without a kernel. An
``Output`` widget takes the outputs of its ``with`` block, which then do not stand below the cell.
Source: ipywidgets, "Jupyter widgets in other contexts" and its model state schema.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ...wire import Message
from ..client import Client
from ..outputs import OUTPUT_TYPES, OutputArea

__all__ = ["WidgetRecorder"]

STATE = "application/vnd.jupyter.widget-state+json"
TARGET = "jupyter.widget"


class WidgetRecorder:
    """Hears a client's iopub messages first; see `Client.divert`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._states: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, dict[str, dict[str, Any]]] = {}
        self._capturing: dict[str, list[str]] = {}  # by the id of the request, the innermost last

    def divert(self, message: Message) -> bool:
        """Note what the message says of widgets; True if a widget takes it as its output."""
        kind = message.msg_type
        if kind in ("comm_open", "comm_msg"):
            self._note(message)
            return False
        widgets = self._capturing.get(message.parent_id or "")
        if not widgets or kind not in (*OUTPUT_TYPES, "clear_output"):
            return False
        self._append(widgets[-1], message)
        return True

    def metadata(self) -> dict[str, Any]:
        """What a notebook's metadata has as ``widgets``; empty if there were none."""
        models = {
            comm_id: {
                "model_name": state["_model_name"],
                "model_module": state.get("_model_module"),
                "model_module_version": state.get("_model_module_version"),
                "state": state,
                **(
                    {"buffers": list(buffers)}
                    if (buffers := self._buffers[comm_id].values())
                    else {}
                ),
            }
            for comm_id, state in self._states.items()
            if "_model_name" in state
        }
        return {STATE: {"state": models, "version_major": 2, "version_minor": 0}} if models else {}

    def _note(self, message: Message) -> None:
        content = message.content
        comm_id, data = content.get("comm_id"), content.get("data")
        if not isinstance(comm_id, str) or not isinstance(data, Mapping):
            return
        if message.msg_type == "comm_open" and content.get("target_name") == TARGET:
            self._states[comm_id], self._buffers[comm_id] = {}, {}
        change = data.get("state")
        if comm_id not in self._states or not isinstance(change, Mapping):
            return
        before = self._states[comm_id].get("msg_id")
        self._states[comm_id].update(change)
        for path, buffer in zip(data.get("buffer_paths") or (), message.buffers, strict=False):
            encoded = base64.b64encode(bytes(buffer)).decode()
            entry = {"data": encoded, "encoding": "base64", "path": path}
            self._buffers[comm_id]["/".join(map(str, path))] = entry
        if self._states[comm_id].get("_model_name") == "OutputModel":
            self._capture(comm_id, before, self._states[comm_id].get("msg_id"))

    def _capture(self, comm_id: str, before: str | None, now: str | None) -> None:
        """An Output widget says whose outputs it takes, or (with nobody's id) that it ends."""
        if before == now:
            return
        if before and comm_id in self._capturing.get(before, ()):
            self._capturing[before].remove(comm_id)
        if now:
            self._capturing.setdefault(now, []).append(comm_id)

    def _append(self, comm_id: str, message: Message) -> None:
        """The widget has one output more; the kernel's side of it is told."""
        state = self._states[comm_id]
        area = OutputArea(state.get("outputs") or ())
        area.take(message)
        state["outputs"] = area.outputs
        data = {"method": "update", "state": {"outputs": area.outputs}, "buffer_paths": []}
        self._client.send("comm_msg", {"comm_id": comm_id, "data": data})
