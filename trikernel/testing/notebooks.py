"""Notebooks as tests: finds them in folders, runs them, and shows the cell that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from ..client import Client, Execution, run_notebook
from ..errors import CellFailed, ExecutionTimeout, TrikernelError
from ..warm import ForkServer, warm_is_possible
from .client import CheckedClient, describe

__all__ = ["NotebookCase", "NotebookFile", "NotebookItem", "find_notebooks"]

FEW = 2  # with up to so many notebooks a fork server takes more time than it saves
_SERVER = pytest.StashKey[ForkServer | None]()
IGNORED = frozenset({"node_modules", "__pycache__", "venv", "build", "dist"})


def find_notebooks(folders: Sequence[Path]) -> list[Path]:
    """All ``.ipynb`` files among these paths and below these folders, but not in hidden folders or
    those of `IGNORED`.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        paths = sorted(folder.rglob("*.ipynb")) if folder.is_dir() else [folder]
        for path in paths:
            inner = path.relative_to(folder).parts if folder.is_dir() else ()
            hidden = any(part.startswith(".") or part in IGNORED for part in inner)
            if path.suffix == ".ipynb" and not hidden:
                found[path.resolve()] = None
    return list(found)


class NotebookCase:
    """A notebook under test; ``path`` is its file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<notebook {self.path}>"

    async def run(self, client: Client | None = None, **options: Any) -> Any:
        """Run it and assert that every cell succeeds. Returns the notebook with its outputs.

        It runs on ``client``'s kernel (that of the fixture ``kernel_client`` is in memory, under
        the clock of the test), or on a kernel process of its own. ``options`` are those of
        `run_notebook`. Raises `AssertionError`, which shows the cell that failed, its outputs and
        the kernel's log.
        """
        __tracebackhide__ = True
        try:
            return await run_notebook(self.path, client=client, **options)
        except (CellFailed, ExecutionTimeout) as error:
            log = client.log_tail() if isinstance(client, CheckedClient) else ""
            execution = error.execution
            shown = describe(execution, log) if isinstance(execution, Execution) else log
            raise AssertionError(f"{self.path.name}: {error}\n{shown}") from None


class NotebookItem(pytest.Item):
    """A test that runs one notebook, on a kernel process."""

    obj: object = None  # pytest-trio reads this attribute

    def runtest(self) -> None:
        """Run the notebook."""
        trio.run(partial(NotebookCase(self.path).run, warm=_fork_server(self.session)))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The text of the failure, without frames of this package."""
        if isinstance(excinfo.value, AssertionError | TrikernelError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The place of the test: the notebook's file."""
        return self.path, 0, self.name


def _fork_server(session: pytest.Session) -> ForkServer | None:
    """The fork server of the session; None if too few notebooks are run for it to save time."""
    stash = session.config.stash
    if _SERVER not in stash:
        count = sum(isinstance(item, NotebookItem) for item in session.items)
        server = ForkServer() if count > FEW and warm_is_possible() is None else None
        stash[_SERVER] = server
        if server is not None:
            session.config.add_cleanup(server.close)
            server.start()
    return stash[_SERVER]


class NotebookFile(pytest.File):
    """A notebook that pytest has found."""

    def collect(self) -> Iterator[NotebookItem]:
        """The test of this notebook."""
        yield NotebookItem.from_parent(self, name=self.path.name)
