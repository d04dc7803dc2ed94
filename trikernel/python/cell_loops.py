"""The loops of a kernel's cells: Trio's, asyncio's, and that of a GUI toolkit beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import trio
from IPython.core.error import UsageError

from ..core import StopReason, current_request, current_subshell, run_unprotected
from ..system import runs_here
from .asyncio_loops import tell_of_asyncio

if TYPE_CHECKING:
    from .asyncio_cells import AsyncioCells

__all__ = ["LOOPS", "CellLoops"]

LOOPS = ("trio", "asyncio")
# Names that mean no GUI: `%gui` takes them, and `%matplotlib` passes them on for backends that draw
# in the frontend.
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
        """What runs cells in asyncio; imported and made when it is first needed."""
        from .asyncio_cells import AsyncioCells

        cells = AsyncioCells(self._shell.find_kernel)
        self._shell.tasks.others = cells.tasks
        return cells

    def run_in(self, loop: str) -> None:
        """Run the cells that follow, and the handlers of comms, in one of `LOOPS`."""
        shell, self.current = self._shell, loop
        kernel = shell.find_kernel()
        cells = (kernel.host or self.asyncio) if loop == "asyncio" else None
        shell.run_statement = self._run_in_trio if cells is None else cells.run_statement
        manager = kernel.comm_manager
        manager.call = run_unprotected if cells is None else cells.call_handler

    def tell_what_it_needs(self, error: BaseException) -> None:
        """If a Trio cell failed with this error because it needs asyncio, print a hint under it."""
        if self.current == "trio":
            tell_of_asyncio(self._shell.find_kernel(), error)

    def enable_gui(self, gui: str | None) -> None:
        """What ``%gui`` does, also when ``%matplotlib`` calls it: from now on the event loop of a
        GUI toolkit is run between tasks, so that its windows react.

        Raises `UsageError` for a toolkit that is unknown or cannot be used here.
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
        windows = open_gui(gui)
        self._end_gui()
        self._gui, shell.active_eventloop = trio.CancelScope(), gui
        application = kernel.server.application
        report = application.report_background_error
        if kernel.owns_process:
            again = partial(self._interrupt_again, windows.quit)
            application.at_end.callback(report_uncaught(report, again))
        kernel.server.background.start_soon(
            self._follow,
            self._gui,
            partial(follow_gui, partial(self._turn, windows.turn), kernel.poll_interval, report),
            name=f"%gui {gui}",
        )

    def _turn(self, turn: Callable[[], bool]) -> bool:
        """Run the toolkit's loop once. While cells run in asyncio, its callbacks find a running
        asyncio loop, as handlers of comms do.
        """
        loop = self.asyncio.existing if self.current == "asyncio" else None
        return bool(loop.call_in_step(turn)) if loop is not None else turn()

    def _interrupt_again(self, quit_loops: Callable[[], object]) -> bool:
        """An interrupt was raised in a callback of a window: end the loops that the cell runs, and
        interrupt it once more. False if no cell has called it.
        """
        request = current_request.get()
        if request is None or request.finished:
            return False
        quit_loops()
        stopper = self._shell.find_kernel().server.stopper_here
        stopper.stop(request, request.stop_reason or StopReason.INTERRUPT)
        return True

    async def _follow(self, scope: trio.CancelScope, follow: Callable[[], Any]) -> None:
        try:
            with scope:
                await follow()
        finally:
            if self._gui is scope:  # no other toolkit took its place; also after Trio has crashed
                self._gui, self._shell.active_eventloop = None, None

    def _end_gui(self) -> None:
        gui, self._gui, self._shell.active_eventloop = self._gui, None, None
        if gui is not None:
            gui.cancel()
