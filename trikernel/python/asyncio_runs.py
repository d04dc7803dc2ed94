"""`asyncio.run` in a cell that runs in asyncio: in a loop of its own; the cell's stands still.

In a Trio cell there is no running asyncio loop, so it simply works. In an asyncio cell asyncio
refuses it, as in ipykernel, because a loop runs in this thread. Here it sets that aside, with the
task that runs, and puts both back: by the functions that asyncio documents for those who write
loops. The code of the function is replaced, as that of `trio.run` is (`nested_runs`), and only
while a kernel has an asyncio loop; code that is not stepped by that loop gets asyncio's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import FunctionType
from typing import Any

from trio.lowlevel import enable_ki_protection

from ..core import call_unprotected
from ..kernel.replacements import Replacements, Served
from ..loops import CellLoop

__all__ = ["with_asyncio_runs"]


def _run(*args: Any, **options: Any) -> Any:
    __tracebackhide__ = True
    from trikernel.python.asyncio_runs import runs

    return runs.run(args, options)


class _Runs:
    """There is one: the code that stands in `asyncio.run` finds it by its name."""

    def __init__(self) -> None:
        self._run: Callable[..., Any] = asyncio.run

    def replace(self, replaced: Replacements) -> None:
        """Put it there."""
        function: Any = asyncio.run
        replacement: Any = _run
        assert isinstance(function, FunctionType)
        self._run = replaced.replace_code(function, replacement)

    @enable_ki_protection
    def run(self, args: Any, options: Any) -> Any:
        """`asyncio.run`."""
        __tracebackhide__ = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return call_unprotected(self._run, *args, **options)
        if not isinstance(loop, CellLoop):
            return call_unprotected(self._run, *args, **options)
        task = asyncio.current_task(loop)
        if task is not None:
            asyncio._leave_task(loop, task)
        asyncio._set_running_loop(None)
        try:
            return call_unprotected(self._run, *args, **options)
        finally:
            asyncio._set_running_loop(loop)
            if task is not None:
                asyncio._enter_task(loop, task)


runs = _Runs()
with_asyncio_runs = Served(runs.replace)
"""The kernels that have an asyncio loop for cells."""
