"""Modules of ipyparallel's without its package's own code, until somebody asks for that.

What is wanted
    To read a function that a client has sent, an engine needs ``ipyparallel.serialize``. That takes
    milliseconds. To import a module of a package Python runs the package's own code first, and that
    imports a client, a web server's loop and a launcher for each batch system: as long as all the
    rest of the engine's start, and a third of its memory.

What does not work
    To leave it at an empty package, which runs its code when a name is asked of it: then another
    module of it may be imported before that code, in an order in which they need each other.

What is done
    `import_lightly` imports those modules within an empty package. The package's code runs in it
    before anything else of it is imported, and when a name is asked of it. The package is the same
    object before and after.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["BUFFER_THRESHOLD", "ITEM_THRESHOLD", "import_lightly", "import_serializer"]

BUFFER_THRESHOLD = 1024  # bytes from which on data goes in a buffer of its own, as with Session
ITEM_THRESHOLD = 64  # items up to which a container is looked through for such data
_SESSION = "jupyter_client.session"
_lock = threading.RLock()


class _LightPackage(ModuleType):
    """A package whose own code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _complete(self)
        return getattr(self, name)


def _complete(package: ModuleType) -> None:
    """Run its own code, if that has not been done; in one thread."""
    with _lock:
        if type(package) is _LightPackage and package.__spec__ is not None:
            package.__class__ = ModuleType  # type: ignore[assignment]
            assert package.__spec__.loader is not None
            package.__spec__.loader.exec_module(package)


class _Finder:
    """Has a package completed before a module of it is imported that is not one of ``light``."""

    def __init__(self, package: ModuleType, light: Sequence[str]) -> None:
        self._package = package
        self._light = tuple(f"{package.__name__}.{name}" for name in light)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, and Python's own finder is asked; unless the package's code has imported it."""
        if type(self._package) is not _LightPackage:
            return None
        if not name.startswith(f"{self._package.__name__}.") or name.startswith(self._light):
            return None
        _complete(self._package)
        found = sys.modules.get(name)
        return ModuleSpec(name, _Existing(found)) if found is not None else None


class _Existing(Loader):
    """A module that was imported meanwhile."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec, module.__spec__ = module.__spec__, None  # else Python would load it by that

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """It."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """It has run; what it was found by stays."""
        module.__spec__ = self._spec


def import_lightly(name: str, *modules: str) -> None:
    """Import these modules of a package, and not the package, unless it is imported already.

    Raises `ImportError` if it is not installed.
    """
    if name in sys.modules:
        return
    spec = PathFinder.find_spec(name)
    if spec is None:
        raise ImportError(f"the engine needs {name}: pip install 'trikernel[parallel]'", name=name)
    package = _LightPackage(name)
    package.__spec__, package.__loader__ = spec, spec.loader
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__file__, package.__package__ = spec.origin, name
    sys.modules[name] = package
    sys.meta_path.insert(0, _Finder(package, modules))
    for module in modules:
        importlib.import_module(f"{name}.{module}")


def import_serializer() -> None:
    """Import what reads functions that are sent, and writes results. Raises `ImportError`.

    Without `jupyter_client.session`, of which it wants two numbers: that would import asyncio, a
    web server's loop and a client, and take a fifth of the time of an engine's start.
    """
    name, modules = "ipyparallel", ("serialize", "error")
    if _SESSION in sys.modules:
        import_lightly(name, *modules)
        return
    stand_in = sys.modules[_SESSION] = _Session(_SESSION)
    try:
        import_lightly(name, *modules)
    except ImportError:  # another version, which wants more of it
        if name not in sys.modules:
            raise
        del sys.modules[_SESSION]
        for module in modules:
            importlib.import_module(f"{name}.{module}")
    finally:
        if sys.modules.get(_SESSION) is stand_in:
            del sys.modules[_SESSION]


class _Session(ModuleType):
    """While `ipyparallel.serialize` is imported."""

    MAX_BYTES = BUFFER_THRESHOLD
    MAX_ITEMS = ITEM_THRESHOLD
