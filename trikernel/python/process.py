"""What Python kernels replace in their process, and put back at the end; nothing else does.

While at least one Python kernel is served, also in memory, the following is replaced, in addition
to what `kernel.cell_io` and `kernel.comms` replace for any kernel (streams, `input`, threads,
comms):

===============================================  ==================================================
name                                             what stands there
===============================================  ==================================================
``InteractiveShell``'s instance                  `get_ipython` finds the shell that was served last
``trio.run``, ``sniffio.current_async_library``  their code is replaced: see `nested_runs`
``GLOBAL_NURSERY``                               ipykernel's name for the background nursery
``display``, ``get_ipython``, ``__IPYTHON__``    IPython puts them among the builtins
``sys.ps1``, ``sys.ps2``, ``sys.ps3``            IPython says by these that it is interactive
``ultratb.get_line_number_of_frame``             IPython's tracebacks know the lines of a cell
===============================================  ==================================================

Each of the functions finds out from the calling context which kernel's cell it runs in; code that
runs in no cell gets the original. The originals are put back when the last kernel ends, whatever
the order in which kernels end. If other code has replaced an attribute again meanwhile, that stays.
Code that keeps one of our objects (a logging handler, a library that wraps `sys.stdout`) can go on
using it: it then does what the original does.

A kernel with a process of its own replaces more: see `OwnProcess`.
"""

from __future__ import annotations

import builtins
import os
import pdb
import sys
from typing import Any

from ..core import BackgroundNursery
from ..errors import TrikernelError
from ..kernel.replacements import Replacements, Served
from ..system import with_working_folder
from .global_nursery import GlobalNursery
from .ipykernel_modules import install_ipykernel_modules
from .nested_runs import runs
from .rendering import count_lines_of_cells, keep_lexers

__all__ = ["ENVIRONMENT", "OwnProcess", "served"]

# For programs that cells start: colours, but no pager. And plots appear in the notebook.
ENVIRONMENT = {
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
_PROMPTS = ("ps1", "ps2", "ps3")
_BUILTINS = ("display", "get_ipython", "exit", "quit", "__IPYTHON__")


def become_instance(shell: Any) -> None:
    """Have ``get_ipython()`` and ``display()`` find this shell, unless there is one already."""
    if not type(shell).initialized():
        for cls in type(shell)._walk_mro():
            cls._instance = shell


def resign(shell: Any) -> bool:
    """Have them find this shell no longer. Returns whether they did."""
    cls = type(shell)
    if cls.initialized() and cls._instance is shell:
        cls.clear_instance()
        return True
    return False


class _Served:
    """The Python kernels that are served in this process, and what is replaced meanwhile.

    There is one instance, `served`; the functions that are put into the process refer to it by that
    name. ``kernel()`` returns the kernel that the calling code runs for, or None. In a forked child
    IPython's builtins stay as they are, because a cell may be running there.
    """

    def __init__(self) -> None:
        self._registry = Served(_replace, _in_child)
        self._kept = Replacements()
        self.kernel = self._registry.kernel

    def add(self, kernel: Any) -> None:
        """Add a kernel that is served now, unless it is there already. Makes its shell."""
        if self._registry.latest is None:
            self._kept = Replacements()
            self._kept.keep(builtins.__dict__, *_BUILTINS)
            self._kept.keep(sys.__dict__, *_PROMPTS)
        if self._registry.add(kernel):
            become_instance(kernel.shell)

    def remove(self, kernel: Any) -> None:
        """Remove a kernel. When the last one is removed, everything is put back."""
        if not self._registry.remove(kernel):
            return
        last = self._registry.latest
        if resign(kernel.shell) and last is not None:
            become_instance(last.shell)
        if last is None:
            self._kept.undo()


def _replace(replaced: Replacements) -> None:
    replaced.replace(builtins, "GLOBAL_NURSERY", GlobalNursery(_nursery))
    count_lines_of_cells(replaced)
    keep_lexers(replaced)
    runs.replace(replaced.replace_code, lambda: served.kernel())


def _in_child(is_cell: bool) -> None:
    if is_cell:
        runs.replace_in_child(Replacements().replace_code)


served = _Served()


def _nursery() -> BackgroundNursery:
    """The background nursery of the kernel that the calling code runs for."""
    kernel = served.kernel()
    if kernel is None:
        raise TrikernelError("GLOBAL_NURSERY works in a cell of a trikernel Python kernel only")
    nursery: BackgroundNursery = kernel.nursery
    return nursery


class OwnProcess:
    """What a kernel with a process of its own replaces, from its creation until `stop`.

    The environment variables of `ENVIRONMENT`, ``__main__``, ``sys.path``, `pdb`, and ipykernel's
    modules (`ipykernel_modules`). ``profile`` is the user's IPython profile.
    """

    def __init__(self, profile: Any) -> None:
        self.profile = profile
        self._replaced = Replacements()
        keep = self._replaced.keep
        keep(sys.modules, "__main__")
        keep(pdb.__dict__, "Pdb", "set_trace")
        keep(sys.__dict__, "path", "displayhook", "excepthook", *_PROMPTS)
        if not profile.ignore_cwd:
            sys.path = with_working_folder(sys.path)
        missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
        keep(os.environ, *missing)
        os.environ.update(missing)

    def start(self, shell: Any) -> None:
        """Install the modules and the debugger, and run the user's startup files."""
        from . import debugger

        install_ipykernel_modules(self._replaced)
        debugger.install()
        self.profile.start_in(shell)

    def stop(self) -> None:
        """Put everything back."""
        self._replaced.undo()
