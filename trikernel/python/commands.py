"""Programs that a cell starts by IPython's syntax: ``!ls``, ``files = !ls``, ``%%bash``.

In IPython an interrupt only ends the program, as if it had failed: after ``!cmd`` the cell goes on
with its next line, ``%%bash`` raises `CalledProcessError`, and child processes of the program live
on. Here each program leads a process group of its own. An interrupt ends the whole group, and is
then raised in the cell like any other interrupt. There is nobody to type: a program that reads its
standard input gets the end of file at once, and one that opens the terminal fails. On Windows,
which has no such groups, programs are run as IPython runs them.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from IPython.core.magic import cell_magic, line_magic, magics_class
from IPython.core.magics import script
from IPython.utils.process import arg_split, system

__all__ = ["ScriptMagics", "finish", "get_output", "refuse_background", "run_in_terminal"]

GRACE = 0.2  # seconds that an interrupted program has to end by itself
_POLL = 0.05  # seconds that one read of output waits
_CHUNK = 1 << 16  # bytes


def refuse_background(command: str) -> None:
    """Raise `OSError` for a command that ends in ``&``."""
    if command.rstrip().endswith("&"):
        raise OSError("a command in the background has no end: use subprocess.Popen for it")


def finish(shell: Any, command: str, status: int) -> None:
    """Note the exit status of a command, and raise `CalledProcessError` if that is wanted."""
    shell.user_ns["_exit_code"] = status
    if shell.system_raise_on_error and status != 0:
        raise subprocess.CalledProcessError(status, command)


def run_in_terminal(command: str) -> int:
    """Run a command of the user's shell in a pseudo-terminal, and print what it prints.

    Its standard input is empty. Returns the exit status; a negative one is the number of the signal
    that ended it. An interrupt passes through, after all processes of the command have been ended.
    """
    if sys.platform == "win32":
        return int(system(command) or 0)
    import pexpect

    shell = pexpect.which(os.environ.get("SHELL", "sh"))
    if shell is None:
        raise OSError(f"there is no shell {os.environ.get('SHELL', 'sh')!r}")
    child = pexpect.spawn(
        shell, ["-c", command], maxread=_CHUNK, timeout=None, preexec_fn=_read_nothing
    )
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def show(until: float | None = None) -> None:
        """Print the output until it ends, or until that time of the monotonic clock."""
        while until is None or time.monotonic() < until:
            try:
                text = decoder.decode(child.read_nonblocking(_CHUNK, _POLL))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return
            print(text, end="", flush=True)

    try:
        with _ended_by_interrupt(child.pid, lambda: show(time.monotonic() + GRACE)):
            show()
    finally:
        child.close(force=True)  # also waits for the child process, so that no zombie is left
    if child.signalstatus is not None:
        return -int(child.signalstatus)
    status = int(child.exitstatus or 0)
    return 128 - status if status > 128 else status  # a shell reports signal N as 128 + N


def _read_nothing() -> None:
    """Runs in the child process before its program: makes standard input empty, and gives up the
    terminal, so that ``/dev/tty``, which programs open to ask for a password, cannot be opened. Its
    output still is a terminal, with colours and columns.
    """
    if sys.platform == "win32":
        return
    import fcntl
    import termios

    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # TIOCNOTTY sends SIGHUP
    with suppress(OSError):
        fcntl.ioctl(1, termios.TIOCNOTTY)
    signal.signal(signal.SIGHUP, hangup)


def get_output(command: str) -> tuple[str, int]:
    """Run a command of the user's shell. Returns its output, stderr included, and its exit status.

    An interrupt passes through, after all processes of the command have been ended.
    """
    if sys.platform == "win32":
        ended = subprocess.run(
            command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return ended.stdout.decode(errors="replace"), ended.returncode
    shell = os.environ.get("SHELL")
    texts: list[str] = []
    status = _run(
        command,
        b"",
        texts.append,
        texts.append,
        stderr=subprocess.STDOUT,
        shell=True,
        executable=shell,
    )
    return "".join(texts), status


@magics_class
class ScriptMagics(script.ScriptMagics):
    """``%%script``, ``%%bash`` and similar magics. The class has the same name as IPython's, by
    which ``%config`` finds it.
    """

    @cell_magic("script")
    def shebang(self, line: str, cell: str) -> None:
        """Run a cell by a program; see IPython's documentation for the options."""
        words = arg_split(line, posix=sys.platform != "win32")
        options, command = script.ScriptMagics.shebang.parser.parse_known_args(words)
        if options.bg or sys.platform == "win32":
            super().shebang(line, cell)
            return
        names = self.shell.user_ns
        sinks = []
        for name, stream in ((options.out, sys.stdout), (options.err, sys.stderr)):
            sinks.append(_appends_to(names, name) if name else _writes_to(stream))
        source = (cell if cell.endswith("\n") else cell + "\n").encode("utf8", "replace")
        try:
            status = _run(command, source, *sinks)
        except FileNotFoundError:
            print(f"Couldn't find program: {command[0]!r}")
            return
        if options.raise_error and status != 0:
            raise subprocess.CalledProcessError(status, source)

    @line_magic  # defined again, because a class registers only the magics that it defines itself
    def killbgscripts(self, line: str = "") -> None:
        """End what ``%%script --bg`` and its like have started."""
        super().killbgscripts(line)

    shebang.parser = script.ScriptMagics.shebang.parser


def _appends_to(names: dict[str, Any], name: str) -> Callable[[str], object]:
    names[name] = ""

    def append(text: str) -> None:
        names[name] += text

    return append


def _writes_to(stream: Any) -> Callable[[str], object]:
    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return write


def _run(
    command: str | Sequence[str],
    source: bytes,
    out: Callable[[str], object],
    err: Callable[[str], object],
    **options: Any,
) -> int:
    """Run a program with ``source`` as its standard input. Returns its exit status."""
    pipe = subprocess.PIPE
    pipes = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **options}
    with (
        subprocess.Popen(command, start_new_session=True, **pipes) as process,
        _ended_by_interrupt(process.pid, lambda: process.wait(GRACE)),
    ):
        _communicate(process, source, out, err)
        return process.wait()


def _communicate(
    process: subprocess.Popen[bytes],
    source: bytes,
    out: Callable[[str], object],
    err: Callable[[str], object],
) -> None:
    """Write the input and pass on output as it comes, all in the calling thread, where an interrupt
    is raised.
    """
    if sys.platform == "win32":  # select cannot wait for pipes there
        raise NotImplementedError
    assert process.stdin is not None
    left = memoryview(source)
    with selectors.DefaultSelector() as waiting:
        for stream, sink in ((process.stdout, out), (process.stderr, err)):
            if stream is not None:
                decoder = codecs.getincrementaldecoder("utf-8")("replace")
                waiting.register(stream, selectors.EVENT_READ, (sink, decoder))
        os.set_blocking(process.stdin.fileno(), False)
        waiting.register(process.stdin, selectors.EVENT_WRITE)
        while waiting.get_map():
            for key, _ in waiting.select():
                if key.fileobj is process.stdin:
                    left = _feed(process.stdin, left)
                    if not left:
                        waiting.unregister(process.stdin)
                        with suppress(BrokenPipeError):
                            process.stdin.close()
                    continue
                sink, decoder = key.data
                data = os.read(key.fd, _CHUNK)
                if text := decoder.decode(data, not data):
                    sink(text)
                if not data:
                    waiting.unregister(key.fileobj)


def _feed(stream: Any, left: memoryview) -> memoryview:
    """Write as much as the pipe has room for. Returns the rest."""
    try:
        return left[os.write(stream.fileno(), left[:_CHUNK]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:  # the program has closed its input
        return left[:0]


@contextmanager
def _ended_by_interrupt(pid: int, wait: Callable[[], object]) -> Iterator[None]:
    """End a process group if the body raises: SIGINT, then SIGKILL once ``wait()`` has returned.

    A second interrupt, during ``wait()``, goes to SIGKILL at once.
    """
    try:
        yield
    except BaseException:
        try:
            _signal_group(pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                wait()
        finally:
            _signal_group(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        raise


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            os.kill(pid, number)
        else:
            os.killpg(pid, number)
