"""Paths of ipc sockets: only the process that has bound a path removes it.

libzmq replaces any file that is at the path, also a socket at which another process listens. When
it closes its socket, it removes the file that is at the path by then. So the listening socket is
made here and handed to libzmq. A path that a dead process has left is taken over; a path at which
somebody listens is not.

What remains: between `bind` and `listen`, some microseconds, a path looks as if its process were
dead. A second kernel that begins with the same path in that moment takes it over.
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

_umask_lock = threading.Lock()  # two threads at once would restore each other's mask


@attrs.frozen
class BoundPath:
    """A path that a socket was bound to, and which file that was (device and inode)."""

    path: Path
    file: tuple[int, int] | None

    @classmethod
    def of(cls, path: Path) -> BoundPath:
        """The path with the file that is there now."""
        return cls(path, _file_at(path))

    def remove(self) -> None:
        """Remove the path, if it is still the same file.

        Call it before the socket is closed: after that a new file may get the same inode.
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
    """Bind to a path to which, from its creation on, only its owner may connect.

    Raises `OSError`, with ``EADDRINUSE`` if the path exists already, or `zmq.ZMQError`.

    This sets the umask of the whole process for a moment: a file that another thread makes in that
    moment is accessible to its owner only, too.
    """
    if sys.platform == "win32" or str(path).startswith("@"):  # "@": an abstract name, no file
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
        listening.detach()  # libzmq owns the descriptor now; it closes it, and leaves the path


def remove_stale(path: Path) -> None:
    """Remove the path of a socket at which nobody listens. Every other file stays."""
    if sys.platform == "win32" or not path.is_socket():
        return
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as asking:
        # A process that is stopped (SIGSTOP) still listens; with its queue full, this would block.
        asking.setblocking(False)
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return
