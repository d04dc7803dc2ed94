"""Kernels to be checked: of a kernelspec, or one that runs already."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ..transport import read_connection_file
from .probe import Log, Subject
from .starting import Kernelspec, attached, start

__all__ = ["open_file", "open_kernelspec"]


@asynccontextmanager
async def open_kernelspec(spec: Kernelspec, over: str, log: Log) -> AsyncIterator[Subject]:
    """A kernel that is started, and killed with the block. Raises `KernelNotReady`."""
    async with start(spec, over, prepare=log.listen) as started:
        yield Subject(started.client, started.info, spec.fields, partial(start, spec))


@asynccontextmanager
async def open_file(path: str | os.PathLike[str], log: Log) -> AsyncIterator[Subject]:
    """A kernel that runs already. Raises `ConnectionFileError`, `KernelNotReady`."""
    info = read_connection_file(path)
    name = f"the kernel of {os.path.basename(path)}"
    async with attached(info, name, log.listen) as client:
        yield Subject(client, info)
