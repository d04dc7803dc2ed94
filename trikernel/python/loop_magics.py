"""Magics that say which loop cells run in: ``%autoawait`` and ``%%asyncio``."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from .cell_loops import LOOPS

__all__ = ["LoopMagics"]

_ON = {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}


@magics_class
class LoopMagics(Magics):
    """Registered in the kernel's shell."""

    @line_magic
    def autoawait(self, line: str) -> None:
        """Say how ``await`` at the top level of a cell works here, or change it.

        ``%autoawait asyncio`` has the cells that follow run in an asyncio loop that lives on across
        cells, beside the kernel's Trio loop, in the same thread; they may await both.
        ``%autoawait trio`` goes back. ``on`` and ``off`` allow ``await`` at the top level, or not.
        """
        word = line.strip().lower()
        if word in _ON:
            self.shell.autoawait = _ON[word]
        elif word in LOOPS:
            self.shell.loops.run_in(word)
        elif word:
            raise UsageError(
                f"%autoawait {line.strip()}: cells run in Trio or in asyncio, in one loop each "
                "that lives on across cells; say trio, asyncio, on or off"
            )
        else:
            state = "on" if self.shell.autoawait else "off"
            loop = "kernel's Trio" if self.shell.loops.current == "trio" else "kernel's asyncio"
            print(
                f"`await` at the top level of a cell is {state}. Cells run in the {loop} "
                "loop, which goes on between them."
            )

    @cell_magic
    def asyncio(self, line: str, cell: str) -> Any:
        """Run the cell in asyncio, in the loop that lives on across cells.

        What it starts, by ``asyncio.create_task`` for example, goes on after it.
        """
        raise UsageError("%%asyncio awaits: it has to be the first line of a cell that may")
