"""A call with a deadline: a function, and the seconds that it may take on the engine.

Knows nothing of engines: a client imports this, too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Within", "within"]


class Within:
    """A function whose calls on an engine of ours are stopped after ``seconds``."""

    def __init__(self, seconds: float, f: Callable[..., Any]) -> None:
        self.seconds = seconds
        self.f = f
        self.__name__ = getattr(f, "__name__", "f")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it here, without a deadline."""
        return self.f(*args, **kwargs)


def within(seconds: float, f: Callable[..., Any]) -> Within:
    """``f`` with a deadline, for any view: ``view.apply(within(2, f), ...)``.

    After so many seconds the call is stopped as `trio.fail_after` or Ctrl-C would, and fails with
    `DeadlineExceeded`. Raises `ValueError` for seconds that are no positive number.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"a call's deadline must be a positive number of seconds, not {seconds}")
    _teach_canning()
    return Within(seconds, f)


def _teach_canning() -> None:
    """Have ipyparallel send the function in it as it sends functions."""
    canning = sys.modules.get("ipyparallel.serialize.canning")
    if canning is not None and Within not in canning.can_map:
        canning.can_map[Within] = _can


def _can(call: Within) -> Any:
    from ipyparallel.serialize.canning import CannedObject

    return CannedObject(call, keys=["f"])
