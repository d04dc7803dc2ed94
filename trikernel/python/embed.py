"""A kernel in the middle of a program: `embed_kernel`."""

from __future__ import annotations

import inspect
import os
import sys
from types import ModuleType
from typing import Any

from ..errors import UsageError
from ..kernel import run
from .kernel import PythonKernel
from .process import served

__all__ = ["embed_kernel"]


def embed_kernel(
    module: ModuleType | None = None,
    local_ns: dict[str, Any] | None = None,
    *,
    connection_file: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> None:
    """Serve a Python kernel here, with the caller's names, until a client shuts it down.

    Blocks. How a client reaches it is printed on stderr. Cells see ``local_ns`` and the names of
    ``module``; by default those of the function that calls, of which they have a copy, or of the
    module that calls, which keeps what cells set. ``connection_file`` is as for `trikernel.run`,
    ``settings`` are `PythonKernel`'s. Raises `UsageError` in a cell, `ConnectionFileError` for a
    file that cannot be used.
    """
    if served.kernel() is not None:
        raise UsageError("embed_kernel: this is a cell already; its names are those of the kernel")
    here = inspect.currentframe()
    caller = here.f_back if here is not None else None
    if module is None:
        name = caller.f_globals.get("__name__") if caller is not None else None
        module = sys.modules.get(name or "__main__")
    if local_ns is None:
        local_ns = dict(caller.f_locals) if caller is not None else {}
    if module is not None and _is_same(local_ns, vars(module)):
        local_ns = vars(module)
    kernel = PythonKernel(**settings)
    kernel.given_names = module, local_ns
    run(kernel, connection_file)


def _is_same(copy: dict[str, Any], names: dict[str, Any]) -> bool:
    """Whether it has the same names for the same objects: the caller is the module itself."""
    return copy.keys() == names.keys() and all(copy[name] is names[name] for name in names)
