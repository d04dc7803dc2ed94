"""Starts kernels of a kernelspec, with any connection file: other transports, other keys.

`trikernel.client.open_kernel` leaves the connection to the kernelspec's provisioner. Here the
connection itself is tested, so the process is started by the kernelspec's ``argv``, with a
connection file that was made for it. Source: "Making kernels for Jupyter"; JEP 105.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import attrs
import trio

from ..client import Client, open_client
from ..client.open import open_service_nursery, wait_until_ready
from ..errors import KernelDied, KernelNotReady, NoSuchKernel, UsageError
from ..system import harmless
from ..transport import ConnectionInfo, ZmqClientTransport
from ..transport.connection_file import PORTS

__all__ = ["Kernelspec", "Started", "attached", "find_kernelspec", "new_info", "start"]

STARTUP = 60  # seconds
GRACE = 5  # seconds for a kernel to end by itself
STARTS = 3  # tries, since another process may take a port first
LOG_TAIL = 2048
Prepare = Callable[[Client], None]
_POSIX = sys.platform != "win32"
_OWN_SESSION: Any = {"start_new_session": True} if _POSIX else {}


@attrs.frozen
class Kernelspec:
    """A kernelspec: its name, its folder, and what its ``kernel.json`` says."""

    name: str
    folder: str
    fields: Mapping[str, Any]

    def argv(self, file: str) -> list[str]:
        """The command that starts a kernel with that connection file."""
        values = {
            "connection_file": file,
            "resource_dir": self.folder,
            "prefix": sys.prefix,
        }
        found = []
        for one in self.fields["argv"]:
            for name, value in values.items():
                one = str(one).replace(f"{{{name}}}", value)
            found.append(one)
        if found[0] in ("python", "python3"):  # jupyter_client does the same
            found[0] = sys.executable
        return found


def find_kernelspec(name: str) -> Kernelspec:
    """An installed kernelspec. Raises `NoSuchKernel`, or `UsageError` if it cannot be started."""
    from jupyter_client.kernelspec import KernelSpecManager

    folders = KernelSpecManager().find_kernel_specs()
    if name not in folders:
        known = ", ".join(sorted(folders)) or "none"
        raise NoSuchKernel(f"there is no kernelspec {name!r}; installed are: {known}")
    path = Path(folders[name]) / "kernel.json"
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"kernelspec {name!r}: {path} cannot be read: {error}") from None
    argv = fields.get("argv") if isinstance(fields, dict) else None
    if not isinstance(argv, list) or not argv:
        raise UsageError(f"kernelspec {name!r}: {path} has no 'argv': it says not what to start")
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and metadata.get("kernel_provisioner"):
        raise UsageError(
            f"kernelspec {name!r} is started by a provisioner of its own; start it, and give its "
            "connection file"
        )
    return Kernelspec(name, folders[name], fields)


def new_info(over: str = "tcp", folder: str = "", **fields: Any) -> ConnectionInfo:
    """The connection of a kernel that is to be started. ``over`` is tcp, ipc (with sockets in
    ``folder``) or curve; ``fields`` replace some of its fields.
    """
    if over == "ipc":
        ports = {name: number for number, name in enumerate(PORTS, 1)}
        return ConnectionInfo(transport="ipc", ip=f"{folder}/socket", **{**ports, **fields})
    info = ConnectionInfo(**{**_free_ports(), **fields})
    return info.encrypted() if over == "curve" else info


def _free_ports() -> dict[str, int]:
    sockets = [socket.socket() for _ in PORTS]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in zip(PORTS, sockets, strict=True)}
    finally:
        for one in sockets:
            one.close()


class Started:
    """A kernel's process. ``file`` is its connection file, ``info`` what that said at first.

    ``client`` is set when the kernel has been connected to.
    """

    client: Client

    def __init__(self, process: trio.Process, file: Path, info: ConnectionInfo, log: IO[bytes]):
        self.process = process
        self.file = file
        self.info = info
        self._log = log

    async def interrupt(self) -> None:
        """Send SIGINT, unless the process has ended."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def log_tail(self) -> str:
        """The last lines that the process wrote to its stdout and stderr."""
        if self._log.closed:
            return ""
        fd = self._log.fileno()
        first = max(0, os.fstat(fd).st_size - LOG_TAIL)
        if sys.platform == "win32":
            self._log.seek(first)
            written = self._log.read()
        else:
            written = os.pread(fd, LOG_TAIL, first)  # the file's position is the kernel's too
        return harmless(written.decode("utf-8", "replace"), colours=False).strip()

    async def has_ended(self, seconds: float) -> bool:
        """Wait for the end of the process, ``seconds`` at most; whether it has ended."""
        with trio.move_on_after(seconds):
            await self.process.wait()
        return self.process.returncode is not None

    async def watch(self, client: Client) -> None:
        """Wait for the end of the process, and tell the client, with the last lines it wrote."""
        code = await self.process.wait()
        how = f"died by signal {-code}" if code < 0 else f"died with exit code {code}"
        lines = self.log_tail().splitlines()[-5:]
        client.die("\n    ".join([f"{how}{'; its last words:' * bool(lines)}", *lines]))

    def kill(self) -> None:
        """Kill the process with its process group; on Windows only the process."""
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)  # it leads a session of its own


@asynccontextmanager
async def start(
    spec: Kernelspec,
    over: str = "tcp",
    *,
    file: Mapping[str, Any] | None = None,
    only: Mapping[str, Any] | None = None,
    wrapper: Sequence[str] = (),
    prepare: Prepare | None = None,
    connects: bool = True,
) -> AsyncIterator[Started]:
    """Start a kernel, with a client if ``connects``; it is killed at the block's end.

    ``over`` is tcp, ipc or curve. ``file`` are fields that replace those of the connection file;
    ``only`` replaces its whole content. ``wrapper`` is a command that gets the kernel's command as
    its arguments, and starts it. ``prepare`` is called with the client before that receives
    anything. Raises `KernelNotReady` with the kernel's last log lines. Cancelled, the kernel is
    killed.
    """
    for tries_left in reversed(range(STARTS)):
        async with _started(spec, over, file or {}, only, wrapper) as started:
            if not connects:
                yield started
                return
            try:
                by_signal = spec.fields.get("interrupt_mode") != "message"
                opened = attached(
                    started.info, f"kernel {spec.name!r}", prepare, started, by_signal=by_signal
                )
                async with opened as started.client:
                    tries_left = 0
                    yield started
                return
            except KernelNotReady as error:
                if not tries_left or "Address already in use" not in str(error):
                    raise


@asynccontextmanager
async def _started(
    spec: Kernelspec,
    over: str,
    fields: Mapping[str, Any],
    only: Mapping[str, Any] | None,
    wrapper: Sequence[str],
) -> AsyncIterator[Started]:
    with tempfile.TemporaryDirectory(prefix="conform") as folder, _log() as log:
        info = new_info(over, folder)
        content = only or {**info.as_dict(), "kernel_name": spec.name, **fields}
        path = Path(folder) / "kernel.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(content), "utf-8")
        known = {name: value for name, value in fields.items() if hasattr(info, name)}
        env = {**os.environ, **spec.fields.get("env", {}), "JPY_PARENT_PID": str(os.getpid())}
        try:
            process = await trio.lowlevel.open_process(
                [*wrapper, *spec.argv(str(path))],
                env=env,
                stdin=subprocess.PIPE if wrapper else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_OWN_SESSION,
            )
        except OSError as error:
            text = f"kernel {spec.name!r} cannot be started: {error.strerror}: {spec.argv('')[0]}"
            raise KernelNotReady(text) from None
        started = Started(process, path, attrs.evolve(info, **known), log)
        try:
            yield started
        finally:
            started.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@contextmanager
def _log() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        yield file


@asynccontextmanager
async def attached(
    info: ConnectionInfo,
    name: str,
    prepare: Prepare | None = None,
    started: Started | None = None,
    *,
    by_signal: bool = False,
) -> AsyncIterator[Client]:
    """A client of the kernel that listens at ``info``. ``started`` is its process, if that was
    started here: then the kernel is shut down at the block's end.

    ``prepare`` is called with the client before anything is received. Raises `KernelNotReady`.
    """
    transport = ZmqClientTransport(info)
    interrupt = started.interrupt if started is not None and by_signal and _POSIX else None
    client = Client(transport, name, interrupt=interrupt)
    if prepare is not None:
        prepare(client)
    try:
        async with open_client(transport, client), open_service_nursery() as nursery:
            if started is not None:
                client.log_tail = started.log_tail
                nursery.start_soon(started.watch, client)
            await wait_until_ready(client, STARTUP)
            yield client
            if started is not None:
                await _shut_down(client, started)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(transport.close)


async def _shut_down(client: Client, started: Started) -> None:
    """Send a shutdown_request and wait `GRACE` seconds for the end; later the process is killed."""
    with trio.move_on_after(GRACE), suppress(KernelDied):
        client.send("shutdown_request", {"restart": False}, channel="control")
        await started.process.wait()
