"""Whether what a template has imported is still what an import would find, and in what environment.

Files: the interpreter, the folders that modules are found in, and every file that was imported. A
package that is installed, removed or upgraded changes one of these.

Environment: some variables the interpreter and libraries in C read as they begin (`READ_AT_START`);
those that were read by name while the template imported are noted by `noted_reads`. A process for
which one of either has another value would have started otherwise, so it is none for the template.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["Files", "differing", "is_read_at_start", "noted_reads"]

READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_", "SSL_", "OPENSSL_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "CUDA_"),
)
ALSO = frozenset({"LANG", "LANGUAGE"})
# How a terminal looks: importing differs by it in nothing that a kernel shows.
OF_TERMINALS = frozenset({"TERM", "COLUMNS", "LINES", "COLORTERM", "TERM_PROGRAM"})


def is_read_at_start(name: str) -> bool:
    """Whether an environment variable acts before any Python code runs, or beneath it."""
    return name.startswith(READ_AT_START) or name in ALSO


def differing(
    names: set[str], before: Mapping[str, str], environment: Mapping[str, str]
) -> str | None:
    """A variable that makes this environment another one than it was ``before``, or None.

    ``names`` are those that count beside what is read at start.
    """
    at_start = {one for one in {*before, *environment} if is_read_at_start(one)}
    relevant = (names - OF_TERMINALS) | at_start
    return min((one for one in relevant if before.get(one) != environment.get(one)), default=None)


@contextmanager
def noted_reads() -> Iterator[set[str]]:
    """The variables that are read by name in `os.environ` while the block runs.

    A copy of all of them counts as no read: programs take one to hand it on.
    """
    names: set[str] = set()
    environ: Any = os.environ
    plain = type(environ)
    handed_on: list[str] = [""]

    class Noting(plain):  # type: ignore[valid-type, misc]
        def __iter__(self) -> Iterator[str]:
            for name in plain.__iter__(self):
                handed_on[0] = name
                yield name

        def __getitem__(self, name: str) -> str:
            if name != handed_on[0]:
                names.add(name)
            handed_on[0] = ""
            value: str = plain.__getitem__(self, name)
            return value

    environ.__class__ = Noting
    try:
        yield names
    finally:
        environ.__class__ = plain


class Files:
    """The files and folders that imports have come from, as they are at its creation."""

    def __init__(self) -> None:
        self._folders = {path: _state(path) for path in sys.path if path}
        python = os.path.realpath(sys.executable)
        about = (python, sys.executable, str(Path(sys.prefix) / "pyvenv.cfg"))
        self._files = {path: _state(path) for path in about}

    def note_modules(self) -> None:
        """Those of the modules that are imported by now, too."""
        for module in tuple(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file not in self._files:
                self._files[file] = _state(file)

    def changed(self) -> str | None:
        """One that is another by now, or is gone; None if all are as they were."""
        for known in (self._folders, self._files):
            for path, state in known.items():
                if _state(path) != state:
                    return path
        return None


def _state(path: str) -> tuple[int, ...]:
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return (found.st_mtime_ns, found.st_size, found.st_ino)
    return ()
