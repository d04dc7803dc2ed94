"""From the kernel to IPython: all of it that the kernel needs, imported when it is to be served.

Importing IPython is a quarter of the start. The kernel's sockets are bound before it: a client that
finds them connects meanwhile, one that does not tries again only after a tenth of a second.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from ..system import gc_paused

with gc_paused():
    from IPython.core import release
    from traitlets.config import Config

    from .process import OwnProcess
    from .shell import ZMQInteractiveShell

__all__ = ["BANNER", "OwnProcess", "new_shell"]

BANNER = (
    f"Python {sys.version.split()[0]} on Trio {trio.__version__}, "
    f"IPython {release.version}: top-level await runs in Trio"
)


def new_shell(kernel: Any, process: OwnProcess | None) -> ZMQInteractiveShell:
    """A shell with the configuration of the process, or one that leaves no traces on disk."""
    if process is None:
        return _new_shell(kernel, None)
    with gc_paused():
        return _new_shell(kernel, process)


def _new_shell(kernel: Any, process: OwnProcess | None) -> ZMQInteractiveShell:
    config = Config()
    if process is not None:
        config.merge(process.profile.config)
    else:
        config.HistoryManager.hist_file = ":memory:"
    config.setdefault("IPKernelApp", Config())  # libraries look here, to tell a notebook
    shell = ZMQInteractiveShell(
        kernel=kernel,
        owns_process=process is not None,
        config=config,
        profile_dir=process.profile.profile_dir if process is not None else None,
        ipython_dir=process.profile.ipython_dir if process is not None else None,
    )
    if "JPY_SESSION_NAME" in os.environ:
        shell.user_ns["__session__"] = os.environ["JPY_SESSION_NAME"]
    return shell
