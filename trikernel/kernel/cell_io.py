"""Connects `print`, `input` and child processes of a kernel's code to the running cell.

While at least one kernel whose output is captured is served, the following is replaced:

===============================================  ==================================================
name                                             what stands there
===============================================  ==================================================
``sys.stdout``, ``sys.stderr``                   text of a cell is sent by its kernel
``input``, ``getpass.getpass``                   a cell asks through its kernel
``threading.Thread.start``,                      a thread belongs to the request that started it
``ThreadPoolExecutor.submit``
``threading.excepthook``                         an error of a thread is shown where it prints
===============================================  ==================================================

Each of the functions finds out from the calling context which kernel's code calls it; code that
runs for no such kernel gets the original. Code that keeps one of our objects (a logging handler, a
library that wraps `sys.stdout`) can go on using it when no kernel is served any more: it then does
what the original does. Descriptors 1 and 2 belong to the whole process, so `capture_descriptors` is
only for a kernel with a process of its own.
"""

from __future__ import annotations

import builtins
import contextvars
import getpass
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .fd_capture import FdCapture
from .replacements import Replacements, Served
from .sender import Sender
from .streams import OutStream, carrying_excepthook, carrying_start, carrying_submit

__all__ = ["capture_descriptors", "captured"]


def _replace(replaced: Replacements) -> None:
    replace = replaced.replace
    streams = [OutStream(name, getattr(sys, name), _sender) for name in ("stdout", "stderr")]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        replace(sys, name, stream)
    replace(builtins, "input", _asking(builtins.input))
    replace(getpass, "getpass", _asking_password(getpass.getpass))
    replace(threading.Thread, "start", carrying_start(threading.Thread.start))
    replace(threading, "excepthook", carrying_excepthook(threading.excepthook))
    replace(ThreadPoolExecutor, "submit", carrying_submit(ThreadPoolExecutor.submit))


def _in_child(is_cell: bool) -> None:
    """In a forked child text goes to the original streams of the process."""
    sys.stdout = getattr(sys, "__stdout__", None)
    sys.stderr = getattr(sys, "__stderr__", None)


captured = Served(_replace, _in_child)
"""The kernels whose output is captured. The functions that are put into the process find them by
this name.
"""


def _sender() -> Sender | None:
    """The sender of the kernel that the calling code runs for."""
    kernel = captured.kernel()
    return kernel.sender if kernel is not None else None


def _asking(original: Callable[..., str]) -> Callable[..., str]:
    def input(prompt: object = "", /) -> str:
        """Ask the person at the frontend."""
        kernel = captured.kernel()
        return str(original(prompt) if kernel is None else kernel.raw_input(str(prompt)))

    return input


def _asking_password(original: Callable[..., str]) -> Callable[..., str]:
    def getpass(prompt: str = "Password: ", stream: Any = None) -> str:
        """Ask the person at the frontend, without showing what is typed."""
        kernel = captured.kernel()
        return str((original if kernel is None else kernel.getpass)(prompt, stream))

    return getpass


def capture_descriptors(sender: Sender) -> FdCapture | None:
    """Show what child processes and C code write under the running cell, until `restore` is called
    on the result.

    None on Windows, where pipes cannot be waited for.
    """
    if sys.platform == "win32":
        return None
    iopub = sender.connection.iopub
    nobody = contextvars.Context()

    def write(name: str, text: str) -> None:
        iopub.write(nobody.copy().run(sender.text_key, name), text)

    capture = FdCapture(write, lambda: iopub.wait_until_not_full())
    capture.install()
    return capture
