"""Hears of a process's end: see `trikernel.warm.last_words`."""

from __future__ import annotations

import os
from pathlib import Path


def carry_out(line: bytes) -> None:
    """The line is a file's path, in which this process says who it is."""
    path = Path(line.decode())
    new = path.with_suffix(".new")
    new.write_text(f"{os.getpid()} {os.getppid()} {len(os.listdir('/proc/self/fd'))}")
    new.rename(path)
