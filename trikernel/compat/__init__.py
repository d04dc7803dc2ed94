"""Kernels that were written for ipykernel, as they are: its classes, over this kernel's.

``from trikernel.compat import Kernel, IPKernelApp`` is the one line of a port;
``python -m trikernel.compat PACKAGE -f FILE`` runs a package that has not even that.
"""

from __future__ import annotations

from .app import IPKernelApp
from .kernel import IPythonKernel, Kernel

__all__ = ["IPKernelApp", "IPythonKernel", "Kernel"]
