"""Running a module as ``python -m`` does, with code that was loaded before the fork.

`runpy` would load the code in each forked process, which takes time, and writes to memory that the
processes share otherwise.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import attrs

__all__ = ["Program", "find_program"]


@attrs.frozen(eq=False)
class Program:
    """A module to be run. ``spec`` or ``code`` is None if it could not be loaded: then `run` calls
    `runpy`, which raises the error that ``python -m`` would.
    """

    name: str
    spec: ModuleSpec | None = None
    code: types.CodeType | None = None

    def run(self, arguments: list[str]) -> None:
        """Run the module as ``__main__``. Raises what the module raises, and `ImportError`."""
        sys.argv = [self.name, *arguments]
        if self.spec is None or self.code is None:
            runpy.run_module(self.name, run_name="__main__", alter_sys=True)
            return
        module = types.ModuleType("__main__")
        origin = self.spec.origin or self.name
        module.__dict__.update(
            __file__=origin,
            __cached__=self.spec.cached,
            __loader__=self.spec.loader,
            __package__=self.spec.parent,
            __spec__=self.spec,
        )
        sys.modules["__main__"] = module
        sys.argv[0] = origin
        exec(self.code, module.__dict__)


def find_program(name: str) -> Program:
    """What ``python -m name`` would run. Imports the package that the module is in."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
        loader: Any = None if spec is None else spec.loader
        code = None if spec is None or loader is None else loader.get_code(spec.name)
    except Exception:  # whatever a broken module raises
        return Program(name)
    return Program(name, spec, code)
