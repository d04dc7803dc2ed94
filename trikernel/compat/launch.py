"""Runs a kernel's package as ``python -m`` does, with trikernel's objects under ipykernel's names.

It makes no difference whether ipykernel is installed. If the module is no kernel, it exits with
code 2 and one line on stderr.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from ..core import is_machinery
from ..kernel import served_kernel
from ..python.ipykernel_modules import install_ipykernel_modules
from ..system import real_stderr
from .adapter import describe
from .app import IPKernelApp

__all__ = ["main", "name_in_child"]

_USAGE = """\
usage: python -m trikernel.compat MODULE[:FUNCTION] [-f FILE] [MORE ...]

Run MODULE as `python -m MODULE` does, or call its FUNCTION, as an installed script does.
Kernels that were written for ipykernel run on trikernel, unchanged.
"""


class _MainName(str):
    """The name of the main module, by which spawned children of multiprocessing import it.

    The name is pickled for the child. When it is unpickled there, ipykernel's names are installed
    first, so that the main module can import them.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return name_in_child, (str(self),)


def name_in_child(name: str) -> str:
    """Unpickle the name of the main module in a spawned child: installs ipykernel's names there."""
    install_ipykernel_modules()
    return name


def main(argv: Sequence[str]) -> int:
    """Run a module or function. Returns the exit code, once its kernel has ended."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if argv else sys.stderr, end="")
        return 0 if argv else 2
    target, rest = argv[0], list(argv[1:])
    module, _, function = target.partition(":")
    install_ipykernel_modules()
    missing = _missing(module, function)
    if missing:
        return _complain(f"{target} is no kernel: {missing}")
    sys.argv[:] = [module, *rest]
    try:
        if function:
            _name_main()
            found = _function(module, function)
            code: object = found()
        else:
            runpy.run_module(_main_of(module), run_name="__main__", alter_sys=True)
            code = 0
    except SystemExit as error:
        code = error.code
        if IPKernelApp.has_started or code not in (None, 0):
            raise
    except Exception as error:
        return _complain(_said(target, error))
    if not IPKernelApp.has_started and served_kernel() is None and _is_asked_to_serve(rest):
        return _complain(f"{target} is no kernel: it has ended without starting one")
    return code if isinstance(code, int) else 0


def _missing(module: str, function: str) -> str:
    """Why the module cannot be run; empty if it can."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None:
            return f"there is no module {module!r}"
        is_package = spec.submodule_search_locations is not None
        if is_package and not function and importlib.util.find_spec(f"{module}.__main__") is None:
            return f"the package {module!r} has no __main__"
    except ModuleNotFoundError as error:
        return f"there is no module {error.name!r}"
    except Exception as error:  # raised by the import of a parent package
        return f"importing it raised {describe(error)}"
    return ""


def _main_of(module: str) -> _MainName:
    """The name of the module that is run; for a package its ``__main__``."""
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return _MainName(f"{module}.__main__" if is_package else module)


def _name_main() -> None:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == f"{__package__}.__main__":
        spec.name = _MainName(spec.name)


def _function(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _said(target: str, error: Exception) -> str:
    """What was raised, and the innermost line of the author's code that raised it."""
    places = [
        one
        for one in traceback.extract_tb(error.__traceback__)
        if not is_machinery(one.filename) and not one.filename.startswith("<frozen")
    ]
    place = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
    return f"{target} raised {describe(error)}{place}"


def _is_asked_to_serve(words: Sequence[str]) -> bool:
    return any(one.startswith(("-f", "--f", "--connection-file", "--IPKernelApp")) for one in words)


def _complain(text: str) -> int:
    print(f"error: {text}", file=real_stderr, flush=True)
    return 2
