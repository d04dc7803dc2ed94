"""A program's own fork server: it has one template, and replaces it when it is stale or gone."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import IO, Any

import trio

from .asking import Asked, Start, WarmProcess, send_request
from .packets import NotWarm, close_all, packet_pair, receive
from .starting import MODULE, Command, parse_command, start_template, warm_is_possible

__all__ = ["KERNEL_DEFAULTS", "ForkServer", "open_fork_server", "start_of"]

PRELOAD_TIMEOUT = 300  # seconds for a template to import everything
FLAGS = ("-P",)
# What a Python kernel sets in its own environment where it is missing, in `python.process`.
KERNEL_DEFAULTS = {
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
_log = logging.getLogger("trikernel.warm")
_log.addHandler(logging.NullHandler())


def start_of(
    command: Sequence[str],
    parsed: Command,
    environment: Mapping[str, str],
    cwd: str | os.PathLike[str] | None,
    streams: Sequence[int | IO[Any] | None],
) -> Start:
    """The request to a template for a kernel with that command."""
    return Start(command, MODULE, parsed.arguments, environment, KERNEL_DEFAULTS, cwd, streams)


class ForkServer:
    """Starts processes by forking a template; made by `open_fork_server`.

    Its methods block and may be called in any thread; `trikernel.client` calls them. ``left_out``
    has a line for each module that could not be preloaded. ``unavailable`` is None, or the reason
    why every kernel starts in the ordinary way.
    """

    def __init__(self, preload: Iterable[str] = (), *, idle: float | None = None) -> None:
        if isinstance(preload, str):
            raise TypeError(f"preload is a list of names, as in [{preload!r}]")
        self.left_out: list[str] = []
        self.unavailable: str | None = warm_is_possible()
        self.template_pid: int | None = None
        self._preload = tuple(preload)
        self._idle = idle
        self._end: socket.socket | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self) -> None:
        """Start the template and wait until it has imported everything. A failure is logged, and
        is told by ``unavailable`` then.
        """
        if self.unavailable is None:
            try:
                self._running()
            except NotWarm as error:
                self._give_up(str(error))

    def launch(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        streams: Sequence[int | IO[Any] | None],
    ) -> WarmProcess:
        """Start the kernel that ``command`` would start. Raises `NotWarm`."""
        parsed = parse_command(command, environment)
        if (parsed.python, parsed.flags) != (sys.executable, FLAGS):
            raise NotWarm(f"its command begins with {parsed.python} {' '.join(parsed.flags)}")
        return self.fork(start_of(command, parsed, environment, cwd, streams))

    def begin_module(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        streams: Sequence[int | IO[Any] | None],
        last_words: str = "",
    ) -> Callable[[], WarmProcess]:
        """Start ``python -m module arguments``; see `Start` and `begin`. Raises `NotWarm`."""
        command = [sys.executable, *FLAGS, "-m", module, *arguments]
        start = Start(
            command, module, arguments, environment, KERNEL_DEFAULTS, cwd, streams, last_words
        )
        return self.begin(start)

    def fork(self, start: Start) -> WarmProcess:
        """Start a process; if the template is stale or gone, by a new one. Raises `NotWarm`."""
        return self.begin(start)()

    def begin(self, start: Start) -> Callable[[], WarmProcess]:
        """The first half of `fork`, which does not wait for the process: others can be begun
        before it is there, so that many processes start at the same time.

        The function that it returns has to be called. It waits until the process was forked, and
        lets it run. The streams of ``start`` have to stay open until then. Both may raise
        `NotWarm`.
        """
        try:
            finish = self._ask(start)
        except NotWarm as error:
            finish = self._ask_again(start, error)
        return partial(self._finish, start, finish)

    def _finish(self, start: Start, finish: Callable[[], WarmProcess]) -> WarmProcess:
        try:
            return finish()
        except NotWarm as error:
            return self._ask_again(start, error)()

    def _ask_again(self, start: Start, error: NotWarm) -> Callable[[], WarmProcess]:
        if not error.worth_a_new_one:
            raise error
        _log.info("a new template is started: %s", error)
        return self._ask(start)

    def _ask(self, start: Start) -> Callable[[], WarmProcess]:
        end = self._running()
        with self._dropped_if_stale(end):
            asked = send_request(start, end)
        return partial(self._answered, asked, end)

    def _answered(self, asked: Asked, end: socket.socket) -> WarmProcess:
        with self._dropped_if_stale(end):
            return asked.process()[0]

    @contextmanager
    def _dropped_if_stale(self, end: socket.socket) -> Iterator[None]:
        try:
            yield
        except NotWarm as error:
            if error.worth_a_new_one:
                self._drop(end)
            raise

    def _running(self) -> socket.socket:
        """Our end of the socket pair with the template, which is started if there is none. Raises
        `NotWarm`.
        """
        with self._lock:
            if self._is_closed or self.unavailable is not None:
                raise NotWarm(self.unavailable or "its fork server is closed")
            if self._end is None:
                self._end, theirs = packet_pair()
                try:
                    with theirs:
                        if self._is_closed:  # since it was looked at: `close` has seen no end
                            raise NotWarm("its fork server is closed")
                        start_template(
                            Command(sys.executable, FLAGS, ()),
                            self._preload,
                            os.environ,
                            defaults=KERNEL_DEFAULTS,
                            idle=self._idle,
                            where=theirs,
                        )
                    self._wait_until_ready(self._end)
                except BaseException:
                    self._end.close()
                    self._end = None
                    raise
            return self._end

    def _wait_until_ready(self, end: socket.socket) -> None:
        try:
            end.settimeout(PRELOAD_TIMEOUT)
            packet, descriptors = receive(end)
        except OSError as error:
            raise NotWarm(f"its template does not become ready: {error}") from None
        close_all(descriptors)
        if not packet:
            raise NotWarm("its template has ended before it was ready")
        message = json.loads(packet)
        if "failed" in message:
            raise NotWarm(f"its template cannot import what it needs: {message['failed']}")
        self.template_pid = message["pid"]
        for line in message["left_out"]:
            if line not in self.left_out:
                _log.warning("%s", line)
        self.left_out = message["left_out"]

    def _drop(self, end: socket.socket) -> None:
        """Forget a template that takes no more requests; ``end`` is our end of its pair."""
        with self._lock:
            if self._end is end:
                self._end = None
            end.close()

    def _give_up(self, reason: str) -> None:
        self.unavailable = reason
        if not self._is_closed:
            _log.warning("kernels start without a fork server: %s", reason)

    def close(self) -> None:
        """Close the connection to the template, which ends when all that it has forked have ended.
        No process can be started by this object after that.
        """
        self._is_closed = True
        end = self._end
        if end is not None:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for the template
        with self._lock:
            if self._end is not None:
                self._end.close()
                self._end = None


@asynccontextmanager
async def open_fork_server(
    preload: Iterable[str] = (), *, idle: float | None = None
) -> AsyncIterator[ForkServer]:
    """Start a process that has imported what kernels need, and forks them: so they start fast.

    ::

        async with open_fork_server(["pandas"]) as server:
            async with open_kernel(warm=server) as client:
                ...

    ``preload`` names modules that it imports, too. A module that cannot be imported, or that starts
    a thread or a process, opens a socket, prints or exits, is left out; ``server.left_out`` and the
    log tell it. ``idle`` is in seconds: the process ends when it was not used for so long and none
    of its kernels lives, and is started again when needed. None keeps it to the end of the block.

    If there can be no such process, nothing is raised: ``server.unavailable`` says why, and kernels
    are started in the ordinary way. Leaving the block does not end kernels. Cancelled, the process
    ends as at the end of the block.
    """
    server = ForkServer(preload, idle=idle)
    try:
        await trio.to_thread.run_sync(server.start, abandon_on_cancel=True)
        yield server
    finally:
        server.close()
