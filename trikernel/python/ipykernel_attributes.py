"""The shell's attributes ``kernel`` and ``parent``, in the forms that extensions written for
ipykernel and traitlets expect.

In ipykernel the shell and the kernel are Configurables of traitlets that refer to each other. Here
the kernel is no Configurable; it owns the shell, which refers to it weakly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from traitlets import TraitType
from traitlets.config import Config, Configurable

__all__ = ["KernelParent", "KernelTrait", "application_config"]


class KernelTrait(TraitType[Any, Any]):
    """``shell.kernel``. It is a trait, because TensorBoard recognises a notebook by that. None when
    the kernel is gone. It cannot be set.

    Where the kernel is served on behalf of an author's object (a subclass of ipykernel's classes),
    it is that object.
    """

    info_text = "the kernel of this shell"

    def __get__(self, obj: Any, cls: Any = None) -> Any:
        return self if obj is None else _named(obj.find_kernel())

    def set(self, obj: Any, value: Any) -> None:
        """Raises `AttributeError`."""
        raise AttributeError("a shell keeps its kernel")


class KernelParent(Configurable):
    """``shell.parent``: a Configurable that takes all other attributes from the kernel."""

    def __init__(self, find: Callable[[], Any]) -> None:
        super().__init__()
        self._find = find

    def __getattr__(self, name: str) -> Any:
        kernel = None if name == "_find" else _named(self._find())
        if kernel is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(kernel, name)


def _named(kernel: Any) -> Any:
    """The object that cells see as the kernel: the author's, if there is one."""
    return None if kernel is None else kernel.find_author() or kernel


def application_config(kernel: Any) -> Config:
    """``config.IPKernelApp``, with the connection file. Libraries recognise a notebook by it."""
    if kernel.connection_file is None:
        return Config()
    return Config(connection_file=os.path.abspath(kernel.connection_file))
