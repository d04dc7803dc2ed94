"""The command line: ``trikernel run | start | install | remove | list | info``."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
