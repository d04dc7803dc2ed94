"""The template: a process that has imported everything, and forks others on request.

It has no thread, no Trio or asyncio loop and no zmq socket. It waits in `select.poll` for requests,
for the ends of the processes that it has forked, and for its owner's end. What a forked process
needs comes with the request (`packets`, `taking_over`).

There are two kinds. An *owned* template gets requests only from its owner, over a socket pair, and
takes no more when the pair is closed. A *shared* template listens in a folder of the user's, where
all programs of that user find it, and takes no more when it was not used for a while. After that
both stay until all processes that they have forked have ended, as only the parent of a process
learns its exit code.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any

import attrs

from .last_words import LastWords
from .packets import (
    ANSWER_TIMEOUT,
    GO,
    START,
    close_all,
    is_same_user,
    packet_socket,
    read_from_memory,
    receive,
    send_message,
    short_name,
)
from .running import Program, find_program
from .staleness import Files, differing
from .taking_over import Own, become

__all__ = ["Imported", "Template", "listen", "lock_place"]

SENT = 5  # descriptors of a request: its content, the working directory, the three streams


@attrs.frozen(eq=False)
class Imported:
    """What is known of a template's imports: by what they become stale, and what was left out."""

    files: Files
    environment: dict[str, str]  # as it was during the imports
    read: set[str]  # the variables that the imports have read
    left_out: list[str]
    own: Own


@attrs.define(eq=False)
class _Child:
    """A process that was forked. ``connection`` goes to the program that asked for it."""

    pid: int
    pidfd: int
    connection: socket.socket
    last_words: LastWords | None = None
    ended: bool = False
    given_up: bool = False  # the program that asked has closed the connection: see `packets`

    def close(self) -> None:
        os.close(self.pidfd)
        self.connection.close()
        if self.last_words is not None:
            self.last_words.close()


class Template:
    """Serves requests, in its process's only thread. ``idle`` is in seconds, None for no limit.

    An owned template has an ``owner``, the socket to it. A shared one has a ``listener`` at a
    ``path``, and a ``lock``, the descriptor of the lock on that path.
    """

    def __init__(
        self,
        imported: Imported,
        *,
        owner: socket.socket | None = None,
        listener: socket.socket | None = None,
        path: str = "",
        lock: int | None = None,
        idle: float | None = None,
    ) -> None:
        self._imported = imported
        self._owner = owner
        self._listener = listener
        self._path = path
        self._lock = lock
        self._idle = idle
        self._used = time.monotonic()
        self._waiting: dict[int, socket.socket] = {}  # connections without a request yet
        self._children: list[_Child] = []
        self._programs: dict[str, Program] = {}

    @property
    def _takes_requests(self) -> bool:
        return self._owner is not None or self._listener is not None

    def serve(self) -> dict[str, Any] | None:
        """Serve until the template's end, then return None. In each forked process it returns the
        request that this process is to run.
        """
        while self._takes_requests or self._children:
            events = self._wait()
            if not events and self._is_idle():
                self.retire()
            for child in tuple(self._children):
                self._look_at(child, events)
            for fd, connection in tuple(self._waiting.items()):
                if fd in events:
                    del self._waiting[fd]
                    request = self._take(connection, connection)
                    if request is not None:  # in the forked process
                        return request
            if self._listener is not None and self._listener.fileno() in events:
                self._accept(self._listener)
            if self._owner is not None and self._owner.fileno() in events:
                request = self._take(self._owner, None)
                if request is not None:
                    return request
        return None

    def retire(self) -> None:
        """Take no more requests. A program whose request was not answered yet sees its connection
        closed.
        """
        if self._listener is not None:
            with suppress(OSError):  # gone, with the folder it was in
                os.unlink(self._path)
            self._listener.close()
        if self._lock is not None:
            os.close(self._lock)
        if self._owner is not None:
            self._owner.close()
        for connection in self._waiting.values():
            connection.close()
        self._waiting.clear()
        self._owner = self._listener = self._lock = None

    def _wait(self) -> dict[int, int]:
        if sys.platform != "linux":
            raise NotImplementedError
        poll = select.poll()
        for one in (self._owner, self._listener, *self._waiting.values()):
            if one is not None:
                poll.register(one, select.POLLIN)
        for child in self._children:
            if not child.given_up:
                poll.register(child.connection, 0)  # reports only that it was closed
            if not child.ended:
                poll.register(child.pidfd, select.POLLIN)
        seconds = self._idle
        if seconds is None or self._children:
            return dict(poll.poll())
        left = max(0.0, self._used + seconds - time.monotonic())
        return dict(poll.poll(left * 1000 + 1))

    def _is_idle(self) -> bool:
        past = time.monotonic() - self._used
        return not self._children and self._idle is not None and past >= self._idle

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptors or no memory: retire, so that no program waits in vain
            self.retire()
            return
        if not is_same_user(connection):
            connection.close()
            return
        self._waiting[connection.fileno()] = connection

    # Requests

    def _take(
        self, source: socket.socket, connection: socket.socket | None
    ) -> dict[str, Any] | None:
        """Read a request, and fork or refuse. Returns the request in the forked process, and None
        in the template.

        ``connection`` is for the answers. With an owner's request it is None: the connection is the
        first descriptor that the request brings.
        """
        self._used = time.monotonic()
        try:
            packet, descriptors = receive(source)
        except OSError:
            packet, descriptors = b"", []
        if connection is None and descriptors:
            connection = socket.socket(fileno=descriptors.pop(0))
        if connection is None:  # the owner has ended, or sent a request that cannot be answered
            self.retire()
            return None
        if packet != START or len(descriptors) != SENT:
            close_all(descriptors)
            connection.close()
            return None
        try:
            memory = descriptors.pop(0)
            try:
                request = read_from_memory(memory)
            finally:
                os.close(memory)
            reason, is_stale = self._refusal(request)
            if reason is not None:
                _refuse(connection, reason, is_stale)
                if is_stale:
                    self.retire()
                return None
            return self._fork(request, descriptors, connection)
        except (OSError, ValueError, KeyError, MemoryError) as error:
            text = f"its template cannot fork: {str(error) or type(error).__name__}"
            _refuse(connection, text)
            return None
        finally:
            close_all(descriptors)

    def _refusal(self, request: dict[str, Any]) -> tuple[str | None, bool]:
        """Why the request is refused, None if it is not; and whether it is because this template
        is stale, so that a new one could fork the process.
        """
        changed = self._imported.files.changed()
        if changed is not None:
            return f"{changed} has changed since its template has imported it", True
        environment = {**request["defaults"], **request["environment"]}
        name = differing(self._imported.read, self._imported.environment, environment)
        if name is not None:
            return f"the environment variable {name} is another one than its template's", False
        return None, False

    def _fork(
        self, request: dict[str, Any], descriptors: list[int], connection: socket.socket
    ) -> dict[str, Any] | None:
        if sys.platform != "linux":
            raise NotImplementedError
        self.program_of(request["module"])  # loaded before the fork, once for all
        words = LastWords.opened(request["last_words"]) if request["last_words"] else None
        with ExitStack() as stack:
            if words is not None:
                stack.callback(words.close)
            pid = os.fork()
            if pid:
                self._children.append(_Child(pid, _pidfd_of(pid), connection, words))
            stack.pop_all()
        if pid:
            return None
        try:
            self._let_go()
            if words is not None:
                words.take()
            own = [os.dup(fd) for fd in descriptors]  # `become` closes these, `_take` the originals
            become(request, own[0], own[1:])
            self._imported.own.renew()
        except BaseException as error:  # the process ends then; no loop runs in it yet
            _refuse(connection, f"it cannot take over what it was asked for: {error}")
            os._exit(1)
        if not _may_go(connection, self._imported.left_out):
            os._exit(1)
        return request

    def program_of(self, module: str) -> Program:
        """The program of that module; loaded at the first call."""
        if module not in self._programs:
            self._programs[module] = find_program(module)
        return self._programs[module]

    def _let_go(self) -> None:
        """In a forked process: close its copies of the template's sockets and descriptors."""
        for one in (self._owner, self._listener, *self._waiting.values()):
            if one is not None:
                one.close()
        if self._lock is not None:
            os.close(self._lock)
        for child in self._children:
            child.close()
        self._owner = self._listener = self._lock = None
        self._children, self._waiting = [], {}

    # What was forked

    def _look_at(self, child: _Child, events: dict[int, int]) -> None:
        if not child.ended and child.pidfd in events:
            child.ended = True
            status = _status_of(child.pid)
            with suppress(OSError):
                send_message(child.connection, {"ended": status})
            if child.last_words is not None:
                # If it fails, for lack of memory for example, what the line asks for is not done.
                with suppress(OSError):
                    child.last_words.carry_out(self._let_go)
            self._used = time.monotonic()
        if child.connection.fileno() in events:  # polled only for its close
            child.given_up = True
        if child.ended and child.given_up:
            self._children.remove(child)
            os.waitpid(child.pid, 0)
            child.close()


def _pidfd_of(pid: int) -> int:
    """A pidfd of a child. If there can be none, kills the child, and raises `OSError`."""
    if sys.platform != "linux":
        raise NotImplementedError
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _status_of(pid: int) -> int:
    """The wait status of a child that has ended, as of `os.waitpid`. The child stays a zombie."""
    if sys.platform != "linux":
        raise NotImplementedError
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    if found.si_code == os.CLD_EXITED:
        return int(found.si_status) << 8
    return int(found.si_status) | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def _may_go(connection: socket.socket, left_out: list[str]) -> bool:
    """Tell the program that asked that this process is ready; whether it answers with `GO`."""
    if sys.platform != "linux":
        raise NotImplementedError
    pidfd = os.pidfd_open(os.getpid())
    try:
        connection.settimeout(2 * ANSWER_TIMEOUT)
        send_message(connection, {"ready": os.getpid(), "left_out": left_out}, [pidfd])
        packet, descriptors = receive(connection)
        close_all(descriptors)
        return packet == GO
    except OSError:
        return False
    finally:
        os.close(pidfd)
        connection.close()


def _refuse(connection: socket.socket, reason: str, is_stale: bool = False) -> None:
    with suppress(OSError):
        send_message(connection, {"refused": reason[:2000], "stale": is_stale})
    connection.close()


def lock_place(path: str) -> int | None:
    """Lock the path of a shared template; the lock's descriptor. None if another template has it.

    Raises `OSError`.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def listen(path: str) -> socket.socket:
    """The listening socket of a shared template, whose path is locked. Raises `OSError`."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # the socket of a template that was killed
    listener = packet_socket()
    with short_name(path) as name:
        listener.bind(name)
    listener.listen(1024)
    listener.setblocking(False)
    return listener
