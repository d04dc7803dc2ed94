"""The ready kernel for Trio notebooks. Needs the extra: ``pip install 'trikernel[python]'``."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("IPython") is None:  # checked here: the kernel imports IPython only when it is served
    raise ModuleNotFoundError("the Python kernel needs IPython", name="IPython")

from .kernel import PythonKernel

__all__ = ["PythonKernel"]
