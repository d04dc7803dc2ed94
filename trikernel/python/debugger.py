"""The debugger that asks by way of the frontend: ``breakpoint()``, ``%debug``, `pdb.post_mortem`.

IPython's, but an interrupt leaves it: in a notebook it is Stop that is pressed, not Ctrl-C at a
prompt.
"""

from __future__ import annotations

import pdb
import sys
from collections.abc import Iterable

from IPython.core.debugger import Pdb

__all__ = ["CellDebugger", "install"]


class CellDebugger(Pdb):
    """One session."""

    def _cmdloop(self) -> None:
        try:
            self.allow_kbdint = True
            self.cmdloop()
            self.allow_kbdint = False
        except KeyboardInterrupt:
            self.message("--KeyboardInterrupt--")
            self.set_quit()
        except BaseException:  # a deadline, say: nothing is traced any more
            self.set_continue()
            sys.settrace(None)
            raise


def set_trace(*, header: str | None = None, commands: Iterable[str] | None = None) -> None:
    """`pdb.set_trace` for cells."""
    debugger = CellDebugger()
    if header is not None:
        debugger.message(header)
    debugger.rcLines.extend(commands or ())
    debugger.set_trace(sys._getframe().f_back)


def install() -> None:
    """Have the module `pdb`, and so ``breakpoint()``, use it."""
    pdb.Pdb = CellDebugger  # type: ignore[misc]
    pdb.set_trace = set_trace
