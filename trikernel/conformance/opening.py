"""Kernels to be checked: of a kernelspec, or one that runs already."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from ..errors import KernelNotReady
from ..transport import ConnectionInfo, read_connection_file
from .probe import Log, Subject
from .starting import Kernelspec, attached, start

__all__ = ["open_file", "open_kernelspec"]

CONNECT = 5  # seconds


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
    await _check_listening(info, name)
    async with attached(info, name, log.listen) as client:
        yield Subject(client, info)


async def _check_listening(info: ConnectionInfo, name: str) -> None:
    """Raise `KernelNotReady` where nobody listens: libzmq would try again for ever."""
    try:
        with trio.fail_after(CONNECT):
            if info.transport == "ipc":
                stream: trio.abc.Stream = await trio.open_unix_socket(
                    f"{info.ip}-{info.shell_port}"
                )
            else:
                stream = await trio.open_tcp_stream(info.ip, info.shell_port)
            await stream.aclose()
    except (OSError, trio.TooSlowError):
        place = info.endpoint(info.shell_port)
        raise KernelNotReady(f"{name} has ended: nobody listens at {place}") from None
