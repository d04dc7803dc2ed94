"""Output of one context taken aside: what ``%%capture`` does around code that awaits.

IPython's own swaps the process's streams, which would take the output of every other task too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import attrs

__all__ = ["Capture", "captures_open", "capturing", "current_capture"]


@attrs.define(eq=False)
class Capture:
    """Takes text and displays of the context it was made in, and of the tasks started there."""

    streams: dict[str, io.StringIO]
    outputs: list[dict[str, Any]] | None
    is_open: bool = True

    def take_text(self, name: str, text: str) -> bool:
        """Whether the text was taken."""
        if not self.is_open or name not in self.streams:
            return False
        self.streams[name].write(text)
        return True

    def take_display(self, content: dict[str, Any]) -> bool:
        """Whether the display was taken."""
        if not self.is_open or self.outputs is None:
            return False
        self.outputs.append(content)
        return True

    def as_captured(self) -> Any:
        """What ``%%capture NAME`` leaves in the namespace: a ``CapturedIO`` of IPython's."""
        from IPython.utils.capture import CapturedIO

        return CapturedIO(self.streams.get("stdout"), self.streams.get("stderr"), self.outputs)


_open: set[Capture] = set()


def captures_open() -> bool:
    """Whether any context's output is taken aside: then each text has to be looked at."""
    return bool(_open)


current_capture: ContextVar[Capture | None] = ContextVar("current_capture", default=None)


@contextmanager
def capturing(*, stdout: bool, stderr: bool, display: bool) -> Iterator[Capture]:
    """Take the output of the body, and of the tasks that it starts while it runs."""
    wanted = {"stdout": stdout, "stderr": stderr}
    streams = {name: io.StringIO() for name, takes in wanted.items() if takes}
    capture = Capture(streams, [] if display else None)
    token = current_capture.set(capture)
    _open.add(capture)
    try:
        yield capture
    finally:
        capture.is_open = False
        _open.discard(capture)
        current_capture.reset(token)
