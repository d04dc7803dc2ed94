"""Opens clients of kernels: one that is started here, one that runs already, one in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ..errors import KernelDied, KernelNotReady
from ..transport import (
    Channel,
    ClientTransport,
    ConnectionInfo,
    ZmqClientTransport,
    read_connection_file,
    receive,
)
from ..warm import ForkServer
from .client import Client
from .execution import first_of
from .kernel_process import KernelProcess, quoted

__all__ = [
    "attach",
    "connect",
    "open_client",
    "open_kernel",
    "open_service_nursery",
    "room_for_kernels",
    "wait_until_ready",
]

STARTUP_TIMEOUT = 60  # seconds
STARTS = 3  # attempts to start a kernel if its ports are taken
PORT_IS_TAKEN = "Address already in use"
SHUTDOWN_TIMEOUT = 5  # seconds for a kernel to end by itself
HEARTBEAT_TIMEOUT = 10  # seconds without an echo after which a kernel counts as dead
BEATS = 5  # heartbeats in that time
CHANNELS = ("shell", "control")
RESEND = 2  # seconds after which a starting kernel that has not answered is asked again
# Descriptors that a client needs, as counted on Linux, with some to spare.
FOR_SOCKETS, FOR_PROCESS = 24, 6
SUBSCRIBED = 0.05  # seconds to wait for idle after the first reply; without it, ask again
UNHEARD = 1  # when that wait, doubled each time, is longer than this, subscribe again


def room_for_kernels() -> int | None:
    """How many more kernels this process can connect to within its limit of open files.

    None if there is no limit or it is not known. It matters because at the limit libzmq does not
    raise an error, but ends the process.
    """
    left = _descriptors_left()
    return None if left is None else left // (FOR_SOCKETS + FOR_PROCESS)


def _descriptors_left() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        is_open = len(os.listdir("/dev/fd"))
    except OSError:
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - is_open)


def _see_room_for_sockets() -> None:
    """Raise `KernelNotReady` if the limit of open files has no room for a client's sockets."""
    left = _descriptors_left()
    if left is not None and left < FOR_SOCKETS:
        text = "the limit of open files (ulimit -n) leaves no room for its sockets"
        raise KernelNotReady(text)


@asynccontextmanager
async def open_client(
    transport: ClientTransport, client: Client | None = None
) -> AsyncIterator[Client]:
    """A client over a transport: `MemoryTransport.connect`, or `ZmqClientTransport`.

    The transport is not closed here; the code that opened it closes it. ``client`` is a client over
    that transport which is not running yet; by default one is made. Errors of the block come out
    unchanged. If it is cancelled, cells that run go on in the kernel.
    """
    client = client or Client(transport)
    async with open_service_nursery() as nursery:
        await nursery.start(client.run)
        try:
            yield client
        finally:
            client.die("is no longer connected to this client")


@asynccontextmanager
async def connect(
    connection_file: str | os.PathLike[str] | ConnectionInfo,
    *,
    timeout: float = STARTUP_TIMEOUT,
    heartbeat: float | None = HEARTBEAT_TIMEOUT,
    client_class: type[Client] = Client,
) -> AsyncIterator[Client]:
    """A client of a kernel that runs already. The kernel goes on when the block is left.

    ``connection_file`` is a path, the name of a file in Jupyter's runtime folder, or the content of
    such a file.

    Waits up to ``timeout`` seconds until the kernel answers, else raises `KernelNotReady`. If no
    heartbeat is received for ``heartbeat`` seconds, the kernel counts as dead: every wait raises
    `KernelDied`. None turns that off. ``client_class`` is `Client` or a subclass. Raises
    `ConnectionFileError`. If it is cancelled the sockets are closed, and the kernel goes on.
    """
    if isinstance(connection_file, ConnectionInfo):
        info, name = connection_file, "the kernel"
    else:
        info = read_connection_file(_find(connection_file))
        name = f"the kernel of {os.path.basename(connection_file)}"
    async with _sockets(info) as sockets:
        client = client_class(sockets.current, name)
        async with open_client(sockets.current, client), open_service_nursery() as nursery:
            await wait_until_ready(client, timeout)
            if heartbeat is not None:
                echo = sockets.current.heartbeat
                nursery.start_soon(_watch_heartbeat, client, echo, heartbeat)
            yield client


def _find(connection_file: str | os.PathLike[str]) -> Path:
    """The path of a connection file; a name without folder that does not exist here is taken from
    Jupyter's runtime folder.
    """
    path = Path(connection_file)
    if path.exists() or path.name != str(path):
        return path
    from jupyter_core.paths import jupyter_runtime_dir

    found = Path(jupyter_runtime_dir()) / path
    return found if found.exists() else path


@asynccontextmanager
async def open_kernel(
    kernel_name: str | None = None,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    extra_arguments: Sequence[str] = (),
    timeout: float = STARTUP_TIMEOUT,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    restart_stuck: bool = False,
    handshake: bool = False,
    warm: ForkServer | None = None,
) -> AsyncIterator[Client]:
    """Start a kernel and connect a client to it; the kernel ends with the block.

    ::

        async with open_kernel("python3") as client:
            execution = await client.execute("6 * 7")

    ``kernel_name`` names a kernelspec, whose provisioner starts the kernel; without one it is the
    Python kernel of this environment. ``cwd``, ``env`` (added to this process's environment) and
    ``extra_arguments`` are passed to the provisioner. ``warm`` is an `open_fork_server` that starts
    the kernel.

    Raises `NoSuchKernel`; `KernelNotReady`, with the kernel's last log lines, if the kernel ends or
    does not answer within ``timeout`` seconds. When the block is left, in whatever way, the kernel
    is asked to end, and is killed with the processes of its group ``shutdown_timeout`` seconds
    later; a cancellation does not shorten that. The ports are chosen before the kernel binds them:
    if another process takes one first, the kernel is started again with others. With ``handshake``
    the kernel chooses its ports itself and tells them (JEP 66), so any number may start at once;
    raises `UsageError` for a kernelspec whose ``kernel_protocol_version`` is below 5.6.

    With ``restart_stuck`` the kernel is restarted when a cell is told to stop, by its ``timeout``
    or a cancellation, and does not: see `CellStillRuns`. The same client goes on; other waiting
    requests raise `KernelDied`.
    """
    start: dict[str, Any] = {"cwd": cwd, "env": env, "extra_arguments": extra_arguments}
    start["handshake"] = timeout if handshake else None
    attaching = partial(attach, timeout=timeout, restart_stuck=restart_stuck)
    make = partial(KernelProcess, kernel_name, warm)
    async with _opened(make, start, attaching, shutdown_timeout) as client:
        yield client


@asynccontextmanager
async def _opened(
    make: Callable[[], KernelProcess],
    start: Mapping[str, Any],
    attaching: Callable[[KernelProcess], AbstractAsyncContextManager[Client]],
    shutdown_timeout: float,
) -> AsyncIterator[Client]:
    """Start a kernel, again if its ports are taken, and connect a client; ends with the block."""
    is_open = False
    if start["handshake"] is not None:  # the registration socket is open before the others are
        _see_room_for_sockets()
    for tries_left in reversed(range(STARTS)):
        process = make()
        try:
            await process.start(**start)
            opened = attaching(process)
            async with opened as client, _shut_down_after(client, process, shutdown_timeout):
                is_open = True
                yield client
            return
        except KernelNotReady as error:
            if is_open or not tries_left or PORT_IS_TAKEN not in str(error):
                raise
        finally:
            await process.kill()


@asynccontextmanager
async def attach(
    process: KernelProcess,
    *,
    timeout: float = STARTUP_TIMEOUT,
    client_class: type[Client] = Client,
    restart_stuck: bool = False,
) -> AsyncIterator[Client]:
    """A client of a kernel process that was started. The process is watched, but not ended here."""
    async with _sockets(process.info) as sockets:
        transport = sockets.current
        interrupt = process.interrupt if process.interrupted_by_signal else None
        client = client_class(transport, f"kernel {process.kernel_name!r}", interrupt=interrupt)
        client.log_tail = process.log_tail
        async with open_client(transport, client), open_service_nursery() as nursery:
            nursery.start_soon(_watch_process, client, process)
            await wait_until_ready(client, timeout)
            if restart_stuck:
                client.restart = partial(_restart, client, process, sockets, timeout)
            yield client


async def _restart(
    client: Client,
    process: KernelProcess,
    sockets: _Sockets,
    timeout: float,
    replace: Callable[[ClientTransport], Awaitable[None]],
) -> bool:
    """Restart a process and connect its client to the new one. Returns False if that fails; then
    the kernel counts as dead. It is shielded from cancellation.
    """
    with trio.CancelScope(shield=True):
        try:
            await process.restart()
            async with sockets.renewed(process.info) as transport:
                await replace(transport)
                await wait_until_ready(client, timeout)
        except KernelNotReady as error:
            client.die(f"could not be restarted: {error}")
            return False
    return True


class _Sockets:
    """The sockets to a kernel, which are replaced when the kernel is restarted."""

    def __init__(self, info: ConnectionInfo) -> None:
        _see_room_for_sockets()
        self.current = ZmqClientTransport(info)

    @asynccontextmanager
    async def renewed(self, info: ConnectionInfo) -> AsyncIterator[ZmqClientTransport]:
        """New sockets, to the restarted kernel. The old ones are closed at the end of the block."""
        before = self.current
        self.current = _Sockets(info).current
        try:
            yield self.current
        finally:
            await _close(before)


@asynccontextmanager
async def _sockets(info: ConnectionInfo) -> AsyncIterator[_Sockets]:
    sockets = _Sockets(info)
    try:
        yield sockets
    finally:
        await _close(sockets.current)


async def _close(transport: ZmqClientTransport) -> None:
    with trio.CancelScope(shield=True):  # closing lingers for at most a second, in a thread
        await trio.to_thread.run_sync(transport.close)


async def wait_until_ready(client: Client, timeout: float) -> None:
    """Send ``kernel_info_request`` until both a reply and its idle on iopub have come.

    A reply alone is not enough: the subscription to iopub may not be active yet. It is sent on
    control too, where a kernel answers while it is busy on shell. Raises `KernelNotReady` after
    ``timeout`` seconds, or if the kernel ends.
    """
    patience = SUBSCRIBED
    with trio.move_on_after(timeout) as scope:
        try:
            while True:
                asked = [client.send("kernel_info_request", {}, channel=one) for one in CHANNELS]
                with trio.move_on_after(RESEND):
                    await first_of(partial(one.wait_reply) for one in asked)
                replied = [one for one in asked if one.reply is not None]
                if replied:
                    with trio.move_on_after(patience):
                        await first_of(partial(one.wait) for one in replied)
                    client.info = next(one.reply.content for one in replied if one.reply)
                    if any(one.done for one in replied):
                        return
                    patience *= 2
                    if patience > UNHEARD:
                        client.connection.transport.resubscribe()
        except KernelDied as error:
            raise KernelNotReady(str(error)) from None
    assert scope.cancelled_caught
    unread = sum(client.rejected.values())
    garbage = f"; {unread} messages of it could not be read: {dict(client.rejected)}"
    raise KernelNotReady(
        f"{client.name} has not answered within {timeout:g} seconds"
        f"{garbage if unread else ''}{quoted(client.log_tail())}"
    )


async def _watch_process(client: Client, process: KernelProcess) -> None:
    how = await process.wait_ended()
    client.die(how + quoted(process.log_tail()))


async def _watch_heartbeat(client: Client, channel: Channel, timeout: float) -> None:
    """Send heartbeats; the kernel counts as dead if no echo at all comes within the time-out."""
    interval = timeout / BEATS
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat, channel, interval)
        while True:
            if await _hears(channel, timeout):
                continue
            # This program's loop may have been blocked for so long: then no heartbeat was sent.
            if not await _hears(channel, interval):
                client.die(f"has had no heartbeat for {timeout:g} seconds")
                nursery.cancel_scope.cancel()
                return


async def _hears(channel: Channel, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        await receive(channel)
        return True
    return False


async def _beat(channel: Channel, interval: float) -> None:
    while True:
        with suppress(trio.WouldBlock):
            channel.send_nowait([b"", b"beat"])  # the empty frame is for a REP at the other end
        await trio.sleep(interval)


@asynccontextmanager
async def _shut_down_after(
    client: Client, process: KernelProcess, timeout: float
) -> AsyncIterator[None]:
    """At the end of the block ask the kernel to end, and wait ``timeout`` seconds for that."""
    try:
        yield
    finally:
        with trio.move_on_after(timeout, shield=True):
            with suppress(KernelDied):
                client.send("shutdown_request", {"restart": False}, channel="control")
            await process.wait_ended()


# The hidden nursery of such a block, for the tasks that serve its body


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks serve the body of the block; they are cancelled after it has ended.

    A cancellation from outside reaches the body only. So while the body cleans up (for example
    interrupts its kernel and waits for the cell's end), the tasks still receive. Code with ``async
    with open_kernel() as client`` shows no nursery, so its error should not be in an
    `ExceptionGroup`: a single error comes out unchanged. A task that crashes cancels the body.
    """
    with _without_group():
        async with trio.open_nursery() as outer:
            host = _Host()
            outer.start_soon(host.run)
            try:
                with trio.CancelScope(shield=True):  # only until the task has begun
                    await host.ready.wait()
                yield host.nursery
            finally:
                host.scope.cancel()


class _Host:
    """Keeps the nursery open in a task that is shielded from cancellations from outside."""

    nursery: trio.Nursery

    def __init__(self) -> None:
        self.scope = trio.CancelScope(shield=True)
        self.ready = trio.Event()

    async def run(self) -> None:
        with _without_group(), self.scope:
            async with trio.open_nursery() as self.nursery:
                self.ready.set()
                await trio.sleep_forever()


@contextmanager
def _without_group() -> Iterator[None]:
    """If a group has a single error, raise that error itself; several stay a group.

    A `trio.Cancelled` in the group is dropped: the error replaces it, as an error that is raised
    during cleanup always does.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = [one for one in group.exceptions if not isinstance(one, trio.Cancelled)]
        if len(errors) > 1:
            raise
        error = errors[0] if errors else group.exceptions[0]
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # without the group
