"""The widgets of a notebook that is run: their state for the file, and ``Output`` widgets.

A notebook file contains the state of each widget, so that it can be shown without a kernel. An
``Output`` widget takes the outputs of its ``with`` block, which are then not outputs of the cell.
Source: ipywidgets, "Jupyter widgets in other contexts" and its model state schema.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ...errors import KernelDied
from ...wire import Message
from ..client import Client
from ..outputs import OUTPUT_TYPES, OutputArea, mapping_of

__all__ = ["WidgetRecorder"]

STATE = "application/vnd.jupyter.widget-state+json"
TARGET = "jupyter.widget"


class WidgetRecorder:
    """Gets a client's iopub messages before they are dispatched; see `Client.diverting`."""

    def __init__(self, client: Client, is_own: Callable[[str], bool]) -> None:
        self._client = client
        self._is_own = is_own
        self._states: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, dict[str, dict[str, Any]]] = {}
        self._areas: dict[str, OutputArea] = {}  # the outputs of Output widgets, by comm id
        # The Output widgets that take a request's outputs, by the request's id; innermost last.
        self._capturing: dict[str, list[str]] = {}

    def divert(self, message: Message) -> bool:
        """Note what a message says about widgets. Returns True if a widget takes it as output."""
        kind = message.msg_type
        if kind in ("comm_open", "comm_msg"):
            self._note(message)
            return False
        if kind == "update_display_data":
            for comm_id, area in self._areas.items():
                if area.update(message.content):
                    self._tell(comm_id)
            return False
        widgets = self._capturing.get(message.parent_id or "")
        if not widgets or kind not in (*OUTPUT_TYPES, "clear_output"):
            return False
        self._areas[widgets[-1]].take(message)
        self._tell(widgets[-1])
        return True

    def metadata(self) -> dict[str, Any]:
        """The ``widgets`` entry of the notebook's metadata; empty if there are no widgets."""
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
        content, data = message.content, mapping_of(message.content.get("data"))
        comm_id, change = content.get("comm_id"), data.get("state")
        if not isinstance(comm_id, str) or data.get("method") == "echo_update":
            return  # an echo repeats what this client has sent, and may be out of date
        if message.msg_type == "comm_open" and content.get("target_name") == TARGET:
            if not self._is_own(message.parent_id or ""):
                return  # a widget of another notebook on the same kernel
            self._states[comm_id], self._buffers[comm_id] = {}, {}
        state = self._states.get(comm_id)
        if state is None or not isinstance(change, Mapping):
            return
        before = state.get("msg_id")
        state.update(change)
        paths = data.get("buffer_paths")
        known = paths if isinstance(paths, list) else []
        for path, buffer in zip(known, message.buffers, strict=False):
            encoded = base64.b64encode(bytes(buffer)).decode()
            entry = {"data": encoded, "encoding": "base64", "path": path}
            self._buffers[comm_id][str(path)] = entry
        if state.get("_model_name") == "OutputModel":
            if comm_id not in self._areas or "outputs" in change:
                outputs = state.get("outputs")
                given = outputs if isinstance(outputs, list) else []
                self._areas[comm_id] = OutputArea(one for one in given if isinstance(one, dict))
            self._capture(comm_id, before, state.get("msg_id"))

    def _capture(self, comm_id: str, before: Any, now: Any) -> None:
        """An Output widget's ``msg_id`` has changed: it takes the outputs of that request; with an
        empty id it takes no more.
        """
        if before == now:
            return
        if before and comm_id in self._capturing.get(str(before), ()):
            self._capturing[str(before)].remove(comm_id)
        if now:
            self._capturing.setdefault(str(now), []).append(comm_id)

    def _tell(self, comm_id: str) -> None:
        """The outputs of a widget have changed: send them to the kernel."""
        outputs = self._states[comm_id]["outputs"] = list(self._areas[comm_id].outputs)
        data = {"method": "update", "state": {"outputs": outputs}, "buffer_paths": []}
        with suppress(KernelDied):
            self._client.send("comm_msg", {"comm_id": comm_id, "data": data})
