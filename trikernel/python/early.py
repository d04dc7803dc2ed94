"""What a Python kernel can tell and do before IPython is imported.

That import takes nearly half of the time of a start. The first request that a kernel in a process
of its own gets is ``kernel_info_request``, and clients send nothing else until it is answered. So
it is answered while IPython is being imported in a thread. Other requests that arrive meanwhile
wait, in their order, until the kernel has started.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import trio

from ..kernel import built_in
from ..system import gc_paused, has_debugpy

__all__ = ["HEAVY", "Banner", "Features", "import_ipython", "ipython_version"]

HEAVY = "trikernel.python.shell"  # the module that imports IPython


class Banner:
    """The banner of a kernel, or of the class. It is a descriptor, so that the text is made only
    when it is read.
    """

    @built_in
    def __get__(self, instance: object, owner: object) -> str:
        if getattr(instance, "host", None) is not None:
            return f"{_banner()} the asyncio loop of the program"
        loop = getattr(instance, "cell_loop", "trio")
        return f"{_banner()} {'asyncio' if loop == 'asyncio' else 'Trio'}"


class Features:
    """The ``supported_features`` of a kernel, or of the class, for its kernelspec: ``debugger``
    where debugpy is installed.

    A kernel that shares its loop with a program has no debugger: the program would stand still
    together with the cell.
    """

    @built_in
    def __get__(self, instance: Any, owner: object) -> Sequence[str]:
        server = instance.server_ref() if instance is not None else None
        shares = server is not None and server.inline
        return ("debugger",) if has_debugpy() and not shares else ()


@cache
def _banner() -> str:
    return (
        f"Python {sys.version.split()[0]} on Trio {trio.__version__}, "
        f"IPython {ipython_version()}: top-level await runs in"
    )


def ipython_version() -> str:
    """The same as `IPython.__version__`, without importing IPython.

    Importing any module of IPython imports nearly all of it, and to read the version from the
    package's metadata takes ten milliseconds. So the file that defines it, ``core/release.py``,
    which imports nothing, is executed by itself.
    """
    package = sys.modules.get("IPython") or PathFinder.find_spec("IPython")
    found = getattr(package, "submodule_search_locations", None) or getattr(package, "__path__", [])
    for folder in found:
        spec = spec_from_file_location("_ipython_release", Path(folder, "core", "release.py"))
        if spec is not None and spec.loader is not None and Path(spec.origin or "").exists():
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return str(module.version)
    from IPython.core import release

    return str(release.version)


def import_ipython() -> None:
    """Import all that a kernel needs before it can run a cell."""
    with gc_paused():
        importlib.import_module(HEAVY)
        importlib.import_module("trikernel.python.process")
        importlib.import_module("trikernel.python.profile")
