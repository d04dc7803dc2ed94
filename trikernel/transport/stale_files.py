"""Connection files of kernels that were killed: who made them, and which of them may go.

A kernel that makes its own connection file removes it when it ends. One that is killed cannot, and
leaves a file with a key in it. So a file says which process it belongs to, and is removed by the
next kernel that starts, if that process is provably gone: a process of this very machine, since
its last boot, in this namespace of process numbers, whose number is free or has since been given
to a process that was started at another time. A folder may be shared by several machines; what
belongs to another one stays. Such a proof needs ``/proc``; elsewhere nothing is removed.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from .connection import ConnectionInfo, write_connection_file

__all__ = ["new_connection_file", "remove_stale_files"]

FIELD = "trikernel_process"
_PATTERN = "kernel-*.json"
_MOST_BYTES = 1 << 16


def new_connection_file(folder: str | os.PathLike[str]) -> Path:
    """A new connection file with a key and ports of 0, for a kernel in this process.

    Removes the stale ones beside it. Raises `ConnectionFileError` when it cannot be written.
    """
    remove_stale_files(folder)
    path = Path(folder) / f"kernel-{uuid.uuid4()}.json"
    process = _describe(os.getpid())
    write_connection_file(path, ConnectionInfo(extra={FIELD: process} if process else {}))
    return path


def remove_stale_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove this user's connection files whose kernel is provably gone; which they were.

    Never raises: what cannot be read or removed stays.
    """
    removed: list[Path] = []
    for path in sorted(Path(folder).glob(_PATTERN)):
        with suppress(OSError, ValueError, RecursionError):
            if _is_stale(path):
                path.unlink()
                removed.append(path)
    return removed


def _is_stale(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        return False
    if sys.platform == "win32" or status.st_uid != os.geteuid():
        return False
    fields = json.loads(path.read_text("utf-8"))
    process = fields.get(FIELD) if isinstance(fields, dict) else None
    own = _describe(os.getpid())
    if own is None or not isinstance(process, dict) or process.keys() != own.keys():
        return False
    if (process["boot"], process["namespace"]) != (own["boot"], own["namespace"]):
        return False
    pid, started = process["pid"], process["started"]
    if not _is_positive(pid) or not _is_positive(started):
        return False
    try:
        return bool(_started(pid) != started)
    except FileNotFoundError:
        return _is_free(pid)


def _is_positive(value: object) -> bool:
    return type(value) is int and value > 0


def _is_free(pid: int) -> bool:
    """Whether no process has that number. ``/proc`` alone may hide those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _describe(pid: int) -> dict[str, Any] | None:
    """What tells a process from all others; None where that cannot be known."""
    try:
        return {
            "pid": pid,
            "started": _started(pid),
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
            "namespace": os.readlink("/proc/self/ns/pid"),
        }
    except (OSError, ValueError, IndexError):
        return None


def _started(pid: int) -> int:
    """When a process was started, in ticks since the boot. Source: proc_pid_stat(5), field 22."""
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return int(text.rpartition(")")[2].split()[19])
