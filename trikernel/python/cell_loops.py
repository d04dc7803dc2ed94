"""Which loops a kernel's cells run in, and beside: Trio's, asyncio's, a window system's."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from ..core import run_unprotected
from .asyncio_loops import tell_of_asyncio

if TYPE_CHECKING:
    from .asyncio_cells import AsyncioCells

__all__ = ["LOOPS", "CellLoops"]

LOOPS = ("trio", "asyncio")
# What %matplotlib passes on for backends that draw in the frontend: there is no loop to run.
_NO_LOOP = (None, "", "inline", "nbagg", "notebook", "ipympl", "widget")


class CellLoops:
    """The loops of one shell's cells, which run in Trio until `run_in` says otherwise.

    ``run_in_trio`` runs a statement of a cell in Trio.
    """

    def __init__(self, shell: Any, run_in_trio: Any) -> None:
        self._shell = shell
        self._run_in_trio = run_in_trio
        self.current = "trio"

    @cached_property
    def asyncio(self) -> AsyncioCells:
        """What runs cells in asyncio, which is imported when one is to."""
        from .asyncio_cells import AsyncioCells

        cells = AsyncioCells(self._shell.find_kernel)
        self._shell.tasks.others = cells.tasks
        return cells

    def run_in(self, loop: str) -> None:
        """Have the cells that follow, and comms' handlers, run in one of `LOOPS`."""
        shell, self.current = self._shell, loop
        cells = self.asyncio if loop == "asyncio" else None
        shell.run_statement = self._run_in_trio if cells is None else cells.run_statement
        manager = shell.find_kernel().comm_manager
        manager.call = run_unprotected if cells is None else cells.call_handler

    def tell_what_it_needs(self, error: BaseException) -> None:
        """Say under the calling cell, whose error that is, what it needs that awaits asyncio."""
        if self.current == "trio":
            tell_of_asyncio(self._shell.find_kernel(), error)

    def enable_gui(self, gui: str | None) -> None:
        """``%gui``. Raises `UsageError` for a loop that cannot be had."""
        if gui == "asyncio":
            self.run_in(gui)
        elif gui not in _NO_LOOP:
            raise UsageError(
                f"%gui {gui}: set get_ipython().kernel.eventloop to a callable that advances it"
            )
