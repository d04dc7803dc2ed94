"""`trikernel.embed`: a door into a program that runs. IPython is imported when one is opened."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

__all__ = ["embed"]


def embed(
    namespace: dict[str, Any] | None = None,
    *,
    connection_file: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> AbstractAsyncContextManager[Any]:
    """Serve a Python kernel beside the caller's program, while an ``async with`` block runs.

    ::

        async with trikernel.embed(namespace=locals()) as kernel:
            ...  # the program; kernel.connection_file is what a client needs

    For a program on Trio, by itself or by AnyIO: cells run in the program's own loop. For one on
    asyncio: the kernel lives in a thread of its own, and cells run in the program's loop, in its
    thread. Either way a cell may await the program's coroutines, and an interrupt reaches cells
    only. Cells see ``namespace`` and the names of the module that calls; with ``globals()`` that
    module keeps what they set.

    ``connection_file`` is as for `trikernel.run`: by default a new one, which is told on stderr and
    removed at the end; ``settings`` are `PythonKernel`'s. A client's shutdown ends the kernel, and
    not the program; what runs of cells when the block is left is cancelled. Raises
    `ConnectionFileError` for a file that cannot be used, `UsageError` where IPython is missing.
    """
    from .python.embed import Embedded

    caller = sys._getframe(1)
    module = sys.modules.get(caller.f_globals.get("__name__", "__main__"))
    opened: AbstractAsyncContextManager[Any] = Embedded(
        module, namespace, connection_file, settings
    )
    return opened
