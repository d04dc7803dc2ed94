"""What a shell has of its kernel, in the forms that traitlets and ipykernel's extensions expect.

ipykernel's shell and kernel are traitlets' Configurables that hold each other. Ours are not: the
kernel owns its shell, which finds it by a weak reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from traitlets import TraitType
from traitlets.config import Config, Configurable

__all__ = ["KernelParent", "KernelTrait", "application_config"]


class KernelTrait(TraitType[Any, Any]):
    """``shell.kernel``: a trait, because that is how TensorBoard tells a notebook. None when the
    kernel is gone. Cannot be set.

    Of a kernel that is served for an author's object, as ipykernel's subclasses are, it is that.
    """

    info_text = "the kernel of this shell"

    def __get__(self, obj: Any, cls: Any = None) -> Any:
        return self if obj is None else _named(obj.find_kernel())

    def set(self, obj: Any, value: Any) -> None:
        """Raises `AttributeError`."""
        raise AttributeError("a shell keeps its kernel")


class KernelParent(Configurable):
    """``shell.parent``: a Configurable whose other attributes are the kernel's."""

    def __init__(self, find: Callable[[], Any]) -> None:
        super().__init__()
        self._find = find

    def __getattr__(self, name: str) -> Any:
        kernel = None if name == "_find" else _named(self._find())
        if kernel is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(kernel, name)


def _named(kernel: Any) -> Any:
    """What cells know as the kernel."""
    return None if kernel is None else kernel.find_author() or kernel


def application_config(kernel: Any) -> Config:
    """``config.IPKernelApp``: by its presence libraries tell a notebook, and it names the file."""
    if kernel.connection_file is None:
        return Config()
    return Config(connection_file=os.path.abspath(kernel.connection_file))
