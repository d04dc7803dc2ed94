"""What an author's function takes, found out once: verbs and handlers of several ages differ."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["accepted", "positional_count"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def accepted(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that ``function`` takes by keyword."""
    names = _keywords(getattr(function, "__func__", function))
    if names is None:
        return options
    return {name: value for name, value in options.items() if name in names}


def positional_count(function: Callable[..., Any]) -> float:
    """How many positional arguments a handler takes; infinity for ``*args``."""
    bound = getattr(function, "__self__", None) is not None
    return _positional(getattr(function, "__func__", function)) - bound


@lru_cache(maxsize=256)
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(function).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return None
    return frozenset(parameters)


@lru_cache(maxsize=256)
def _positional(function: Callable[..., Any]) -> float:
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    return float(sum(kind in _POSITIONAL for kind in kinds))
