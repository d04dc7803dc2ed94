"""What this process and its children use, for frontends that show it: ``usage_request``.

ipykernel's extension of the protocol, which jupyter-resource-usage reads. Without psutil there is
little to say.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["measure"]

_known: dict[int, Any] = {}  # by their numbers: what a process uses is counted between two calls


def measure() -> dict[str, Any]:
    """``hostname``, ``pid``, ``cpu_count``; with psutil the shares of processors in percent, and
    memory in bytes: ``kernel_cpu``, ``kernel_memory``, ``host_cpu_percent``,
    ``host_virtual_memory``.

    Processor time is that since the last call, so 0 at first. Takes a while, up to a tenth of a
    second for a large process: call it in a thread.
    """
    content: dict[str, Any] = {"hostname": socket.gethostname(), "pid": os.getpid()}
    try:
        import psutil
    except ImportError:
        return {**content, "cpu_count": os.cpu_count()}
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    kept = {one.pid: _known.get(one.pid, one) for one in processes}
    _known.clear()
    _known.update(kept)
    content["kernel_cpu"] = sum(_asked(psutil, one.cpu_percent) for one in kept.values())
    content["kernel_memory"] = sum(_asked(psutil, partial(_memory, one)) for one in kept.values())
    host = psutil.cpu_percent()
    if host:
        content["host_cpu_percent"] = host
    content["cpu_count"] = psutil.cpu_count(logical=True)
    memory = psutil.virtual_memory()
    content["host_virtual_memory"] = dict(zip(memory.__match_args__, memory, strict=True))
    return content


def _memory(process: Any) -> int:
    """What it has to itself, and its share of what it shares; where that is not known, all."""
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.rss))


def _asked(psutil: Any, question: Callable[[], float]) -> float:
    """The answer; 0 of a process that has ended, or is another user's."""
    try:
        return question()
    except psutil.Error:
        return 0
