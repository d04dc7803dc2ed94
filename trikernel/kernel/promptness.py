"""Which functions say something, or return, before anything waits.

The status ``busy`` is held until a handler has something to say: both leave together, which wakes
libzmq's own thread once instead of twice. Before an author's code is called it has to be out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

__all__ = ["calls_nobody_first", "computes_info", "is_prompt", "prompt"]

Function = TypeVar("Function", bound=Callable[..., Any])

_PROMPT: set[object] = set()
_CALLED_FIRST = ("pre_handler_hook", "init_metadata", "begin_execution", "send_response")
_INFO = (
    "implementation",
    "implementation_version",
    "language",
    "language_version",
    "language_info",
    "banner",
    "help_links",
    "supported_features",
)


def prompt(function: Function) -> Function:
    """Of a method that sends what is held, or returns, before it waits or calls an author."""
    _PROMPT.add(function)
    return function


def is_prompt(method: object) -> bool:
    """Whether a method is a `prompt` one, and not an author's that replaces or wraps it."""
    return getattr(method, "__func__", None) in _PROMPT


def calls_nobody_first(cls: type, own: Mapping[str, Any]) -> bool:
    """Whether no author is called before a prompt handler says something.

    ``own`` are the kernel's own attributes: a hook may be set on it alone.
    """
    for name in _CALLED_FIRST:
        if name in own:
            return False
    return _has_only_prompt(cls)


@cache
def _has_only_prompt(cls: type) -> bool:
    return all(inspect.getattr_static(cls, name) in _PROMPT for name in _CALLED_FIRST)


@cache
def computes_info(cls: type) -> bool:
    """Whether what a ``kernel_info_reply`` says of a class is computed by an author's code."""
    content = inspect.getattr_static(cls, "kernel_info")
    if getattr(content, "fget", None) not in _PROMPT:
        return True
    found = [inspect.getattr_static(cls, name, None) for name in _INFO]
    return any(
        hasattr(one, "__get__") and not type(one).__module__.startswith("trikernel.")
        for one in found
    )
