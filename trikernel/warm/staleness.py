"""Whether a template's imports are what a new process would import: same files and environment.

Files: the interpreter, the folders that modules are found in, and every file that was imported. A
package that is installed, removed or upgraded changes one of these.

Environment: some variables are read by the interpreter and by libraries in C when they start
(`READ_AT_START`); others are read by name while the template imports, and `noted_reads` notes them.
If one of these has another value for the process that is asked for, that process might have started
differently, so the template does not fork it.
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
# Properties of a terminal. Imports read them, but nothing that a kernel shows depends on that.
OF_TERMINALS = frozenset({"TERM", "COLUMNS", "LINES", "COLORTERM", "TERM_PROGRAM"})


def is_read_at_start(name: str) -> bool:
    """Whether an environment variable is read by the interpreter as it starts, or by libraries in
    C, which `noted_reads` does not see.
    """
    return name.startswith(READ_AT_START) or name in ALSO


def differing(
    names: set[str], before: Mapping[str, str], environment: Mapping[str, str]
) -> str | None:
    """The name of a variable that has another value in ``environment`` than ``before``, or None.

    Only the variables in ``names`` and those that are read at start count.
    """
    at_start = {one for one in {*before, *environment} if is_read_at_start(one)}
    relevant = (names - OF_TERMINALS) | at_start
    return min((one for one in relevant if before.get(one) != environment.get(one)), default=None)


@contextmanager
def noted_reads() -> Iterator[set[str]]:
    """The names of the variables that are read from `os.environ` while the block runs.

    To copy all of them does not count as reading: programs make a copy to give it to a child.
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
    """The interpreter and the folders of `sys.path`, as they were at the creation of this object,
    and the files of modules, as they were at `note_modules`.
    """

    def __init__(self) -> None:
        self._folders = {path: _state(path) for path in sys.path if path}
        python = os.path.realpath(sys.executable)
        about = (python, sys.executable, str(Path(sys.prefix) / "pyvenv.cfg"))
        self._files = {path: _state(path) for path in about}

    def note_modules(self) -> None:
        """Add the files of all modules that are imported by now."""
        for module in tuple(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file not in self._files:
                self._files[file] = _state(file)

    def changed(self) -> str | None:
        """The path of one that has changed or is gone; None if all are as they were."""
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
