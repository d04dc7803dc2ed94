"""Modules that a template imports in advance. Those of other packages are tried in a child first.

An import cannot be undone. So each module that the user names is first imported in a forked child,
which reports what the import did, and ends. A template must have no thread and no connection: a
forked process would not have the threads, and would share the connections. A module that prints as
it is imported would not print into any cell. Some libraries, as OpenBLAS, stop their threads around
a fork; such threads do no harm. So a fork is tried, and the threads that exist after it count.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

__all__ = ["import_base", "preload", "threads_around_fork"]

ENTRY = "trikernel.cli.app"
# What a Python kernel imports until its first reply, for a cell, and to show an error. Modules that
# these import themselves are not listed.
_NAMES = """
    runpy trikernel.cli.app trikernel.kernel.cell_io trikernel.kernel.comms
    trikernel.kernel.fd_capture trikernel.python.async_magics trikernel.python.debugger
    trikernel.python.display trikernel.python.flags trikernel.python.frontend_magics
    trikernel.python.introspect trikernel.python.ipykernel_modules trikernel.python.kernel
    trikernel.python.magics trikernel.python.nested_runs trikernel.python.process
    trikernel.python.profile trikernel.python.shell trikernel.python.tracebacks
    trikernel.timeline.tree
    IPython.core.completerlib IPython.core.crashhandler IPython.core.doctb IPython.core.history
    IPython.core.logger IPython.core.magics.code IPython.core.oinspect IPython.core.payload
    IPython.core.ultratb IPython.extensions.storemagic IPython.terminal.pt_inputhooks
    comm.base_comm concurrent.futures.thread decimal fractions getopt importlib.resources
    logging.config pwd sqlite3 timeit
    pygments.filters pygments.formatters.html pygments.formatters.terminal256
    pygments.lexers.python pygments.token stack_data
"""
BASE = tuple(_NAMES.split())
_OWN = "trikernel."
_DRAWS_ERRORS = "trikernel.python.rendering"
TRIAL_TIMEOUT = 120  # seconds for an import
TEXT = 200  # characters of what a module has printed or raised


def import_base() -> None:
    """Import what every Python kernel needs, and do once what each of them would do after its
    start. That a module is missing is no error, as other kinds of kernels need less; only
    the command line's module has to be there: else this raises `ImportError`.
    """
    for name in BASE:
        try:
            importlib.import_module(name)
        except ImportError:
            if name == ENTRY:
                raise
    with suppress(ImportError):
        importlib.import_module(_DRAWS_ERRORS).draw_beforehand()


def preload(names: Iterable[str]) -> list[str]:
    """Import modules. Returns a line for each one that cannot be preloaded, with its name and the
    reason.

    Calls `os.fork`: nothing else may run in this process.
    """
    left_out: list[str] = []
    for name in names:
        reason = None if name.startswith(_OWN) else _try_in_child(name)
        if reason is None:
            try:
                importlib.import_module(name)
            # It worked in the child, but may fail here, also by `SystemExit`. No loop runs in a
            # template, so this catches no cancel.
            except BaseException as error:
                reason = f"raises {_shown(error)}"
        if reason is not None:
            left_out.append(f"{name} is left out: it {reason}")
    return left_out


def threads_around_fork() -> list[str]:
    """The threads that this process has after a fork, beside the main one. Those that Python does
    not know are all named ``a thread of a library in C``.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads at a fork
        pid = os.fork()
        if not pid:
            os._exit(0)
    os.waitpid(pid, 0)
    known = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    others = 0
    for _ in range(50):  # the system may list a thread for a moment after it was joined
        others = len(os.listdir("/proc/self/task")) - 1 - len(known)
        if others <= 0:
            break
        time.sleep(0.002)
    return known + ["a thread of a library in C"] * others


def _try_in_child(name: str) -> str | None:
    """Why a module cannot be preloaded, as a phrase that begins with a verb; None if it can."""
    if sys.platform != "linux":
        raise NotImplementedError
    report, printed = os.memfd_create("report"), os.memfd_create("printed")
    try:
        pid = os.fork()
        if not pid:
            _be_the_child(name, report, printed)
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            in_time = bool(poll.poll(TRIAL_TIMEOUT * 1000))
            if not in_time:
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not in_time:
            return f"is not imported within {TRIAL_TIMEOUT} seconds"
        text = os.pread(report, 65_536, 0).decode("utf-8", "replace")
        said = os.pread(printed, TEXT, 0).decode("utf-8", "replace").strip()
        if not text:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            return f"ends its process {how}{f' and prints {said!r}' if said else ''}"
        found: dict[str, Any] = json.loads(text)
        return found["wrong"] or (f"prints {said!r}" if said else None)
    finally:
        os.close(report)
        os.close(printed)


def _be_the_child(name: str, report: int, printed: int) -> None:
    """Import the module, write to ``report`` why it cannot be preloaded, and end this process."""
    try:
        for fd in (1, 2):
            os.dup2(printed, fd)
        before = _connections()
        wrong = None
        try:
            importlib.import_module(name)
        except BaseException as error:  # `SystemExit`, too: this process has nothing else to do
            wrong = f"raises {_shown(error)}"
        wrong = wrong or _left_behind(before)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.write(report, json.dumps({"wrong": wrong}).encode())
    finally:
        os._exit(0)


def _shown(error: BaseException) -> str:
    text = str(error).partition("\n")[0][:TEXT]
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def _left_behind(before: set[str]) -> str | None:
    """What the import has started that a forked process could not use: a thread, a socket, an
    event loop or a process; as `_try_in_child` returns it. ``before`` are the older connections.
    """
    threads = threads_around_fork()
    if threads:
        return f"starts a thread: {', '.join(threads)}"
    new = _connections() - before
    if new:
        kind = "opens a socket" if any(one.startswith("socket") for one in new) else "opens a loop"
        return kind
    if _children():
        return "starts a process"
    return None


def _connections() -> set[str]:
    """The sockets and event loops that this process has open, as the system names them."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(("socket:", "anon_inode:[eventpoll", "anon_inode:[io_uring")):
            found.add(target if target.startswith("socket") else f"{target}{fd}")
    return found


def _children() -> str:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return file.read().strip()
    except OSError:
        return ""
