"""The ready kernel for Trio notebooks. Needs the extra: ``pip install 'trikernel[python]'``."""

from __future__ import annotations

from .kernel import PythonKernel

__all__ = ["PythonKernel"]
