"""What an attached debugger costs a cell that has no breakpoint: with it, over without."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from trikernel.wire import json

from .measuring import Kernel, median_of, receive

__all__ = ["measure_debugger"]

ASKED, WARM = 400, 50
_CLIENT = {"clientID": "bench", "adapterID": "", "pathFormat": "path"}
_numbers = count(1)


def measure_debugger(kernel: Kernel) -> dict[str, float]:
    """The ratio, in the same kernel."""
    if kernel.contender.name not in ("trikernel", "before", "ipykernel"):
        return {}
    alone = _execute(kernel)  # only before the first session: some stay slow behind one
    _debug(kernel, "initialize", _CLIENT)
    for command in ("attach", "configurationDone"):
        _debug(kernel, command, {})
    return {"debugger_attached": _execute(kernel) / alone}


def _execute(kernel: Kernel) -> float:
    kernel.drain()
    return median_of(kernel.run, [kernel.encode_cell() for _ in range(ASKED + WARM)], WARM)


def _debug(kernel: Kernel, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    content = {"seq": next(_numbers), "type": "request", "command": command}
    kernel.control.send_multipart(kernel.encode("debug_request", **content, arguments=arguments))
    answer = json.loads(receive(kernel.control)[-1])
    assert answer.get("success"), answer
    body: dict[str, Any] = answer.get("body") or {}
    return body
