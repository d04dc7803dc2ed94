"""Tells the controller when its engine is gone, which the engine itself cannot do.

What is wanted
    Whoever waits for a call on an engine that crashes, is killed or exits by `os._exit` learns that
    at once. By missing heartbeats the controller finds out after half a minute.

What does not work
    A second interpreter that imports all it needs, as the stock engine has: it takes as long to
    start, and half the memory, of the engine.

What is done
    Before the engine has a thread it starts this very file as a program, without Python's site,
    which takes 6 MB. It has nothing but a pipe to the engine, over which it gets what it is to send
    should that end: ready frames, where to, and where the modules are that it needs for that. If
    the engine says good-bye itself, it gets an empty line, and sends nothing. It is nobody's child
    (it was forked twice), so that code which waits for its children does not meet it.
    Behind an engine that was forked there is a process already that waits for its end and has
    imported everything: that sends the frames, and needs no pipe for it (`warm.last_words`).

What remains
    Where there is no fork, or the process that has forked is killed, there are heartbeats. If
    somebody closes all descriptors of the engine, the pipe ends before the engine does: then the
    watcher waits for the process by its pidfd.
"""

from __future__ import annotations

import os
import sys

__all__ = ["Watcher", "start_watcher"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
LONGEST = 1 << 20  # bytes of what is to be sent


class Watcher:
    """Where the engine writes what is to be sent. Without a watcher (``fd`` is None) nothing is."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd

    def tell(self, url: str, frames: list[bytes], curve_serverkey: bytes | None) -> None:
        """Have these frames sent to ``url`` when this process is gone, in place of those before."""
        import json

        word = {
            "url": url,
            "frames": [frame.hex() for frame in frames],
            "curve": curve_serverkey.decode() if curve_serverkey else None,
            "path": sys.path,
        }
        self._write(json.dumps(word))

    def dismiss(self) -> None:
        """This process has said good-bye, or never was there."""
        self._write("")

    def _write(self, line: str) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, line.encode() + b"\n")
        except OSError:  # somebody has killed it, or closed the pipe
            self._fd = None


def start_watcher() -> Watcher:
    """Start a watcher of this process, which has no threads yet."""
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
    """Read until the engine is gone; then send what it has left."""
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
    if pidfd is not None:
        import select

        select.select([pidfd], [], [])
    line = lines.rpartition(b"\n")[0]
    if line:
        carry_out(line)


def _open_pidfd(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # it is gone already, or this is forbidden
        return None


def carry_out(line: bytes) -> None:
    """Send what a line says. Everything that takes memory is imported here.

    The module that sends is run by its path: its package would be imported with it, which takes
    five times as long as all the rest, and clients wait for this.
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
