"""A kernel's process: started, interrupted, watched and ended by jupyter_client's manager.

jupyter_client's coroutines need asyncio and may block, so each call runs in a worker thread, in
an asyncio loop that lives as long as the kernel. Whatever provisioner the kernelspec names does
the work, a remote one too. Knows nothing of messages.
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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any

import outcome
import trio

from ..errors import KernelDied, KernelNotReady, NoSuchKernel
from ..system import harmless, wait_for_process_end
from ..transport import ConnectionInfo

__all__ = ["KernelProcess", "new_manager"]

OWN_KERNEL = "trikernel"  # the name that the Python kernel of this environment goes by
OWN_ARGV = ("-P", "-m", "trikernel", "start")  # -P: no module beside the notebook is in the way
REMOTE_POLL = 1  # seconds between two questions to a provisioner that has no local process
LOG_TAIL = 4096  # bytes of a kernel's log that an error shows
KILL_GRACE = 10  # seconds for a provisioner to end what it started


_log = logging.getLogger("trikernel.client")
_log.addHandler(logging.NullHandler())


class KernelProcess:
    """One kernel that this program starts and ends. ``kernel_name`` is a kernelspec's, or None
    for the Python kernel of this very environment, which needs no kernelspec.

    What the kernel writes to its stdout and stderr goes to a temporary file, see `log_tail`.
    """

    def __init__(self, kernel_name: str | None = None) -> None:
        self.kernel_name = kernel_name or OWN_KERNEL
        self._spec_name = kernel_name
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)  # of its own: others' threads must not delay a kill
        self._manager: Any = None
        self._start_options: dict[str, Any] = {}
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
    ) -> None:
        """Start it; `info` then says where it will listen.

        Raises `NoSuchKernel`, or `KernelNotReady` when the provisioner cannot start it.
        """
        self._start_options = {
            "cwd": None if cwd is None else str(cwd),
            "env": {**os.environ, **(env or {})},
            "extra_arguments": list(extra_arguments),
        }
        await self._start()

    async def _start(self) -> None:
        self._manager = await self._in_thread(partial(new_manager, self._spec_name))
        start = partial(
            self._manager.start_kernel,
            **self._start_options,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            await self._call(start)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise KernelNotReady(
                f"kernel {self.kernel_name!r} cannot be started: {reason}"
            ) from error
        self.info = _connection_info(self._manager)
        self._starts += 1

    async def restart(self) -> None:
        """End it now, with the processes of its group, and start it anew as `start` did; `info`
        then says where it will listen, which is somewhere else. Raises `KernelNotReady`.
        """
        self._restarting = trio.Event()
        try:
            await self._call(partial(self._manager.shutdown_kernel, now=True))
            await self._start()
        finally:
            self._restarting.set()
            self._restarting = None

    async def wait_ended(self) -> str:
        """Wait for its end, other than by a restart; how it ended, in words."""
        while True:
            starts, how = self._starts, await self._wait_ended()
            if self._restarting is not None:
                await self._restarting.wait()
            if self._starts == starts:
                return how

    async def _wait_ended(self) -> str:
        """Wait for the end of the process of now. Nothing asks again and again while local."""
        process = self._local_process()
        if process is None:
            while await self._call(self._manager.is_alive):  # noqa: ASYNC110  # no event there
                await trio.sleep(REMOTE_POLL)
            return "ended"
        handle = process._handle if sys.platform == "win32" else process.pid
        await wait_for_process_end(int(handle))
        return _how_it_ended(process.pid)

    async def interrupt(self) -> None:
        """Send the interrupt signal, or whatever the provisioner does instead."""
        try:
            await self._call(self._manager.interrupt_kernel)
        except RuntimeError as error:
            raise KernelDied(
                f"kernel {self.kernel_name!r} cannot be interrupted: {error}"
            ) from None

    @property
    def interrupted_by_signal(self) -> bool:
        """What the kernelspec's ``interrupt_mode`` says."""
        return bool(self._manager.kernel_spec.interrupt_mode != "message")

    async def kill(self) -> None:
        """End it now, with the processes of its group, and free what belonged to it.

        Not to be cancelled: it ends within `KILL_GRACE` seconds by itself, if the provisioner
        does not block.
        """
        with trio.CancelScope(shield=True):
            try:
                if self._manager is not None:
                    with trio.move_on_after(KILL_GRACE):
                        await self._call(partial(self._manager.shutdown_kernel, now=True))
            except Exception:  # a provisioner's own; who leaves a block has other worries
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
            written = os.pread(fd, LOG_TAIL, start)  # the file's position is the kernel's too
        return harmless(written.decode("utf-8", "replace"), colours=False).strip()

    def _kill_group(self) -> None:
        process = self._local_process()
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
            process.wait()

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(function, limiter=self._limiter)

    def _local_process(self) -> Any:
        return getattr(self._manager.provisioner, "process", None)

    async def _call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine function in the asyncio loop; cancelled, it is cancelled there."""
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
    """jupyter_client's asyncio manager of a kernel that is not started yet. Raises `NoSuchKernel`.

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
        manager.kernel_spec.argv  # noqa: B018  # looked up now, so that it fails now
    except NoSpec:
        names = sorted(specs.find_kernel_specs())
        if kernel_name in names:
            raise NoSuchKernel(
                f"kernelspec {kernel_name!r} cannot be used: its provisioner is not installed"
            ) from None
        raise NoSuchKernel(
            f"there is no kernelspec {kernel_name!r}; installed are: {', '.join(names) or 'none'}"
        ) from None
    except Exception as error:  # whatever a broken file makes jupyter_client raise
        raise NoSuchKernel(f"kernelspec {kernel_name!r} cannot be read: {error}") from None
    if not manager.kernel_spec.argv:
        raise NoSuchKernel(f"kernelspec {kernel_name!r} has no 'argv': it says not what to start")
    return manager


def _own_specs() -> Any:
    """A manager of one kernelspec: the Python kernel of this environment."""
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


def _connection_info(manager: Any) -> ConnectionInfo:
    """jupyter_client's connection information as ours; its keys are bytes."""
    plain = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in manager.get_connection_info(session=False).items()
    }
    fields = ConnectionInfo().as_dict()
    known: dict[str, Any] = {name: plain.pop(name) for name in fields if name in plain}
    return ConnectionInfo(**known, extra=plain)


def _how_it_ended(pid: int) -> str:
    """In words; the process stays a zombie, so that its group is still its own."""
    if sys.platform == "win32" or not hasattr(os, "waitid"):
        return "died"
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None and found.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            return f"died by signal {found.si_status} ({signal.strsignal(found.si_status)})"
        if found is not None:
            return f"died with exit code {found.si_status}"
    return "died"
