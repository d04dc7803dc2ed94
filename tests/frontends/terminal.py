"""A program in a terminal: type keys, and read its screen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pexpect
import pyte

__all__ = ["Terminal", "open_terminal"]

SCREEN_TIMEOUT = 60
COLUMNS, ROWS = 120, 50


class Terminal:
    """What a person would see and press."""

    def __init__(self, child: pexpect.spawn) -> None:
        self._child = child
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def text(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def press_control(self, letter: str) -> None:
        self._child.sendcontrol(letter)

    def wait_for(self, text: str) -> None:
        """Read until the screen shows ``text``."""
        deadline = time.monotonic() + SCREEN_TIMEOUT
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} on the screen:\n{self.text}"
            self._read()

    def wait_for_end(self) -> None:
        """Read until the program has ended."""
        deadline = time.monotonic() + SCREEN_TIMEOUT
        while self._child.isalive():
            assert time.monotonic() < deadline, f"still alive:\n{self.text}"
            self._read()

    def _read(self) -> None:
        try:
            data = self._child.read_nonblocking(1 << 16, timeout=1)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            self._child.wait()
            return
        self._stream.feed(data)
        if b"\x1b[6n" in data:  # "where is the cursor?", which a terminal answers
            cursor = self._screen.cursor
            self._child.send(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")


@contextmanager
def open_terminal(command: Sequence[str], env: dict[str, str]) -> Iterator[Terminal]:
    """Run a command in a terminal; it is killed at the end if it still runs."""
    child = pexpect.spawn(
        command[0], list(command[1:]), env={**env, "TERM": "xterm"}, dimensions=(ROWS, COLUMNS)
    )
    try:
        yield Terminal(child)
    finally:
        child.close(force=True)
