"""A kernel that starts in a moment and runs what it is told, for processes of tests."""

from __future__ import annotations

from typing import Any

from trikernel import Kernel


class Running(Kernel):
    """Runs Python, without IPython."""

    implementation = "running"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.names: dict[str, Any] = {"kernel": self}

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        # Of a string, exec would have an interrupt that leaves it end the process by SIGINT, too.
        exec(compile(code, "<cell>", "exec"), self.names)
