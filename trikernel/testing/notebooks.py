"""Notebooks as tests: found below a folder, run, their failing cell shown."""

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

FEW = 2  # notebooks, up to which a fork server takes more time than it saves
_SERVER = pytest.StashKey[ForkServer | None]()
IGNORED = frozenset({"node_modules", "__pycache__", "venv", "build", "dist"})


def find_notebooks(folders: Sequence[Path]) -> list[Path]:
    """Every ``.ipynb`` below these folders, or one of these files; not in hidden folders."""
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
        """Run it and assert that every cell ends well; the notebook with its outputs.

        On ``client``'s kernel (``kernel_client`` has one in memory, under whatever clock the
        test uses), or on a process of its own. ``options`` are those of `run_notebook`. Raises
        `AssertionError` that shows the cell that failed, its outputs and the kernel's log.
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
    """A notebook as a test of its own, run in a process."""

    obj: object = None  # pytest-trio looks at it

    def runtest(self) -> None:
        """Run it."""
        trio.run(partial(NotebookCase(self.path).run, warm=_fork_server(self.session)))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """What failed, without the frames that led to it."""
        if isinstance(excinfo.value, AssertionError | TrikernelError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is."""
        return self.path, 0, self.name


def _fork_server(session: pytest.Session) -> ForkServer | None:
    """The one that starts the session's kernels, if enough of them are run to repay its start."""
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
        """The one test in it."""
        yield NotebookItem.from_parent(self, name=self.path.name)
