"""Waiting for the end of another process, and making sure that this one ends.

Another process is waited for without polling and without a thread, by what the system offers for
that: a pidfd on Linux, kqueue on macOS and BSD, the handle on Windows. Only on other systems is it
checked once a second whether the process still exists.

A thread that the user's code has left behind, or an exit handler, could keep this process alive
when it has nothing left to do. `run_to_the_end` limits the time that they have.
"""

from __future__ import annotations

import faulthandler
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

import trio

from ..errors import UsageError
from .stderr import report_crash, stderr_descriptor

__all__ = ["end_within", "run_to_the_end", "wait_for_process_end"]


async def wait_for_process_end(pid: int) -> None:
    """Wait until a process has ended; at once if there is no such process.

    On Windows ``pid`` is a handle. A child that has ended and was not yet waited for counts as
    ended. Cancelled, nothing is left open.
    """
    if sys.platform == "win32":
        await trio.lowlevel.WaitForSingleObject(pid)
    elif sys.platform == "linux":
        await _wait_by_pidfd(pid)
    elif hasattr(select, "kqueue"):
        await _wait_by_kqueue(pid)
    else:
        await _wait_by_polling(pid)


async def _wait_by_pidfd(pid: int) -> None:
    if sys.platform == "linux":
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # an old kernel, or one that forbids it
            await _wait_by_polling(pid)
            return
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)


async def _wait_by_polling(pid: int) -> None:
    while _is_there(pid):  # noqa: ASYNC110  # this system offers no event
        await trio.sleep(1)


def _is_there(pid: int) -> bool:
    if pid == os.getppid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if sys.platform != "win32" and sys.platform != "darwin":  # those two have events, see above
        with suppress(ChildProcessError):  # not our child; its own parent waits for it
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return True


async def _wait_by_kqueue(pid: int) -> None:
    if sys.platform != "linux" and sys.platform != "win32":
        kevent = select.kevent(
            pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
        )
        kqueue = trio.lowlevel.current_kqueue()
        try:
            kqueue.control([kevent], 0)
        except ProcessLookupError:
            return

        def abort(_: object) -> trio.lowlevel.Abort:
            with suppress(OSError):  # the event has just come
                kqueue.control([select.kevent(pid, kevent.filter, select.KQ_EV_DELETE)], 0)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_kevent(pid, select.KQ_FILTER_PROC, abort)


# Module-level names, which exist also when the user's code has emptied the builtins.
_ANYTHING, _MEANT = BaseException, (UsageError, SystemExit)
_CANNOT = (RuntimeError, ValueError, OSError)


def run_to_the_end(
    run: Callable[[], None],
    grace: float,
    report: Callable[[BaseException], object] = report_crash,
) -> None:
    """Call ``run``, which is the last thing that this process does.

    What ``run`` raises is given to ``report``, and the exit code is 1. `SystemExit` passes through,
    and so does `UsageError`, which comes before anything has run. After ``run`` the process has
    ``grace`` seconds to exit; then it is ended with the stacks of its threads on stderr, and exit
    code 1. With 0 seconds there is no limit.
    """
    try:
        run()
    except _MEANT:
        raise
    except _ANYTHING as error:
        try:
            report(error)
        except _ANYTHING:
            report_crash(error)
        end_within(grace)
        sys.exit(1)
    end_within(grace)


def end_within(grace: float) -> None:
    """From now on this process has ``grace`` seconds to exit, as in `run_to_the_end`; 0 is no
    limit.
    """
    if grace:
        with suppress(*_CANNOT):  # no thread can be started for the limit: then there is none
            faulthandler.dump_traceback_later(grace, exit=True, file=stderr_descriptor())
