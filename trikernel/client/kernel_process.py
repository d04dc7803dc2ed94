"""A kernel's process: started, interrupted, watched and ended by jupyter_client's manager.

jupyter_client's coroutines need asyncio and may block, so each call runs in a worker thread, in
an asyncio loop that lives as long as the kernel. The provisioner that the kernelspec names does
the work; it may be a remote one. This module does not know messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import outcome
import trio

from ..errors import KernelDied, KernelNotReady, NoSuchKernel, PeerGone, WireError
from ..system import harmless, wait_for_process_end
from ..transport import ConnectionInfo, Registrar
from ..warm import ForkServer, WarmProcess
from .handshake import (
    check_offers_handshake,
    connection_info_of,
    expect_registration,
    note_ports,
)

__all__ = ["KernelProcess", "new_manager", "quoted"]

OWN_KERNEL = "trikernel"  # the name that the Python kernel of this environment goes by
OWN_ARGV = ("-P", "-m", "trikernel", "start")  # -P: modules in the notebook's folder hide none
REMOTE_POLL = 1  # seconds between two questions to a provisioner that has no local process
LOG_TAIL = 4096  # bytes of a kernel's log that an error shows
KILL_GRACE = 10  # seconds for a provisioner to end what it started


_log = logging.getLogger("trikernel.client")
_log.addHandler(logging.NullHandler())


class KernelProcess:
    """One kernel that this program starts and ends. ``kernel_name`` is a kernelspec's, or None
    for the Python kernel of this environment, which needs no kernelspec.

    What the kernel writes to its stdout and stderr goes to a temporary file, see `log_tail`. If
    ``warm`` is given, that fork server starts the kernel where it can.
    """

    def __init__(self, kernel_name: str | None = None, warm: ForkServer | None = None) -> None:
        self._warm = warm
        self.kernel_name = kernel_name or OWN_KERNEL
        self._spec_name = kernel_name
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)  # its own, so that other threads delay no kill
        self._manager: Any = None
        self._start_options: dict[str, Any] = {}
        self._handshake: float | None = None
        self._starts = 0
        self._restarting: trio.Event | None = None
        self.info = ConnectionInfo()
        try:
            self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `kill`
        except OSError as error:
            raise KernelNotReady(
                f"kernel {self.kernel_name!r} cannot be started: its log cannot be opened: {error}"
            ) from None

    async def start(
        self,
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        extra_arguments: Sequence[str] = (),
        handshake: float | None = None,
    ) -> None:
        """Start the kernel; `info` then says where it will listen.

        With ``handshake`` the kernel chooses its ports: it is started with a registration file, and
        has that many seconds to register; `info` then says where it already listens. Raises
        `NoSuchKernel`, `UsageError` for a kernelspec that does not offer the handshake, and
        `KernelNotReady` if the provisioner cannot start the kernel, or it does not register.
        """
        self._handshake = handshake
        self._start_options = {
            "cwd": None if cwd is None else str(cwd),
            "env": {**os.environ, **(env or {})},
            "extra_arguments": list(extra_arguments),
        }
        await self._start()

    async def _start(self) -> None:
        self._manager = await self._in_thread(self._new_manager)
        options = {
            **self._start_options,
            "stdin": subprocess.DEVNULL,
            "stdout": self._log,
            "stderr": self._log,
        }
        if self._handshake is not None:
            self.info = await self._start_and_register(options, self._handshake)
        else:
            await self._launch(partial(self._manager.start_kernel, **options))
            self.info = connection_info_of(self._manager)
        self._starts += 1

    async def _launch(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Call a function that starts the kernel, in the asyncio loop. Raises `KernelNotReady`."""
        try:
            return await self._call(function)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise KernelNotReady(
                f"kernel {self.kernel_name!r} cannot be started: {reason}"
            ) from error

    async def _start_and_register(
        self, options: Mapping[str, Any], timeout: float
    ) -> ConnectionInfo:
        """Do what the manager's ``start_kernel`` does, but wait for the registration before the
        last step, which connects to the kernel.
        """
        manager, name = self._manager, self.kernel_name
        if self._spec_name is not None:
            check_offers_handshake(name, manager.kernel_spec)

        async def launch() -> dict[str, Any]:
            command, further = await manager.pre_start_kernel(**options)
            await manager.provisioner.launch_kernel(command, **further)
            return dict(further)

        manager.kernel_id = str(uuid.uuid4())
        folder = await self._in_thread(_runtime_folder)
        # so that the kernel need not import jupyter_core to find the folder
        options["env"].setdefault("JUPYTER_RUNTIME_DIR", str(folder))
        with expect_registration(manager, folder) as registrar_of:
            further = await self._launch(launch)
            registrar = registrar_of()
            if registrar is None:
                raise KernelNotReady(f"kernel {name!r}: its provisioner asks for no file to write")
            info = await self._registered(registrar, timeout)
        note_ports(manager, info)
        await self._launch(partial(manager.post_start_kernel, **further))
        return info

    async def _registered(self, registrar: Registrar, timeout: float) -> ConnectionInfo:
        """Wait for the registration; returns where the kernel listens. Raises `KernelNotReady` if
        the kernel ends, registers wrongly, or does not register within ``timeout`` seconds.
        """
        why = f"has not registered within {timeout:g} seconds"
        found: list[ConnectionInfo] = []

        async def see_its_end() -> None:
            nonlocal why
            why = f"{await self._wait_ended()} before it had registered"
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(see_its_end)
            try:
                with trio.move_on_after(timeout):
                    found.append(await registrar.wait_registered())
            except WireError as error:
                why = f"has registered wrongly: {error}"
            except PeerGone:
                why = "has ended as its registration was acknowledged"
            nursery.cancel_scope.cancel()
        if found:
            return found[0]
        refused = f"; refused there: {dict(registrar.refused)}" if registrar.refused else ""
        raise KernelNotReady(f"kernel {self.kernel_name!r} {why}{refused}{quoted(self.log_tail())}")

    def _new_manager(self) -> Any:
        manager = new_manager(self._spec_name)
        if self._warm is not None:
            from ..warm.provisioner import provide

            provide(manager, self._warm)
        return manager

    async def restart(self) -> None:
        """End the kernel at once, with the processes of its group, and start it again with the
        arguments of `start`. `info` then says where it will listen; the ports are new ones. Raises
        `KernelNotReady`.
        """
        self._restarting = trio.Event()
        try:
            await self._call(partial(self._manager.shutdown_kernel, now=True))
            await self._start()
        finally:
            self._restarting.set()
            self._restarting = None

    async def wait_ended(self) -> str:
        """Wait until the kernel has ended, but not by `restart`. Returns in words how it ended."""
        while True:
            starts, how = self._starts, await self._wait_ended()
            if self._restarting is not None:
                await self._restarting.wait()
            if self._starts == starts:
                return how

    async def _wait_ended(self) -> str:
        """Wait until the current process has ended. Only a remote provisioner is polled."""
        process = self._local_process()
        if process is None:
            while await self._call(self._manager.is_alive):  # noqa: ASYNC110  # it has no event
                await trio.sleep(REMOTE_POLL)
            return "ended"
        handle = process._handle if sys.platform == "win32" else process.pid
        await wait_for_process_end(int(handle))
        if isinstance(process, WarmProcess):
            return _in_words(await self._in_thread(process.peek))
        return _how_it_ended(process.pid)

    async def interrupt(self) -> None:
        """Send the interrupt signal, or what the provisioner does instead. Raises `KernelDied`."""
        try:
            await self._call(self._manager.interrupt_kernel)
        except RuntimeError as error:
            raise KernelDied(
                f"kernel {self.kernel_name!r} cannot be interrupted: {error}"
            ) from None

    @property
    def interrupted_by_signal(self) -> bool:
        """Whether the kernelspec's ``interrupt_mode`` is another one than ``message``."""
        return bool(self._manager.kernel_spec.interrupt_mode != "message")

    async def kill(self) -> None:
        """End the kernel at once, with the processes of its group, and free its resources.

        It is shielded from cancellation. It ends within `KILL_GRACE` seconds, if the provisioner
        does not block.
        """
        with trio.CancelScope(shield=True):
            try:
                if self._manager is not None:
                    with trio.move_on_after(KILL_GRACE):
                        await self._call(partial(self._manager.shutdown_kernel, now=True))
            except Exception:  # of the provisioner; not raised, as it would hide the block's error
                _log.exception("kernel %r could not be ended in order", self.kernel_name)
                self._kill_group()
                await self._call(self._manager.cleanup_resources)
            finally:
                await self._in_thread(self._runner.close)
                self._log.close()

    def log_tail(self) -> str:
        """The last lines that the kernel wrote to its stdout and stderr."""
        if self._log.closed:
            return ""
        fd = self._log.fileno()
        start = max(0, os.fstat(fd).st_size - LOG_TAIL)
        if sys.platform == "win32":
            self._log.seek(start)
            written = self._log.read()
        else:
            written = os.pread(fd, LOG_TAIL, start)  # the kernel shares the file's position
        return harmless(written.decode("utf-8", "replace"), colours=False).strip()

    def _kill_group(self) -> None:
        process = self._local_process()
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)  # the kernel leads its own session
            process.wait()

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(function, limiter=self._limiter)

    def _local_process(self) -> Any:
        return getattr(self._manager.provisioner, "process", None)

    async def _call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine function in the asyncio loop. If this is cancelled, it is, too."""
        tasks: list[asyncio.Task[Any]] = []
        left = threading.Event()

        async def call() -> Any:
            tasks.extend(task for task in [asyncio.current_task()] if task is not None)
            if left.is_set():
                raise asyncio.CancelledError
            return await function()

        def run() -> Any:
            return outcome.capture(self._runner.run, call())

        async with self._turn:
            loop = self._runner.get_loop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_with_us, loop, tasks, left)
                with trio.CancelScope(shield=True):
                    result = await self._in_thread(run)
                nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()
        return result.unwrap()


async def _cancel_with_us(
    loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]], left: threading.Event
) -> None:
    try:
        await trio.sleep_forever()
    finally:
        left.set()
        for task in tasks:
            if not task.done():
                loop.call_soon_threadsafe(task.cancel)


def new_manager(kernel_name: str | None) -> Any:
    """A manager of jupyter_client for a kernel that is not started yet. Raises `NoSuchKernel`.

    ``kernel_name`` is a kernelspec's, or None for the Python kernel of this environment.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.kernelspec import NoSuchKernel as NoSpec
    from jupyter_client.manager import AsyncKernelManager

    specs = _own_specs() if kernel_name is None else KernelSpecManager()
    manager = AsyncKernelManager(
        kernel_name=kernel_name or OWN_KERNEL, kernel_spec_manager=specs, log=_log
    )
    try:
        manager.kernel_spec.argv  # noqa: B018  # the property reads the kernelspec and may fail
    except NoSpec:
        names = sorted(specs.find_kernel_specs())
        if kernel_name in names:
            raise NoSuchKernel(
                f"kernelspec {kernel_name!r} cannot be used: its provisioner is not installed"
            ) from None
        raise NoSuchKernel(
            f"there is no kernelspec {kernel_name!r}; installed are: {', '.join(names) or 'none'}"
        ) from None
    except Exception as error:  # jupyter_client may raise anything for a broken file
        raise NoSuchKernel(f"kernelspec {kernel_name!r} cannot be read: {error}") from None
    if not manager.kernel_spec.argv:
        raise NoSuchKernel(f"kernelspec {kernel_name!r} has no 'argv': it says not what to start")
    return manager


def _own_specs() -> Any:
    """A kernelspec manager with one kernelspec: the Python kernel of this environment."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class OwnSpecs(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> Any:
            return KernelSpec(
                argv=[sys.executable, *OWN_ARGV, "-f", "{connection_file}"],
                display_name="Python 3 (Trio)",
                language="python",
                interrupt_mode="signal",
            )

    return OwnSpecs()


def _runtime_folder() -> Path:
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir())


def quoted(log: str) -> str:
    """The end of a kernel's log in the form in which an error's text shows it."""
    if not log:
        return ""
    lines = log.splitlines()
    crashes = [index for index, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if crashes:  # written by faulthandler: first the cause, then the innermost frames
        lines = [line for line in lines[crashes[-1] :] if "/trikernel/" not in line][:10]
    lines = lines[-10:]
    return "; its last words:\n" + "\n".join(f"    {line}" for line in lines)


def _how_it_ended(pid: int) -> str:
    """How a process ended, in words. It stays a zombie, so that the group's id is not reused."""
    if sys.platform == "win32" or not hasattr(os, "waitid"):
        return "died"
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None:
            killed = found.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            return _in_words(-found.si_status if killed else found.si_status)
    return "died"


def _in_words(code: int | None) -> str:
    """An exit code (negative: a signal) in words."""
    if code is not None and code < 0:
        return f"died by signal {-code} ({signal.strsignal(-code)})"
    return "died" if code is None else f"died with exit code {code}"
