"""Runs kernels that were written for ipykernel: classes with its names and interface, over ours.

``from trikernel.compat import Kernel, IPKernelApp`` is the only line that a port has to change;
``python -m trikernel.compat PACKAGE -f FILE`` runs a package without any change.
"""

from __future__ import annotations

from .app import IPKernelApp
from .kernel import IPythonKernel, Kernel

__all__ = ["IPKernelApp", "IPythonKernel", "Kernel"]
