"""Asking a template for a process, and the object by which the asking program uses that process.

`WarmProcess` does what a `subprocess.Popen` does for its caller, although the process is the
template's child. Its process id is not reused until the caller has learned of its end, signals
never go to another process, and its exit code is the one that the system gave. If the template is
killed, its processes go on, and only their exit codes are lost.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

import attrs

from .packets import (
    ANSWER_TIMEOUT,
    GO,
    START,
    NotWarm,
    close_all,
    in_memory,
    is_same_user,
    packet_pair,
    packet_socket,
    receive,
    send,
    short_name,
)
from .taking_over import surroundings

__all__ = ["UNKNOWN_CODE", "Asked", "Start", "WarmProcess", "ask", "send_request"]

UNKNOWN_CODE = 255  # exit code of a process whose template ended before it
TOLD_WITHIN = 2  # seconds in which the template tells a process's exit code, on a loaded machine
DEVNULL, PIPE, STDOUT = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT


@attrs.frozen
class Start:
    """A process to be started. ``command`` is what an ordinary start would run.

    ``module`` is run as ``__main__`` with ``arguments``. ``environment`` is its whole environment;
    ``defaults`` are variables that the module sets for itself where they are missing. ``streams``
    are stdin, stdout and stderr, as for `subprocess.Popen`. ``last_words`` names the module that is
    called after its end, empty for none: see `trikernel.warm.last_words`.
    """

    command: Sequence[str]
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    defaults: Mapping[str, str]
    cwd: str | os.PathLike[str] | None = None
    streams: Sequence[int | IO[Any] | None] = (None, None, None)
    last_words: str = ""


class WarmProcess:
    """A process that a template has forked. It is used like a `subprocess.Popen`."""

    stdin: IO[bytes] | None = None
    stdout: IO[bytes] | None = None
    stderr: IO[bytes] | None = None

    def __init__(
        self, args: Sequence[str], pid: int, pidfd: int, connection: socket.socket
    ) -> None:
        self.args = list(args)
        self.pid = pid
        self.returncode: int | None = None
        self._code: int | None = None  # known by `peek`; `returncode` is set by `poll`
        self._pidfd = pidfd
        self._connection: socket.socket | None = connection
        self._lock = threading.RLock()  # one thread may wait while another one asks

    def __repr__(self) -> str:
        return f"<WarmProcess: pid {self.pid}, returncode: {self.returncode}>"

    def poll(self) -> int | None:
        """The exit code if the process has ended, negative if by a signal; else None."""
        with self._lock:
            if self.returncode is None and self._has_ended(0):
                self.returncode = self.peek()
                self._close()
            return self.returncode

    def peek(self) -> int | None:
        """As `poll`, but the process is not reaped: its id and its process group are not reused."""
        with self._lock:
            if self._code is None and self._connection is not None and self._has_ended(0):
                self._code = UNKNOWN_CODE
                with suppress(OSError):
                    self._connection.settimeout(TOLD_WITHIN)
                    packet, descriptors = receive(self._connection)
                    close_all(descriptors)
                    if packet:
                        self._code = os.waitstatus_to_exitcode(json.loads(packet)["ended"])
            return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; returns its exit code. ``timeout`` is in seconds.
        Raises `subprocess.TimeoutExpired`.
        """
        if self.poll() is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None and sys.platform == "linux":
            with self._lock, suppress(ProcessLookupError):
                if self._pidfd >= 0:
                    signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        if sys.platform != "win32":
            self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        if sys.platform != "linux":
            raise NotImplementedError
        pidfd = self._pidfd
        if pidfd < 0:
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def _close(self) -> None:
        """Close the connection: the template may reap the process now."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self) -> None:
        with suppress(Exception):
            self._close()


class Asked:
    """A request that was sent to a template by `send_request`. `process` has to be called."""

    def __init__(
        self, command: Sequence[str], connection: socket.socket, ends: Mapping[str, int]
    ) -> None:
        self._command = command
        self._connection = connection
        self._ends = ends

    def process(self) -> tuple[WarmProcess, list[str]]:
        """Let the forked process run. Returns it, and a line for each module that the template has
        not preloaded.

        Blocks until the template has answered, at most `ANSWER_TIMEOUT` seconds. Raises `NotWarm`.
        """
        try:
            with _closed_if_it_raises(self._connection):
                process, left_out = _answered(self._command, self._connection)
        except BaseException:
            close_all([*self._ends.values()])
            raise
        for name, end in self._ends.items():
            setattr(process, name, os.fdopen(end, "wb" if name == "stdin" else "rb"))
        return process, left_out


def ask(start: Start, where: str | socket.socket) -> tuple[WarmProcess, list[str]]:
    """Have a template fork a process. Returns the process, and a line for each module that the
    template has not preloaded.

    ``where`` is the path of a shared template's socket, or the owner's end of the socket pair with
    its template. Blocks for some milliseconds, at most `ANSWER_TIMEOUT` seconds. Raises `NotWarm`;
    `OSError` if the working directory is not there, or is no directory.
    """
    return send_request(start, where).process()


def send_request(start: Start, where: str | socket.socket) -> Asked:
    """The first half of `ask`, which does not wait for the answer: several requests may be sent
    before the first one is answered. Raises as `ask` does.
    """
    with ExitStack() as stack:
        directory = _open_folder(start.cwd or ".")
        stack.callback(os.close, directory)
        try:
            standard, ours = _standard(start.streams, stack)
            sent = [in_memory(_as_message(start)), directory, *standard]
            stack.callback(os.close, sent[0])
            connection = _connect(where, sent)
        except OSError as error:
            raise NotWarm(f"its template cannot be asked: {error}", worth_a_new_one=True) from None
        with _closed_if_it_raises(connection):
            ends = {name: os.dup(file) for name, file in ours.items()}
        return Asked(start.command, connection, ends)


def _open_folder(path: str | os.PathLike[str]) -> int:
    """A descriptor for `os.fchdir`. Opened by O_PATH, as the folder may be one that the user may
    enter, but not read.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def _as_message(start: Start) -> dict[str, Any]:
    return {
        "command": list(start.command),
        "module": start.module,
        "arguments": list(start.arguments),
        "environment": dict(start.environment),
        "defaults": dict(start.defaults),
        "last_words": start.last_words,
        **surroundings(),
    }


def _standard(
    streams: Sequence[int | IO[Any] | None], stack: ExitStack
) -> tuple[list[int], dict[str, int]]:
    """The descriptors that the process gets as 0 to 2, and by name our ends of the pipes.
    ``stack`` closes what is opened here, our ends too.
    """
    found: list[int] = []
    ours: dict[str, int] = {}
    for number, (name, wanted) in enumerate(
        zip(("stdin", "stdout", "stderr"), streams, strict=True)
    ):
        if wanted == PIPE and isinstance(wanted, int):
            ends = os.pipe()
            for one in ends:
                stack.callback(os.close, one)
            found.append(ends[0 if number == 0 else 1])
            ours[name] = ends[1 if number == 0 else 0]
        elif wanted == STDOUT and isinstance(wanted, int):
            found.append(found[1])
        elif (wanted is None and number > 0 and _is_open(number)) or (
            wanted is not None and wanted != DEVNULL
        ):
            found.append(number if wanted is None else _descriptor(wanted))
        else:
            null = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, null)
            found.append(null)
    return found, ours


def _descriptor(value: int | IO[Any]) -> int:
    return value if isinstance(value, int) else value.fileno()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _connect(where: str | socket.socket, sent: list[int]) -> socket.socket:
    """Send the request; returns the connection on which the answers come."""
    if isinstance(where, socket.socket):
        connection, theirs = packet_pair()
        with theirs, _closed_if_it_raises(connection):
            send(where, START, [theirs.fileno(), *sent])
    else:
        connection = packet_socket()
        with _closed_if_it_raises(connection):
            connection.settimeout(ANSWER_TIMEOUT)
            with short_name(where) as name:
                connection.connect(name)
            if not is_same_user(connection):
                raise OSError(f"another user listens on {where}")
            send(connection, START, sent)
    connection.settimeout(ANSWER_TIMEOUT)
    return connection


@contextmanager
def _closed_if_it_raises(connection: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _answered(command: Sequence[str], connection: socket.socket) -> tuple[WarmProcess, list[str]]:
    """Wait for the answer, and let the process run. Raises `NotWarm`."""
    try:
        packet, descriptors = receive(connection)
    except TimeoutError:
        text = f"its template has not answered within {ANSWER_TIMEOUT} seconds"
        raise NotWarm(text) from None
    except OSError as error:
        raise NotWarm(f"its template cannot answer: {error}", worth_a_new_one=True) from None
    if not packet:
        raise NotWarm("its template has ended", worth_a_new_one=True)
    answer = json.loads(packet)
    if "ready" not in answer:
        close_all(descriptors)
        reason = answer.get("refused", "its template lost the process as it began")
        raise NotWarm(reason, worth_a_new_one=answer.get("stale", False))
    if len(descriptors) != 1:
        close_all(descriptors)
        raise NotWarm("there is no descriptor left for it")
    try:
        send(connection, GO)
    except OSError as error:
        close_all(descriptors)
        raise NotWarm(f"it ended as it began: {error}", worth_a_new_one=True) from None
    return WarmProcess(command, answer["ready"], descriptors[0], connection), answer["left_out"]
