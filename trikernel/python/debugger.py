"""The debugger with a prompt in the frontend: ``breakpoint()``, ``%debug``, `pdb.post_mortem`.

It is IPython's, except that an interrupt ends the session: in a notebook an interrupt comes from
the Stop button, not from Ctrl-C typed at the debugger's prompt.
"""

from __future__ import annotations

import pdb
import sys
from collections.abc import Iterable

from IPython.core.debugger import Pdb

__all__ = ["CellDebugger", "install"]


class CellDebugger(Pdb):
    """One debugger session."""

    def _cmdloop(self) -> None:
        try:
            self.allow_kbdint = True
            self.cmdloop()
            self.allow_kbdint = False
        except KeyboardInterrupt:
            self.message("--KeyboardInterrupt--")
            self.set_quit()
        except BaseException:  # a deadline, for example: tracing ends with the session
            self.set_continue()
            sys.settrace(None)
            raise


def set_trace(*, header: str | None = None, commands: Iterable[str] | None = None) -> None:
    """What stands in for `pdb.set_trace`."""
    debugger = CellDebugger()
    if header is not None:
        debugger.message(header)
    debugger.rcLines.extend(commands or ())
    debugger.set_trace(sys._getframe().f_back)


def install() -> None:
    """Have the module `pdb`, and so ``breakpoint()``, use this debugger."""
    pdb.Pdb = CellDebugger  # type: ignore[misc]
    pdb.set_trace = set_trace
