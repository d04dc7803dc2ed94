"""Other event loops in the thread of Trio's: an asyncio loop as its guest, and those of windows.

Imports asyncio, which takes a while: a kernel imports this only when it is first needed.
"""

from __future__ import annotations

from .cell_loop import CellLoop
from .guest import GuestLoop, TrioAwaitable, in_asyncio_task
from .steps import take_over

__all__ = ["CellLoop", "GuestLoop", "TrioAwaitable", "in_asyncio_task", "take_over"]
