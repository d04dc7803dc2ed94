"""``trikernel run``: runs notebooks, several at a time, each with a kernel of its own.

Each kernel is a process, because the working directory, ``__main__`` and the file descriptors
belong to a process. This process is only their client, and shows the outputs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from ..client import room_for_kernels
from ..client.notebooks import (
    KernelFaultWarning,
    KernelRestartedWarning,
    NotebookWriter,
    OutputNotWritten,
    parse_value,
    read_notebook,
    run_notebook,
)
from ..errors import KernelDied, KernelNotReady, TrikernelError, UsageError
from ..system import harmless
from ..warm import ForkServer
from .screen import Board, Screen, ScreenError, View

__all__ = ["run_files"]

OK, FAILED, USAGE, DIED = 0, 1, 2, 3


@attrs.frozen(eq=False)
class Job:
    """One notebook to run, the file for its output, and the number of its code cells."""

    path: Path
    output: Path | None
    cells: int


def run_files(options: argparse.Namespace, warm: ForkServer | None = None) -> int:
    """Run notebooks; ``warm`` starts their kernels if it is given. Returns the exit code.

    Raises `UsageError`, before anything runs, for files and parameters that cannot be used.
    """
    jobs = _plan(options)
    runs = _Runs(options, warm)
    view: View = Screen(jobs[0].cells) if len(jobs) == 1 else Board(len(jobs))
    try:
        with view, _shown_warnings(view):
            code = trio.run(runs.run, jobs, view)
            view.summary(code)
            return code
    except ScreenError as error:
        _forget_stdout()
        text = f"trikernel: error: the outputs cannot be written to standard output: {error}"
        print(text, file=sys.stderr)
        return FAILED  # cells have been run, so it is no error of the call


@contextmanager
def _shown_warnings(view: View) -> Iterator[None]:
    """Show warnings about kernels as lines of the view; other warnings as Python does."""
    ours = (KernelFaultWarning, KernelRestartedWarning)
    with warnings.catch_warnings():
        for one in ours:
            warnings.simplefilter("always", one)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *args: Any) -> None:
            if issubclass(category, ours):
                view.warn(str(message))
            else:
                show(message, category, *args)

        warnings.showwarning = shown  # type: ignore[assignment]
        yield


class _Runs:
    """Runs jobs, a limited number at a time, until all have ended or a signal comes."""

    def __init__(self, options: argparse.Namespace, warm: ForkServer | None) -> None:
        self._options = options
        self._warm = warm
        self._limit = trio.CapacityLimiter(1)
        self._codes = [OK]
        given = {name: parse_value(text) for name, text in options.parameter}
        self._parameters = {**given, **dict(options.raw_parameter)}

    async def run(self, jobs: Sequence[Job], view: View) -> int:
        """Run all jobs. Returns the highest exit code; after a signal, 128 + its number."""
        self._limit.total_tokens = _jobs_at_once(self._options.jobs, len(jobs), view)
        try:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                await nursery.start(_cancel_on_signals, scope, self._codes)
                with scope:
                    async with trio.open_nursery() as running:
                        for job in jobs:  # in their order, each when the limit allows it
                            await self._limit.acquire_on_behalf_of(job)
                            running.start_soon(self._run_one, job, view)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        return max(self._codes)

    async def _run_one(self, job: Job, view: View) -> None:
        options, progress = self._options, view.open(job.path, job.cells)
        try:
            await run_notebook(
                job.path,
                job.output,
                kernel_name=options.kernel,
                parameters=self._parameters,
                allow_errors=options.allow_errors,
                cell_timeout=options.cell_timeout,
                timeout=options.timeout,
                cwd=options.cwd,
                progress=progress,
                warm=self._warm,
            )
        except ScreenError:
            raise
        except Exception as error:  # the boundary of one notebook: the others go on
            self._codes.append(_code(error))
            if not isinstance(error, TrikernelError):  # a bug of trikernel: show the traceback
                lines = "".join(traceback.format_exception(error))
                print(harmless(lines, colours=False), file=sys.stderr, end="")
            progress.failed(error)
        else:
            progress.finished()
        finally:
            self._limit.release_on_behalf_of(job)


def _jobs_at_once(asked: int | None, jobs: int, view: View) -> int:
    """How many notebooks run at a time: as many as were asked for, or as the limit of open files
    allows.

    Raises `UsageError` if it does not allow one.
    """
    wanted = min(asked or os.cpu_count() or 1, jobs)
    room = room_for_kernels()
    if room is None or room >= wanted:
        return wanted
    if room < 1:
        raise UsageError("the limit of open files (ulimit -n) is too low to speak to a kernel")
    if asked is not None:
        view.warn(
            f"{room} notebooks at most are run at once: the limit of open files (ulimit -n) "
            "leaves room for no more"
        )
    return room


async def _cancel_on_signals(
    scope: trio.CancelScope,
    codes: list[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """End the run in order on Ctrl-C, SIGTERM or SIGHUP: cells are stopped, notebooks are written.

    That takes a limited time, and a second signal does not interrupt it.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        numbers.append(signal.SIGHUP)
    with trio.open_signal_receiver(*numbers) as signals:
        task_status.started()
        async for number in signals:
            codes.append(128 + number)  # higher than all other exit codes
            scope.cancel()


def _plan(options: argparse.Namespace) -> list[Job]:
    """Check every file before the first notebook is run. Raises `UsageError`."""
    if options.inplace and options.output is not None:
        raise UsageError("--inplace and --output exclude each other")
    if options.cwd is not None and not Path(options.cwd).is_dir():
        raise UsageError(f"--cwd: there is no folder {options.cwd}")
    jobs: list[Job] = []
    for path in map(Path, options.notebooks):
        notebook = read_notebook(path)
        target = _target(options, path)
        if target is not None:
            if not options.inplace and target.resolve() == path.resolve():
                raise UsageError(
                    f"{target}: this is the notebook itself, to write it say --inplace"
                )
            if any(job.output and job.output.resolve() == target.resolve() for job in jobs):
                raise UsageError(f"{target}: two notebooks would be written there")
            NotebookWriter(notebook, target)
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        jobs.append(Job(path, target, cells))
    return jobs


def _target(options: argparse.Namespace, path: Path) -> Path | None:
    """The output file of a notebook, always an ``.ipynb``; None for no output."""
    if options.inplace:
        if path.suffix != ".ipynb":
            raise UsageError(f"notebook {path}: --inplace needs an .ipynb file")
        return path
    if options.output is None:
        return None
    output = Path(options.output)
    if output.is_dir() and options.output:
        return output / path.with_suffix(".ipynb").name
    if len(options.notebooks) > 1:
        raise UsageError(f"--output: {output} must be a folder that exists")
    if output.suffix != ".ipynb":
        raise UsageError(f"--output: {options.output!r} must be an .ipynb file, or a folder")
    return output


def _code(error: Exception) -> int:
    if isinstance(error, UsageError) and not isinstance(error, OutputNotWritten):
        return USAGE
    return DIED if isinstance(error, (KernelDied, KernelNotReady)) else FAILED


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in nested groups, usually a `ScreenError`."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _forget_stdout() -> None:
    """Keep Python from flushing stdout at exit: what it still buffers cannot be written either."""
    sys.stdout = sys.__stdout__ = None  # type: ignore[misc]
