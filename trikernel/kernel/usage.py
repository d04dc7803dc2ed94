"""Answers ``usage_request``: the memory and processor time of this process and its children.

It is an extension of the protocol by ipykernel, which jupyter-resource-usage reads. Without psutil
the answer has little content.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["measure"]

_known: dict[int, Any] = {}  # psutil's processes by id: each measures from its own last call on


def measure() -> dict[str, Any]:
    """``hostname``, ``pid``, ``cpu_count``; with psutil the shares of processors in percent, and
    memory in bytes: ``kernel_cpu``, ``kernel_memory``, ``host_cpu_percent``,
    ``host_virtual_memory``.

    Processor shares are those since the last call, so 0 at first. It takes up to a tenth of a
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
    """The proportional set size: private memory and the process's share of shared memory. Where the
    system does not tell it, all resident memory.
    """
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.rss))


def _asked(psutil: Any, question: Callable[[], float]) -> float:
    """The answer; 0 for a process that has ended or belongs to another user."""
    try:
        return question()
    except psutil.Error:
        return 0
