"""``trikernel conform``: checks whether a kernel meets the requirements, and reports it."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import trio

from ..conformance import (
    Result,
    as_json,
    as_junit,
    as_lines,
    find_kernelspec,
    open_file,
    open_kernelspec,
    read_samples,
    run_checks,
    select,
    summary,
)
from ..errors import KernelNotReady, UsageError

__all__ = ["conform"]


def conform(options: argparse.Namespace) -> int:
    """Check a kernel. Returns the exit code: 1 if it misses a requirement or does not start, else
    0. Raises `UsageError`.
    """
    requirements = select(options.feature)
    samples = read_samples(options.samples) if options.samples else None
    is_file = os.path.sep in options.kernel or options.kernel.endswith(".json")
    if is_file and options.over is not None:
        raise UsageError("--over: a kernel that runs already listens where its file says")
    if options.junit:
        _write(options.junit, "")  # fail before the checks if the file cannot be written
    opener = (
        partial(open_file, options.kernel)
        if is_file
        else partial(open_kernelspec, find_kernelspec(options.kernel), options.over or "tcp")
    )

    def show(result: Result) -> None:
        if not options.json and (options.verbose or result.outcome != "met"):
            print("\n".join(map(_printable, as_lines(result))), flush=True)

    check = partial(run_checks, can_reopen=not is_file, tell=show)
    try:
        results = trio.run(check, requirements, opener, samples)
    except KernelNotReady as error:
        print(f"trikernel: error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(as_json(results, options.kernel))
    else:
        print(f"{options.kernel}: {summary(results)}")
    if options.junit:
        _write(options.junit, as_junit(results, options.kernel))
    return int(any(one.outcome == "missed" for one in results))


def _printable(line: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"--junit: {path} cannot be written: {error.strerror}") from None
