"""`asyncio.run` in a cell that runs in asyncio: it runs in a loop of its own, while the loop of the
cell stands still.

In a Trio cell there is no running asyncio loop, so `asyncio.run` works without help. In an asyncio
cell, as in ipykernel, asyncio refuses it, because a loop is already running in this thread. So the
running loop and the current task are unset for the call, and set again after it, by functions of
asyncio that are meant for authors of loops. The code of `asyncio.run` is replaced, as that of
`trio.run` is (`nested_runs`), and only while a kernel has an asyncio loop. Code that does not run
in that loop gets asyncio's own `run`.
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
    """What `asyncio.run` does while it is replaced. There is one instance, ``runs``, which the
    code that was put into `asyncio.run` imports by that name.
    """

    def __init__(self) -> None:
        self._run: Callable[..., Any] = asyncio.run

    def replace(self, replaced: Replacements) -> None:
        """Replace the code of `asyncio.run`."""
        function: Any = asyncio.run
        replacement: Any = _run
        assert isinstance(function, FunctionType)
        self._run = replaced.replace_code(function, replacement)

    @enable_ki_protection
    def run(self, args: Any, options: Any) -> Any:
        """What a call of `asyncio.run` executes."""
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
"""The kernels that have an asyncio loop for cells; `asyncio.run` is replaced while there is one."""
