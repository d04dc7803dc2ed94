"""What a Jupyter kernel must do: each requirement with its id, its source and its check.

The table `REQUIREMENTS` is in the order of the checks: the kernel is shut down near its end,
and what is said of every message is checked last.
"""

from __future__ import annotations

from . import looking, messages, running, stopping

__all__ = ["REQUIREMENTS"]

REQUIREMENTS = [
    *looking.REQUIREMENTS,
    *running.REQUIREMENTS,
    *stopping.REQUIREMENTS,
    *messages.REQUIREMENTS,
]
