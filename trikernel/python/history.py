"""IPython's history, written to the disk soon after a cell instead of with it.

IPython has its thread write after each cell, which takes longer than most cells do.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from IPython.core.history import HistoryManager
from trio.lowlevel import enable_ki_protection

__all__ = ["CellHistory"]

DELAY = 1  # seconds

_log = logging.getLogger("trikernel")


class CellHistory(HistoryManager):
    """Keeps cells in memory until `run` has them written; a shutdown writes the rest."""

    _news: trio.Event | None = None
    # IPython's are traits, which nobody observes and which take longer to set than to compute.
    _i00 = _i = _ii = _iii = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.db_cache_size = 1 << 30

    def store_inputs(self, *args: Any, **kwargs: Any) -> None:
        """Keep a cell."""
        super().store_inputs(*args, **kwargs)
        if self._news is not None:
            self._news.set()

    @enable_ki_protection
    async def run(self) -> None:
        """Have the kept cells written, forever; no timer runs while there are none."""
        while True:
            self._news = trio.Event()
            await self._news.wait()
            await trio.sleep(DELAY)
            if self.using_thread:
                self._wake_writer()

    def _wake_writer(self) -> None:
        try:
            self._restart_thread_if_stopped()  # it is stopped around each fork
        except (RuntimeError, OSError) as error:  # no thread can be had now: with a later cell
            _log.warning("the history is not written for now: %s", error)
            return
        if self.save_flag is not None:
            self.save_flag.set()
