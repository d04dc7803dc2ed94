"""ipyparallel's package without what it imports, until somebody asks for that.

What is wanted
    To read a function that a client has sent, an engine needs ``ipyparallel.serialize``. That takes
    milliseconds. To import a module of a package Python imports the package first, and that one's
    own code imports a client, a web server's loop and a launcher for each batch system: as long as
    all the rest of the engine's start, and a third of its memory.

What is done
    `import_lightly` puts a module in the package's place that knows where its modules are and
    nothing else. The first name that is asked of it has the package's own code run in it, and then
    it is the package.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["import_lightly"]

_lock = threading.RLock()


class _LightModule(ModuleType):
    """A package whose own code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:
            if isinstance(self, _LightModule):  # nobody else was first
                self.__class__ = ModuleType  # type: ignore[assignment]
                spec = self.__spec__
                assert spec is not None
                assert spec.loader is not None
                spec.loader.exec_module(self)
        return getattr(self, name)


def import_lightly(name: str) -> None:
    """Have the package of that name, unless it is imported already, run its code when it is used.

    Raises `ImportError` if it is not installed.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"the engine needs {name}: pip install 'trikernel[parallel]'", name=name)
    module = _LightModule(name)
    module.__spec__, module.__loader__ = spec, spec.loader
    module.__path__ = list(spec.submodule_search_locations or ())
    module.__file__, module.__package__ = spec.origin, name
    sys.modules[name] = module
