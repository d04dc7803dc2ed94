"""`GLOBAL_NURSERY`, the name that ipykernel's Trio loop puts among the builtins.

Notebooks written for that loop use it for tasks that outlive their cell. Here it stands for the
kernel's background nursery; its use gives a `DeprecationWarning` that names the right import.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..core import BackgroundNursery

__all__ = ["GlobalNursery"]


class GlobalNursery:
    """Has the attributes of `trikernel.notebook.nursery`; ``find`` returns that of the calling
    cell's kernel.
    """

    def __init__(self, find: Callable[[], BackgroundNursery]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # frontends and `copy` look for such names: no warning for these
            raise AttributeError(f"GLOBAL_NURSERY has no attribute {name!r}")
        warnings.warn(
            "GLOBAL_NURSERY is ipykernel's name: write 'from trikernel.notebook import nursery'",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(self._find(), name)

    def __dir__(self) -> list[str]:
        return [name for name in dir(BackgroundNursery) if not name.startswith("_")]

    def __repr__(self) -> str:
        return "<GLOBAL_NURSERY: the background nursery, trikernel.notebook.nursery>"
