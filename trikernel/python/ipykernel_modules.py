"""Modules with the names of ipykernel's modules, for code that imports ipykernel in this kernel.

What is wanted
    Code that was written for ipykernel imports it: ``from ipykernel.comm import Comm``. In this
    kernel the import has to give objects that work here, whether ipykernel is installed or not. A
    kernel in which nobody imports it pays nothing for that.

What does not work
    The real modules: they look for ipykernel's kernel, do not find it, and do nothing, or raise.

What is done
    A meta path finder, before all others, makes a module for each name of `NAMES`. Its attributes
    are the objects that the table names; they are imported when they are first read. A module or a
    name that is not in the table comes from the real ipykernel, if that is installed: its modules
    are loaded beside ours, and what they import of ipykernel are ours, where the table has them. If
    it is not installed, an `ImportError` or an `AttributeError` says so. Libraries recognise a
    notebook by ``"ipykernel" in sys.modules``, so the modules in `_LOADED`, which ipykernel's own
    kernel always has loaded, are in there from the start; that imports nothing either.

What remains
    ``importlib.metadata`` still says that ipykernel is not installed, where it is not.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import MappingProxyType, ModuleType
from typing import Any

from ..kernel.replacements import Replacements

__all__ = ["NAMES", "install_ipykernel_modules"]

_PACKAGE = "ipykernel"
_OURS = "trikernel.python.ipykernel_objects"
_COMMS = "trikernel.kernel.comms"
_CELLS = "trikernel.python.cell_names"
_COMPAT = "trikernel.compat"
_ALL = "*"  # every public name of another module

_FACTS = (
    "__version__",
    "version_info",
    "kernel_protocol_version",
    "kernel_protocol_version_info",
)
_CONNECT = (
    "connect_qtconsole",
    "get_connection_file",
    "get_connection_info",
    "write_connection_file",
)

_KERNELSPEC = (
    "KERNEL_NAME",
    "RESOURCES",
    "get_kernel_dict",
    "install",
    "make_ipkernel_cmd",
    "write_kernel_spec",
)


def _of(module: str, *names: str) -> dict[str, str]:
    return {name: f"{module}:{name}" for name in names}


NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ipykernel": _of(_OURS, *_FACTS, *_CONNECT),
        "ipykernel._version": _of(_OURS, *_FACTS),
        "ipykernel.connect": _of(_OURS, *_CONNECT),
        "ipykernel.embed": {"embed_kernel": "trikernel.python.embed:embed_kernel"},
        "ipykernel.comm": {
            "Comm": f"{_COMMS}:Comm",
            "CommManager": f"{_COMMS}:CellCommManager",
        },
        "ipykernel.comm.comm": {"Comm": f"{_COMMS}:Comm", "BaseComm": f"{_COMMS}:Comm"},
        "ipykernel.comm.manager": {"CommManager": f"{_COMMS}:CellCommManager"},
        "ipykernel.kernelbase": {"Kernel": f"{_COMPAT}:Kernel"},
        "ipykernel.ipkernel": {
            "IPythonKernel": f"{_COMPAT}:IPythonKernel",
            "Kernel": f"{_COMPAT}:IPythonKernel",
        },
        "ipykernel.kernelapp": {
            "IPKernelApp": f"{_COMPAT}:IPKernelApp",
            "kernel_aliases": f"{_COMPAT}.flags:ALIASES",
            "kernel_flags": f"{_COMPAT}.flags:FLAGS",
            "launch_new_instance": f"{_COMPAT}:IPKernelApp.launch_instance",
            "main": f"{_COMPAT}:IPKernelApp.launch_instance",
        },
        "ipykernel.compiler": {
            "get_file_name": f"{_CELLS}:file_name",
            "get_tmp_directory": f"{_CELLS}:cell_folder",
            "get_tmp_hash_seed": f"{_CELLS}:hash_seed",
            "murmur2_x86": f"{_CELLS}:murmur2",
            "XCachingCompiler": "trikernel.python.async_magics:AwaitingCompiler",
        },
        "ipykernel.zmqshell": {
            "ZMQInteractiveShell": "trikernel.python.shell:ZMQInteractiveShell",
            "ZMQDisplayPublisher": "trikernel.python.display:CellDisplayPublisher",
            "KernelMagics": "trikernel.python.frontend_magics:FrontendMagics",
        },
        "ipykernel.displayhook": {
            "ZMQDisplayHook": "trikernel.python.display:CellDisplayHook",
            "ZMQShellDisplayHook": "trikernel.python.display:CellDisplayHook",
        },
        "ipykernel.kernelspec": _of(f"{_COMPAT}.kernelspec", *_KERNELSPEC),
        "ipykernel.iostream": {"OutStream": "trikernel.kernel.streams:OutStream"},
        "ipykernel.jsonutil": _of(_OURS, "json_clean", "encode_images"),
        "ipykernel.pylab": {},
        "ipykernel.pylab.backend_inline": {_ALL: "matplotlib_inline.backend_inline"},
        "ipykernel.pylab.config": {_ALL: "matplotlib_inline.config"},
    }
)
"""For each module its names, and the object that stands for each: ``module:attribute``."""

_REAL_FIRST = frozenset({"ipykernel.kernelspec"})
"""Modules of which the real one is used if ipykernel is installed, because it works unchanged."""

_PACKAGES = frozenset(name.rpartition(".")[0] for name in NAMES if "." in name)
_LOADED = (
    "ipykernel",
    "ipykernel.zmqshell",
)


def install_ipykernel_modules(replaced: Replacements | None = None) -> None:
    """Have ``import ipykernel`` give the modules of `NAMES`. A second call does nothing.

    Modules of the real ipykernel that are loaded already are taken out of `sys.modules`. If
    ``replaced`` is given, its `undo` puts everything back. Imports nothing, and reads no file.
    """
    if any(isinstance(one, _Finder) for one in sys.meta_path):
        return
    finder = _Finder()
    replaced = Replacements() if replaced is None else replaced
    replaced.keep(sys.modules, *NAMES, *_loaded())
    replaced.callback(lambda: _take_out(finder))
    for name in _loaded():
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    for name in _LOADED:
        spec = finder.find_spec(name)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def _loaded() -> list[str]:
    """The names of ipykernel's modules in `sys.modules`. Other threads may import meanwhile, so all
    names are copied first, which no other thread can interrupt.
    """
    return list(filter(_is_ipykernels, list(sys.modules)))


def _is_ipykernels(name: str) -> bool:
    return name.partition(".")[0] == _PACKAGE


def _take_out(finder: _Finder) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)
    for name in _loaded():
        del sys.modules[name]


class _Finder:
    """Finds ipykernel's modules. It stands first in `sys.meta_path`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """A spec for ipykernel and what is in it; None for any other module.

        Raises `ModuleNotFoundError` for a module that is neither in the table nor installed.
        """
        if not _is_ipykernels(name):
            return None
        real = None if name in NAMES and name not in _REAL_FIRST else _find_real(name)
        if name in NAMES and real is None:
            spec = ModuleSpec(name, _Loader(name), origin="trikernel")
            if name in _PACKAGES:
                spec.submodule_search_locations = []
            return spec
        if real is None:
            raise ModuleNotFoundError(
                f"No module named {name!r}: trikernel, which runs here in ipykernel's place, has "
                "none of that name, and ipykernel is not installed",
                name=name,
            )
        return real


def _find_real(name: str) -> ModuleSpec | None:
    """The spec of a module of the real ipykernel; None if it is not installed."""
    parent, _, _ = name.rpartition(".")
    path: Sequence[str] | None = None
    if parent:
        package = _find_real(parent)
        if package is None or package.submodule_search_locations is None:
            return None
        path = package.submodule_search_locations
    return PathFinder.find_spec(name, path)


class _Loader(Loader):
    """Makes one module of `NAMES`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._real: ModuleType | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module; `exec_module` gives it a ``__getattr__``."""
        return ModuleType(spec.name, "Of trikernel, in the place of ipykernel's.")

    def exec_module(self, module: ModuleType) -> None:
        """Have the module look up each of its names when it is first read."""
        space = vars(module)
        names = NAMES[self._name]
        if _ALL in names:
            space.update(_public(importlib.import_module(names[_ALL])))
            return
        space["__all__"] = [name for name in names if not name.startswith("_")]
        space["__dir__"] = lambda: sorted({*space, *names})
        space.pop("__path__", None)  # `_find` computes it when it is read, because it reads folders

        def look_up(name: str) -> Any:
            space[name] = found = self._find(name)
            return found

        space["__getattr__"] = look_up

    def _find(self, name: str) -> Any:
        """The object of the table, or else of the real module. Raises `AttributeError` if there is
        neither.
        """
        place = NAMES[self._name].get(name)
        if place is not None:
            return _load(place)
        if f"{self._name}.{name}" in NAMES:  # submodules that ipykernel's own kernel has loaded
            return importlib.import_module(f"{self._name}.{name}")
        spec = _find_real(self._name)
        if name == "__path__" and self._name in _PACKAGES:
            return list((spec and spec.submodule_search_locations) or [])
        if name == "__file__" and spec is not None:
            return spec.origin
        if not name.startswith("__"):
            real = self._load_real()
            if hasattr(real, name):
                return getattr(real, name)
        raise AttributeError(
            f"module {self._name!r} has no attribute {name!r}: trikernel runs here in ipykernel's "
            "place" + ("" if spec is not None else ", and ipykernel is not installed"),
            name=name,
        )

    def _load_real(self) -> ModuleType | None:
        """The real module, which is not put into `sys.modules`; None if it is not installed."""
        if self._real is None:
            spec = _find_real(self._name)
            if spec is None or spec.loader is None:
                return None
            self._real = module_from_spec(spec)  # set first: while executed it may look itself up
            spec.loader.exec_module(self._real)
        return self._real


def _load(place: str) -> Any:
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _public(module: ModuleType) -> dict[str, Any]:
    names: Iterable[str] = getattr(module, "__all__", None) or filter(
        lambda name: not name.startswith("_"), vars(module)
    )
    return {name: getattr(module, name) for name in names}
