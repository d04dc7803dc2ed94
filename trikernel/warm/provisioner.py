"""Warm starts for Jupyter: a kernel provisioner, which a kernelspec names.

It differs from jupyter_client's local provisioner only in how it starts a kernel. Where no template
can fork the kernel, it starts it as that one does, and logs one line. Imports jupyter_client.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Float, List, Unicode

from .asking import WarmProcess, ask
from .packets import NotWarm
from .server import KERNEL_DEFAULTS, ForkServer, start_of
from .starting import parse_command, shared_path, start_template

__all__ = ["NAME", "WarmProvisioner", "provide"]

NAME = "trikernel-warm"
TAKEN = frozenset({"cwd", "env", "stdin", "stdout", "stderr", "independent"})
IGNORED = frozenset({"extra_arguments", "kernel_id"})


class WarmProvisioner(LocalProvisioner):
    """Starts a kernel by forking a template, which all programs of a user share.

    The first kernel is started in the ordinary way, while the template imports.
    """

    preload = List(Unicode(), help="Modules that the template imports.").tag(config=True)
    idle = Float(600, help="Seconds until a template that is not used ends.").tag(config=True)
    server: ForkServer | None = None  # a program's own fork server, instead of a shared template
    _told: frozenset[str] = frozenset()  # lines of ``left_out`` that were logged

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel; see `LocalProvisioner`. Cancelled, a process that was forked is
        killed.
        """
        try:
            launch = self._prepared(list(cmd), dict(kwargs))
            self.process = await _in_thread(launch)
        except NotWarm as error:
            tell = self.log.info if error.worth_a_new_one else self.log.warning
            tell("a kernel starts in the ordinary way: %s", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd") or os.getcwd()
        return self.connection_info

    def _prepared(self, command: list[str], options: dict[str, Any]) -> Callable[[], WarmProcess]:
        """A function that asks a template for the process, and blocks meanwhile. Raises `NotWarm`
        for options that a template cannot take.
        """
        unknown = sorted(set(options) - TAKEN - IGNORED)
        if unknown:
            raise NotWarm(f"it is to be started with {unknown[0]}")
        given = os.environ if options.get("env") is None else options["env"]
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}
        if not options.get("independent"):
            environment["JPY_PARENT_PID"] = str(os.getpid())
        streams = [options.get(name) for name in ("stdin", "stdout", "stderr")]
        cwd, server = options.get("cwd"), self.server
        if server is not None:
            return lambda: server.launch(command, environment, cwd, streams)
        return lambda: self._ask_shared(command, environment, cwd, streams)

    def _ask_shared(
        self, command: list[str], environment: dict[str, str], cwd: Any, streams: list[Any]
    ) -> WarmProcess:
        parsed = parse_command(command, environment)
        path = shared_path(parsed, self.preload, environment)
        start = start_of(command, parsed, environment, cwd, streams)
        try:
            process, left_out = ask(start, path)
        except NotWarm as error:
            if not error.worth_a_new_one:
                raise
            start_template(
                parsed,
                self.preload,
                environment,
                defaults=KERNEL_DEFAULTS,
                idle=self.idle,
                where=path,
            )
            text = f"{error}; one is started for the next kernels"
            raise NotWarm(text, worth_a_new_one=True) from None
        for line in left_out:
            if line not in self._told:
                self.log.warning("%s", line)
        self._told = self._told.union(left_out)
        return process


async def _in_thread(launch: Callable[[], WarmProcess]) -> WarmProcess:
    """Call ``launch`` in a thread, as it blocks. Cancelled, the process that it starts is killed,
    also if it starts only later.
    """
    started: deque[WarmProcess] = deque()
    left = threading.Event()

    def end() -> None:
        try:
            process = started.pop()
        except IndexError:
            return
        process.kill()

    def call() -> None:
        started.append(launch())
        if left.is_set():
            end()

    try:
        await asyncio.to_thread(call)
    except asyncio.CancelledError:
        left.set()
        end()
        raise
    return started.pop()


def provide(manager: Any, server: ForkServer) -> None:
    """Have a kernel manager start its kernel, which is not started yet, by ``server``.

    Does nothing if the kernelspec names a provisioner of another kind: that one starts the kernel.
    """
    named = manager.kernel_spec.metadata.get("kernel_provisioner", {})
    if named.get("provisioner_name", NAME) not in (NAME, "local-provisioner"):
        return
    manager.kernel_id = manager.kernel_id or os.urandom(16).hex()
    manager.provisioner = WarmProvisioner(
        kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
    )
    manager.provisioner.server = server
