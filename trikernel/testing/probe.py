"""A kernel under test as the requirements see it, and what a requirement is."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from ..client import Client, Execution
from ..wire import Message

__all__ = ["Check", "NotChecked", "Probe", "Requirement", "Samples"]


class NotChecked(Exception):
    """A requirement needs a sample that was not given."""


@attrs.frozen
class Samples:
    """Code in the kernel's language: ``code`` ends well, ``failing`` ends with an error.

    ``printing`` writes to stdout, ``completing`` can be completed at its end. What is left out
    is not checked.
    """

    code: str = "1"
    failing: str | None = None
    printing: str | None = None
    completing: str | None = None


class Probe:
    """A kernel under test: its client, samples, and everything that it has sent so far."""

    def __init__(
        self, client: Client, samples: Samples, messages: trio.MemoryReceiveChannel[Message]
    ) -> None:
        self.client = client
        self.finished: list[Execution] = []
        self._samples = samples
        self._messages = messages
        self._iopub: list[Message] = []

    async def ask(
        self, msg_type: str, content: dict[str, Any] | None = None, channel: str = "shell"
    ) -> Execution:
        """A request and all that came of it, kept for the checks of every message."""
        execution = self.client.send(msg_type, content or {}, channel=channel)
        self.finished.append(await execution.wait())
        return execution

    async def execute(self, code: str, **fields: Any) -> Execution:
        """Run code; a failure aborts nothing unless ``fields`` say so."""
        return await self.ask("execute_request", {"code": code, "stop_on_error": False, **fields})

    def sample(self, name: str) -> str:
        """A sample; `NotChecked` if there is none."""
        code: str | None = getattr(self._samples, name)
        if code is None:
            raise NotChecked
        return code

    @property
    def iopub(self) -> list[Message]:
        """Everything that came on iopub until now, whatever it was about."""
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):  # so far; or it has ended
            while True:
                self._iopub.append(self._messages.receive_nowait())
        return self._iopub


Check = Callable[[Probe], Awaitable[None]]


@attrs.frozen
class Requirement:
    """One thing that every kernel must do. ``source`` says who wants it."""

    id: str
    sentence: str
    source: str
    check: Check = attrs.field(repr=False)
