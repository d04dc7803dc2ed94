"""The command line ``trikernel``: `app` has its subcommands."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
