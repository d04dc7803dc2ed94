"""Tells the controller that an engine's process has ended, if the engine could not do so itself.

What is wanted
    If an engine crashes, is killed or exits by `os._exit`, the clients that wait for its calls
    learn of it at once. By missing heartbeats the controller finds out only after half a minute.

What does not work
    A second interpreter that imports all it needs, as the stock engine has: it takes as long to
    start as the engine, and half as much memory.

What is done
    Before the engine starts a thread, it starts this file as a program of its own, the *watcher*,
    without Python's ``site`` module: that takes 6 MB. Over a pipe the engine tells it what to send
    when the engine has ended: complete frames, the address, and the path of the modules that are
    needed for that. An engine that tells the controller itself writes an empty line, and then the
    watcher sends nothing. The watcher is forked twice, so it is not the engine's child, and code on
    the engine that waits for its child processes does not find it.

    An engine that was forked by a fork server needs no watcher: the process that has forked it
    waits for its end anyway, and has imported everything. The engine writes its lines into a file
    in memory, and that process has the frames sent (`warm.last_words`).

What remains
    On a system without fork, or if the fork server's process is killed, the controller finds out by
    missing heartbeats. If code closes all descriptors of the engine, the pipe ends before the
    engine does: then the watcher waits for the process by its pidfd.
"""

from __future__ import annotations

import os
import sys

__all__ = ["Watcher", "start_watcher"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
LONGEST = 1 << 20  # bytes of a line


class Watcher:
    """The engine's end: writes what is to be sent to ``fd``. With None nothing is ever sent."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd

    def tell(self, url: str, frames: list[bytes], curve_serverkey: bytes | None) -> None:
        """Have these frames sent to ``url`` when this process has ended; replaces earlier ones."""
        import json

        word = {
            "url": url,
            "frames": [frame.hex() for frame in frames],
            "curve": curve_serverkey.decode() if curve_serverkey else None,
            "path": sys.path,
        }
        self._write(json.dumps(word))

    def dismiss(self) -> None:
        """Have nothing sent: this process tells the controller itself, or has never registered."""
        self._write("")

    def _write(self, line: str) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, line.encode() + b"\n")
        except OSError:  # the watcher was killed, or code has closed the pipe
            self._fd = None


def start_watcher() -> Watcher:
    """Start a watcher of this process, which must have no other threads yet, as this forks."""
    fd = getattr(sys.modules.get("trikernel.warm.last_words"), "descriptor", None)
    if fd is not None:
        return Watcher(fd)
    if not hasattr(os, "fork"):
        return Watcher()
    reading, writing = os.pipe()
    engine = os.getpid()
    child = os.fork()
    if child:
        os.close(reading)
        os.waitpid(child, 0)
        return Watcher(writing)
    try:
        if os.fork() == 0:
            os.set_inheritable(reading, True)
            command = [sys.executable, "-S", "-E", "-s", __file__, str(reading), str(engine)]
            os.execv(sys.executable, command)
    finally:
        os._exit(0)


def watch(reading: int, engine: int) -> None:
    """The watcher's program: read the pipe until the engine has ended, then send what its last line
    says.
    """
    import signal

    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    pidfd = _open_pidfd(engine)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    lines = b""
    while piece := os.read(reading, 1 << 16):
        lines = (lines + piece)[-LONGEST:]
        if lines.endswith(b"\n"):
            lines = lines[lines.rfind(b"\n", 0, -1) + 1 :]
    if pidfd is not None and sys.platform != "win32":
        import select

        poll = select.poll()  # `select.select` takes descriptors below 1,024 only
        poll.register(pidfd, select.POLLIN)
        poll.poll()
    line = lines.rpartition(b"\n")[0]
    if line:
        carry_out(line)


def _open_pidfd(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # the process has ended already, or the system forbids this
        return None


def carry_out(line: bytes) -> None:
    """Send the frames of a line. Everything that takes memory is imported here, when it is needed.

    The module that sends is run by its path, because importing it would import its package, which
    takes five times as long as all the rest, and clients wait for this.
    """
    import json
    import runpy

    word = json.loads(line)
    sys.path[:] = word["path"]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    farewell = runpy.run_path(os.path.join(package, "transport", "farewell.py"))
    curve = word["curve"].encode() if word["curve"] else None
    farewell["send_farewell"](word["url"], [bytes.fromhex(one) for one in word["frames"]], curve)


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
