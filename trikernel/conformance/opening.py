"""Opens the kernel that is to be checked: by a kernelspec, or by the file of a running one."""

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
    """Start a kernel; it is killed at the block's end. Raises `KernelNotReady`."""
    async with start(spec, over, prepare=log.listen) as started:
        yield Subject(started.client, started.info, spec.fields, partial(start, spec))


@asynccontextmanager
async def open_file(path: str | os.PathLike[str], log: Log) -> AsyncIterator[Subject]:
    """Connect to a running kernel. Raises `ConnectionFileError`, `KernelNotReady`."""
    info = read_connection_file(path)
    name = f"the kernel of {os.path.basename(path)}"
    await _check_listening(info, name)
    async with attached(info, name, log.listen) as client:
        yield Subject(client, info)


async def _check_listening(info: ConnectionInfo, name: str) -> None:
    """Raise `KernelNotReady` if nobody listens on shell: libzmq would try to connect for ever."""
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
