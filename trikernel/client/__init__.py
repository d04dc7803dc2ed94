"""A client of kernels on Trio. `trikernel.client.notebook` needs nbformat, this does not."""

from __future__ import annotations

from .client import Client, Execution, open_client

__all__ = ["Client", "Execution", "open_client"]
