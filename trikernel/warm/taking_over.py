"""What a forked process takes over, to be as if the program that asked for it had started it.

A process that is started in the ordinary way gets from its parent: standard streams, working
directory, environment, umask, limits, priority, processors, signals; `become` sets these in the
forked process, which also gets a session of its own. Other things every process makes for itself:
random states, keys, the folder for temporary files. All forks of a template would have the same
ones, so `Own` makes new ones. Knows nothing of kernels.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

__all__ = ["Own", "become", "surroundings"]


def surroundings() -> dict[str, Any]:
    """What a process that this one starts inherits from it, beside environment and files."""
    if sys.platform != "linux":
        return {}
    import resource

    limits = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # A process inherits which signals are ignored, but no handlers.
    ignored = [int(one) for one in signal.valid_signals() if _is_ignored(one)]
    return {
        "umask": _umask(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in limits},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)),
        "blocked": sorted(map(int, blocked)),
        "ignored": ignored,
    }


def _is_ignored(number: int) -> bool:
    if sys.platform == "win32" or number in (signal.SIGPIPE, signal.SIGXFSZ):
        return False  # Python ignores these itself, and restores them in a child
    return signal.getsignal(number) is signal.SIG_IGN


def _umask() -> int:
    """The umask of this process. `os.umask` can read it only by setting another one for a moment,
    in which another thread might make a file; so that is used only where /proc does not tell it.
    """
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class Own:
    """What each forked process has to have for itself. Made before the template imports anything:
    it keeps the setting of `tempfile` from then, which `renew` puts back.
    """

    def __init__(self) -> None:
        tempfile = _imported("tempfile")
        self._tempdir = None if tempfile is None else tempfile.tempdir

    def renew(self) -> None:
        """Make new random states and keys, in those modules that are imported; put back the folder
        for temporary files, and set the main thread's native id.
        """
        # Modules are looked up one by one: to copy `sys.modules` would write to the reference count
        # of each module, and so to memory that is shared with the template otherwise.
        tempfile, random = _imported("tempfile"), _imported("random")
        if tempfile is not None:
            tempfile.tempdir = self._tempdir
        if random is not None:
            random.seed()
        numpy_random, ssl = _imported("numpy.random"), _imported("ssl")
        if numpy_random is not None:
            numpy_random.seed()
        if ssl is not None:
            ssl.RAND_add(os.urandom(64), 64.0)
        process = _imported("multiprocessing.process")
        if process is not None:
            process.current_process().authkey = os.urandom(32)
        thread: Any = threading.main_thread()
        if hasattr(thread, "_set_native_id"):
            thread._set_native_id()


def _imported(name: str) -> Any:
    return sys.modules.get(name)


def become(request: dict[str, Any], cwd: int, standard: Sequence[int]) -> None:
    """Set in this process what ``request`` has: what `surroundings` returned in the program that
    asks, the environment and the command.

    ``cwd`` is a descriptor of the working directory, ``standard`` has those for 0, 1 and 2. All are
    closed. Raises `OSError` or `ValueError` for a setting that this process is not allowed.
    """
    if sys.platform != "linux":
        return
    import resource

    os.setsid()
    for name, limit in request["limits"].items():
        if hasattr(resource, name) and resource.getrlimit(getattr(resource, name)) != tuple(limit):
            resource.setrlimit(getattr(resource, name), tuple(limit))
    if os.getpriority(os.PRIO_PROCESS, 0) != request["nice"]:
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    if sorted(os.sched_getaffinity(0)) != request["processors"]:
        os.sched_setaffinity(0, request["processors"])
    os.umask(request["umask"])
    os.fchdir(cwd)
    os.close(cwd)
    for number, fd in enumerate(standard):
        os.dup2(fd, number)
        os.close(fd)
    _open_streams()
    _set_environment(request["environment"])
    sys.orig_argv = list(request["command"])
    _set_signals(request["ignored"], request["blocked"])


def _set_environment(environment: dict[str, str]) -> None:
    for name in [one for one in os.environ if one not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    if sys.platform != "win32":
        time.tzset()


def _set_signals(ignored: Sequence[int], blocked: Sequence[int]) -> None:
    """Set the handlers and the mask that an interpreter would have after its start."""
    for number in signal.valid_signals():
        wanted: Any = signal.SIG_IGN if number in ignored else signal.SIG_DFL
        if number == signal.SIGINT and wanted is signal.SIG_DFL:
            wanted = signal.default_int_handler
        if sys.platform != "win32" and number in (signal.SIGPIPE, signal.SIGXFSZ):
            wanted = signal.SIG_IGN
        if signal.getsignal(number) is not wanted:
            with suppress(OSError, ValueError):  # SIGKILL and SIGSTOP cannot be set
                signal.signal(number, wanted)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    faulthandler = _imported("faulthandler")
    if faulthandler is not None and faulthandler.is_enabled():  # `signal` cannot see its handlers
        faulthandler.disable()
        faulthandler.enable()


def _open_streams() -> None:
    """New stream objects on descriptors 0 to 2, as the interpreter opens them: whether one is a
    terminal decides on its buffering.

    The old stream objects write to the same descriptors, for code that has kept one of them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, f"__{name}__")
        file: Any = io.FileIO(number, "wb" if number else "rb", closefd=False)
        file.name = f"<{name}>"
        if not isinstance(getattr(before, "buffer", None), io.RawIOBase):  # as with python -u
            file = io.BufferedWriter(file) if number else io.BufferedReader(file)
        stream = io.TextIOWrapper(
            file,
            encoding=getattr(before, "encoding", "utf-8"),
            errors=getattr(before, "errors", "surrogateescape"),
            newline="\n" if number else None,
            line_buffering=number == 2 or os.isatty(number),
            write_through=getattr(before, "write_through", False),
        )
        stream.__dict__["mode"] = "w" if number else "r"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
