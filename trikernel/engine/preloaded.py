"""Imports all modules that an engine needs, for the process that forks engines.

As in an engine, ipyparallel's own package is left out, see `light`: its imports would take as long
as everything else, and a third of the memory.
"""

from __future__ import annotations

from . import (
    app,  # noqa: F401
    application,  # noqa: F401
)
from .light import import_serializer

__all__: list[str] = []

import_serializer()
