"""Which loops a kernel's cells run in, and beside: Trio's, asyncio's, a window system's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import trio
from IPython.core.error import UsageError

from ..core import current_subshell, run_unprotected
from ..system import runs_here
from .asyncio_loops import tell_of_asyncio

if TYPE_CHECKING:
    from .asyncio_cells import AsyncioCells

__all__ = ["LOOPS", "CellLoops"]

LOOPS = ("trio", "asyncio")
# What %gui takes for none, and %matplotlib passes on for backends that draw in the frontend.
_NO_LOOP = (None, "", "none", "inline", "nbagg", "notebook", "ipympl", "widget")


class CellLoops:
    """The loops of one shell's cells, which run in Trio until `run_in` says otherwise.

    ``run_in_trio`` runs a statement of a cell in Trio.
    """

    def __init__(self, shell: Any, run_in_trio: Any) -> None:
        self._shell = shell
        self._run_in_trio = run_in_trio
        self._gui: trio.CancelScope | None = None
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
        kernel = shell.find_kernel()
        cells = (kernel.host or self.asyncio) if loop == "asyncio" else None
        shell.run_statement = self._run_in_trio if cells is None else cells.run_statement
        manager = kernel.comm_manager
        manager.call = run_unprotected if cells is None else cells.call_handler

    def tell_what_it_needs(self, error: BaseException) -> None:
        """Say under the calling cell, whose error that is, what it needs that awaits asyncio."""
        if self.current == "trio":
            tell_of_asyncio(self._shell.find_kernel(), error)

    def enable_gui(self, gui: str | None) -> None:
        """``%gui``, and what ``%matplotlib`` passes on: give a window system turns from now on.

        Raises `UsageError` for one that cannot be had.
        """
        shell = self._shell
        if gui == "asyncio":
            self.run_in(gui)
            return
        if gui in _NO_LOOP:
            self._end_gui()
            return
        from ..loops.gui import GUIS, follow_gui, open_gui, report_uncaught

        kernel = shell.find_kernel()
        if gui not in GUIS:
            raise UsageError(f"%gui {gui}: there is {', '.join(GUIS)}, asyncio and none")
        if current_subshell.get() is not None or not runs_here(kernel.server.user_token):
            raise UsageError(f"%gui {gui}: windows are the main shell's")
        if shell.active_eventloop == gui:
            return
        turn = open_gui(gui)
        self._end_gui()
        self._gui, shell.active_eventloop = trio.CancelScope(), gui
        application = kernel.server.application
        report = application.report_background_error
        if kernel.owns_process:
            application.at_end.callback(report_uncaught(report))
        kernel.server.background.start_soon(
            self._follow,
            self._gui,
            partial(follow_gui, partial(self._turn, turn), kernel.poll_interval, report),
            name=f"%gui {gui}",
        )

    def _turn(self, turn: Callable[[], bool]) -> bool:
        """In a session of asyncio, callbacks have a running loop, as handlers of comms have."""
        loop = self.asyncio.existing if self.current == "asyncio" else None
        return bool(loop.call_in_step(turn)) if loop is not None else turn()

    async def _follow(self, scope: trio.CancelScope, follow: Callable[[], Any]) -> None:
        try:
            with scope:
                await follow()
        finally:
            if self._gui is scope:  # also if its loop is lost
                self._gui, self._shell.active_eventloop = None, None

    def _end_gui(self) -> None:
        gui, self._gui, self._shell.active_eventloop = self._gui, None, None
        if gui is not None:
            gui.cancel()
