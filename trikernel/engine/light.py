"""Imports modules of ipyparallel without running the package's own code (its ``__init__.py``),
until that is needed.

What is wanted
    To read a function that a client has sent, an engine needs ``ipyparallel.serialize``, whose
    import takes milliseconds. But Python runs the package's own code first, and that imports a
    client, a web server's loop and a launcher for each batch system: this takes as long as all the
    rest of the engine's start, and a third of its memory.

What does not work
    An empty package that runs the package's code only when code asks it for a name. Then another of
    its modules may be imported before that code has run, and the package's imports run in another
    order than the package was written for.

What is done
    `import_lightly` puts an empty package into `sys.modules` and imports the given modules into it.
    The package's own code runs in the same module object when code asks it for a name, and before
    any other of its modules is imported.
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

BUFFER_THRESHOLD = 1024  # bytes: larger data goes in a buffer of its own, as in Jupyter's Session
ITEM_THRESHOLD = 64  # items: a container with more is not searched for such data
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
    """Run a package's own code, unless it has run or is running. Other threads wait meanwhile."""
    with _lock:
        if type(package) is _LightPackage and package.__spec__ is not None:
            package.__class__ = ModuleType  # type: ignore[assignment]
            assert package.__spec__.loader is not None
            package.__spec__.loader.exec_module(package)


class _Finder:
    """Runs the package's own code before a module of it is imported that is not in ``light``."""

    def __init__(self, package: ModuleType, light: Sequence[str]) -> None:
        self._package = package
        self._light = tuple(f"{package.__name__}.{name}" for name in light)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, so that Python's own finder is asked next; but if the package's own code has
        imported this module, a spec that gives that module.
        """
        if type(self._package) is not _LightPackage:
            return None
        if not name.startswith(f"{self._package.__name__}.") or name.startswith(self._light):
            return None
        _complete(self._package)
        found = sys.modules.get(name)
        return ModuleSpec(name, _Existing(found)) if found is not None else None


class _Existing(Loader):
    """A loader that gives a module which is imported already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        # Python would load the module again by its own spec.
        self._spec, module.__spec__ = module.__spec__, None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Do not run the module again; give it back its own spec."""
        module.__spec__ = self._spec


def import_lightly(name: str, *modules: str) -> None:
    """Import these modules of a package without the package's own code. If the package is imported
    already, do nothing.

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
    """Import ipyparallel's modules that read functions and write results. Raises `ImportError`.

    They need two numbers from `jupyter_client.session`, whose import would also import asyncio, a
    web server's loop and a client, and take a fifth of the time of an engine's start. So a stand-in
    for that module, with the two numbers, is there during the import.
    """
    name, modules = "ipyparallel", ("serialize", "error")
    if _SESSION in sys.modules:
        import_lightly(name, *modules)
        return
    stand_in = sys.modules[_SESSION] = _Session(_SESSION)
    try:
        import_lightly(name, *modules)
    except ImportError:  # another version of ipyparallel, which needs more of that module
        if name not in sys.modules:
            raise
        del sys.modules[_SESSION]
        for module in modules:
            importlib.import_module(f"{name}.{module}")
    finally:
        if sys.modules.get(_SESSION) is stand_in:
            del sys.modules[_SESSION]


class _Session(ModuleType):
    """Stands in for `jupyter_client.session` while `ipyparallel.serialize` is imported."""

    MAX_BYTES = BUFFER_THRESHOLD
    MAX_ITEMS = ITEM_THRESHOLD
