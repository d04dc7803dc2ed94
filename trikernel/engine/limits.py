"""`within`: a function with the seconds that a call of it may take on an engine.

Knows nothing of engines, because clients import this module, too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Within", "within"]


class Within:
    """A function whose calls on a trikernel engine are stopped after ``seconds``."""

    def __init__(self, seconds: float, f: Callable[..., Any]) -> None:
        self.seconds = seconds
        self.f = f
        self.__name__ = getattr(f, "__name__", "f")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in this process, without a deadline."""
        return self.f(*args, **kwargs)


def within(seconds: float, f: Callable[..., Any]) -> Within:
    """``f`` with a deadline, for any view: ``view.apply(within(2, f), ...)``.

    After so many seconds the call is stopped, by a cancel as from `trio.fail_after` or an exception
    as from Ctrl-C, and fails with `DeadlineExceeded`. Raises `ValueError` if ``seconds`` is not a
    positive, finite number.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"a call's deadline must be a positive number of seconds, not {seconds}")
    _teach_canning()
    return Within(seconds, f)


def _teach_canning() -> None:
    """Have ipyparallel pack the function in a `Within` as it packs plain functions."""
    canning = sys.modules.get("ipyparallel.serialize.canning")
    if canning is not None and Within not in canning.can_map:
        canning.can_map[Within] = _can


def _can(call: Within) -> Any:
    from ipyparallel.serialize.canning import CannedObject

    return CannedObject(call, keys=["f"])
