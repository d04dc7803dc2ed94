"""What is told of a Python kernel, and done for it, before IPython is imported.

That takes nearly half of a start. A kernel in a process of its own is asked ``kernel_info_request``
first, and nothing else until it has answered: so that is answered while IPython is imported in a
thread. Whatever else arrives waits in its order until the kernel has started.
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

HEAVY = "trikernel.python.shell"  # the import that brings IPython


class Banner:
    """A kernel's first line in a console; of the class too. It is made when it is asked for."""

    @built_in
    def __get__(self, instance: object, owner: object) -> str:
        if getattr(instance, "host", None) is not None:
            return f"{_banner()} the asyncio loop of the program"
        loop = getattr(instance, "cell_loop", "trio")
        return f"{_banner()} {'asyncio' if loop == 'asyncio' else 'Trio'}"


class Features:
    """A debugger where debugpy is installed; of the class too, for its kernelspec.

    None in a loop that is shared with others: that would stand still with the cell.
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
    """As `IPython.__version__`.

    To import anything of IPython imports nearly all of it, and to ask for an installed package's
    version takes ten milliseconds. So the file that has it, and imports nothing, is run by itself.
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
