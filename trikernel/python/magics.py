"""The kernel's own magics."""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from IPython.core import page
from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from ..timeline import TaskTree
from .frontend_magics import FrontendMagics
from .loop_magics import LoopMagics

__all__ = ["MAGICS", "register_late", "take_timeout"]

_SCRIPTS = "trikernel.python.commands:ScriptMagics"
_TIMELINE = "trikernel.python.timeline_magics:TimelineMagics"

_TIMEOUT = re.compile(r"\s*%%timeout\b(?!\?)([^\n]*)(\n|\Z)")
TOLD = 100  # names of cancelled tasks that are printed at most
_MAN = {"MANPAGER": "cat", "PAGER": "cat", "MANWIDTH": "80"}


def _read_text(path: str) -> str:
    """A file's text; `UsageError` if it cannot be read."""
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"%less: {path}: {error.strerror}") from None


def take_timeout(code: str) -> tuple[str, float | None]:
    """A cell without its ``%%timeout SECONDS`` line, and the seconds (None without the line).

    An empty line replaces it, so that line numbers stay the same. Raises `UsageError` if it is not
    followed by a number of seconds.
    """
    match = _TIMEOUT.match(code)
    if match is None:
        return code, None
    try:
        seconds = float(match[1])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"%%timeout: give a number of seconds, not {match[1].strip()!r}")
    return "\n" + code[match.end() :], seconds


@magics_class
class KernelMagics(Magics):
    """Registered in the kernel's shell."""

    live: Any = None

    @line_magic
    def tasks(self, line: str) -> TaskTree | None:
        """Show the tasks that cells have started and that still live, as a tree.

        For each: the cell that started it, its number and name, its age, and what it waits on.
        ``%tasks --live`` shows them as they come and go, with buttons that cancel, where the
        frontend has widgets; ``--live --plain`` without them. ``%tasks --stop`` ends that.
        """
        words = line.split()
        if words:
            self._live(set(words))
            return None
        tree: TaskTree = self.shell.tasks.tree(self.shell.find_kernel().user_tasks())
        return tree

    def _live(self, words: set[str]) -> None:
        if words not in ({"--live"}, {"--live", "--plain"}, {"--stop"}):
            raise UsageError("%tasks takes --live, --live --plain, or --stop")
        if self.live is not None:
            self.live.end()
            self.live = None
        if "--live" in words:
            from .live_tasks import start_live

            self.live = start_live(self.shell, plain="--plain" in words)

    @line_magic
    def cancel(self, line: str) -> None:
        """Cancel background tasks: ``%cancel 3`` those of cell 3, ``%cancel #7`` task 7.

        ``%cancel NAME`` cancels those of that name, ``%cancel all`` all. ``%tasks`` shows
        numbers and names. Their ``finally`` blocks run, as with any cancel in Trio.
        """
        if not line.strip():
            raise UsageError("%cancel: name a cell (3), a task (#7), or tasks by their name")
        try:
            names = self.shell.tasks.cancel(line, self.shell.find_kernel().user_tasks())
        except LookupError as error:
            raise UsageError(f"%cancel: {error.args[0]}") from None
        more = [f"... and {len(names) - TOLD:,} more"] if len(names) > TOLD else []
        print("\n".join([*(f"cancelled {name}" for name in names[:TOLD]), *more]))

    @line_magic
    def less(self, line: str) -> None:
        """Show a file in the frontend's pager."""
        path = os.path.expanduser(line.strip())
        if not path:
            raise UsageError("%less: name a file")
        text = _read_text(path)
        page.page(self.shell.pycolorize(text) if path.endswith(".py") else text)

    @line_magic
    def more(self, line: str) -> None:
        """The same as ``%less``."""
        self.less(line)

    @line_magic
    def man(self, line: str) -> None:
        """Show a manual page in the frontend's pager."""
        try:
            text = subprocess.run(
                ["man", *line.split()],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | _MAN,
            ).stdout
        except FileNotFoundError:
            raise UsageError("%man: there is no program `man` here") from None
        except subprocess.CalledProcessError as error:
            raise UsageError(f"%man: {error.stderr.strip()}") from None
        page.page(text)

    @cell_magic
    def timeout(self, line: str, cell: str) -> Any:
        """Stop the cell after a number of seconds: ``%%timeout 5``, as its first line.

        0 lifts a deadline that the kernel has for every cell. What awaits is cancelled, what
        computes is interrupted. The cell ends with the error ``DeadlineExceeded``.
        """
        raise UsageError("%%timeout has to be the first line of its cell")


MAGICS = (KernelMagics, FrontendMagics, LoopMagics)


def register_late(shell: Any) -> None:
    """Replace IPython's ``%%bash`` and similar magics by ours, and register ``%timeline``. Their
    modules are imported when one of them is first used.
    """
    manager = shell.magics_manager
    scripts = [name for name, magic in manager.magics["cell"].items() if _is_script(magic)]
    for name in scripts:  # lazily: to register the class would import it now
        manager.register_lazy(name, _SCRIPTS, "cell")
    if scripts:
        manager.register_lazy("killbgscripts", _SCRIPTS, "line")
        manager.register_lazy("timeline", _TIMELINE, "line_cell")
    else:  # this IPython does not register its script magics lazily
        from .commands import ScriptMagics
        from .timeline_magics import TimelineMagics

        shell.register_magics(ScriptMagics, TimelineMagics)


def _is_script(magic: Any) -> bool:
    """Whether this is one of IPython's magics for scripts, registered but not imported yet."""
    return str(getattr(magic, "spec", "")).endswith(":ScriptMagics")
