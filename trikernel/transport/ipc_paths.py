"""Paths of ipc sockets: bound by one who listens, removed by that one only.

libzmq binds over whatever is there, also a path that somebody listens at, and when it closes the
socket it removes whatever is there by then. So the listening socket is made here. A path that is
left over from a process that is gone is taken over; one at which somebody listens is not.
"""

from __future__ import annotations

import os
import socket as sockets
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import zmq

__all__ = ["BoundPath", "bind_path", "remove_stale"]

BACKLOG = 100  # connections that wait to be accepted; libzmq's own default

_umask_lock = threading.Lock()  # two at once would restore each other's


@attrs.frozen
class BoundPath:
    """A path that a socket was bound to, and which file that was."""

    path: Path
    file: tuple[int, int] | None

    @classmethod
    def of(cls, path: Path) -> BoundPath:
        """As it is now."""
        return cls(path, _file_at(path))

    def remove(self) -> None:
        """Remove it, if it is still that file.

        Before the socket is closed: afterwards another file may have the same number.
        """
        if self.file is not None and _file_at(self.path) == self.file:
            self.path.unlink(missing_ok=True)


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def bind_path(socket: zmq.Socket[Any], path: Path) -> None:
    """Bind to a path that only its owner may connect to, from the moment in which it is there.

    Raises `OSError`, with ``EADDRINUSE`` if anything is there already, or `zmq.ZMQError`.

    The mask is the whole process's: what another thread makes meanwhile is its owner's alone, too.
    """
    if sys.platform == "win32" or str(path).startswith("@"):  # a name that is no file
        socket.bind(f"ipc://{path}")
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as listening:
        listening.setblocking(False)
        with _umask_lock:
            mask = os.umask(0o077)
            try:
                listening.bind(os.fspath(path))
            finally:
                os.umask(mask)
        try:
            path.chmod(0o600)
            listening.listen(BACKLOG)
            socket.set(zmq.USE_FD, listening.fileno())
            socket.bind(f"ipc://{path}")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        listening.detach()  # it is libzmq's, which closes it and leaves the path alone


def remove_stale(path: Path) -> None:
    """Remove a socket's path at which nobody listens; what else is there stays."""
    if sys.platform == "win32" or not path.is_socket():
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as asking:
        asking.setblocking(False)  # one that is stopped has a full queue, and listens all the same
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return
