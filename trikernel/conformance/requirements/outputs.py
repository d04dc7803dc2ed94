"""The outputs of a cell: displays, also of values that JSON does not have."""

from __future__ import annotations

import base64
import json
from typing import Any

from ...client import Execution
from ..manifest import requirement
from ..probe import Probe, ok
from ..schema import require

DATA = "Display data"


def _contents(execution: Execution, msg_type: str) -> list[Any]:
    return [one.content for one in execution.messages if one.msg_type == msg_type]


@requirement("display.data", "What a cell displays comes as display_data.", DATA)
async def check_display(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("displaying"))
    ok(execution)
    found = _contents(execution, "display_data")
    require(len(found) == 1 and found[0]["data"], f"display_data came {len(found)} times")


@requirement(
    "display.update", "An update names the display that it changes.", "Update Display Data"
)
async def check_update(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("updating"))
    ok(execution)
    shown, updates = (
        [one.get("transient", {}).get("display_id") for one in _contents(execution, kind)]
        for kind in ("display_data", "update_display_data")
    )
    require(len(updates) == 1, f"update_display_data came {len(updates)} times")
    require(updates[0] and updates[0] in shown, f"displays are {shown}, the update is {updates}")


@requirement("display.update-later", "A later cell can change a display.", "Update Display Data")
async def check_update_later(probe: Probe) -> None:
    code = probe.sample("updating")
    first, second = await probe.execute(code), await probe.execute(code)
    for one in (first, second):
        ok(one)
        updates = [
            message.parent_id
            for message in one.messages
            if message.msg_type == "update_display_data"
        ]
        require(updates == [one.msg_id], "the update is not under the cell that made it")


@requirement("display.clear", "clear_output says whether to wait.", "Clear output")
async def check_clear(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("clearing"))
    ok(execution)
    found = _contents(execution, "clear_output")
    require(len(found) == 1 and found[0]["wait"] is True, f"clear_output is {found}")


@requirement("output.before-idle", "All output of a cell comes before its idle.", "Kernel status")
async def check_before_idle(probe: Probe) -> None:
    for name in ("printing", "displaying"):
        execution = await probe.execute(probe.sample(name))
        ok(execution)
        await probe.ask("kernel_info_request")  # what comes late is here when this is done
        require(not execution.late, f"{len(execution.late)} messages came after idle")


@requirement("json.nan", "NaN and infinity never stand in a message.", "Wire protocol; RFC 8259")
async def check_nan(probe: Probe) -> None:
    execution = await _displays(probe, "nan")
    found = _contents(execution, "display_data")
    text = json.dumps([dict(one) for one in found])
    require(not any(word in text for word in ("NaN", "Infinity")), f"display_data is {text:.120}")


@requirement("json.surrogate", "A lone surrogate costs no other text.", "Wire protocol")
async def check_surrogate(probe: Probe) -> None:
    execution = await _displays(probe, "surrogate", "stream")
    require(" x" in execution.stdout, f"stdout is {execution.stdout!r}")


@requirement("json.bytes", "Bytes in a MIME bundle are Base64.", "Display data")
async def check_bytes(probe: Probe) -> None:
    execution = await _displays(probe, "binary")
    data = _contents(execution, "display_data")[0]["data"]["image/png"]
    expected = b"\x89PNG\r\n\x1a\n"
    require(isinstance(data, str), f"image/png is {data!r}")
    require(base64.b64decode(data) == expected, f"image/png is {data!r:.80}")


@requirement("json.date", "A date is text in ISO 8601.", "Wire protocol")
async def check_date(probe: Probe) -> None:
    execution = await _displays(probe, "date")
    data = _contents(execution, "display_data")[0]["data"]["application/json"]
    found = data.get("a") if isinstance(data, dict) else data
    require(str(found).startswith("2020-01-02"), f"the date is {found!r}")


async def _displays(probe: Probe, sample: str, kind: str = "display_data") -> Execution:
    """Run a sample that puts something out. Raises `AssertionError` unless it ends well, what came
    on iopub can be decoded, and a message of type ``kind`` is among it.
    """
    last = probe.log.last_unread
    execution = await probe.execute(probe.sample(sample))
    bad = [error for channel, error, _ in probe.log.unread_after(last) if channel == "iopub"]
    require(not bad, f"a message cannot be read: {bad[-1] if bad else ''}")
    ok(execution)
    require(_contents(execution, kind), f"there is no {kind}")
    return execution
