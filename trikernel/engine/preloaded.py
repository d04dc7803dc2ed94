"""What an engine imports, for the process that forks engines: importing this imports all of it.

As an engine does, it leaves out what ipyparallel's package imports beside functions that are sent:
that would take as long as everything else, and a third of the memory.
"""

from __future__ import annotations

from . import (
    app,  # noqa: F401
    application,  # noqa: F401
)
from .light import import_serializer

__all__: list[str] = []

import_serializer()
