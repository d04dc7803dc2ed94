"""Whether a kernel speaks the Jupyter protocol: requirements, each with its source, and checks.

`assert_conforms` runs them all against one kernel. A requirement is a coroutine function that
raises `AssertionError` when it is not met; its id never changes, so that it can be cited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import attrs
import trio

from ..client import Client, Execution
from ..errors import ClientError
from ..kernel import Kernel
from ..wire import Message
from .checks import CheckedClient
from .harness import open_memory_client

__all__ = ["NotChecked", "Probe", "Requirement", "Samples", "assert_conforms"]

PATIENCE = 30  # seconds that one requirement may take


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
        with contextlib.suppress(trio.WouldBlock):
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


async def assert_conforms(kernel: Kernel | Client, samples: Samples | None = None) -> list[str]:
    """Assert that a kernel meets every requirement; the ids of those that were checked.

    ``kernel`` is a `Kernel` instance, which is served in memory, or a client of any kernel. The
    last thing that is asked of it is to shut down. ``samples`` is code in its language; what
    needs a sample that is not given is not checked, and not among the ids.

    Raises `AssertionError` that lists every requirement that is not met, with what was seen.
    """
    from .requirements import REQUIREMENTS  # which are written in terms of this module

    __tracebackhide__ = True
    opened = nullcontext(kernel) if isinstance(kernel, Client) else open_memory_client(kernel)
    faults: list[str] = []
    checked: list[str] = []
    async with opened as client:
        with client.subscribe() as messages:
            probe = Probe(client, samples or Samples(), messages)
            for one in REQUIREMENTS:
                try:
                    fault = await _fault_of(one, probe)
                except NotChecked:
                    continue
                checked.append(one.id)
                if fault:
                    faults.append(f"  {one.id}: {one.sentence} ({one.source})\n    {fault}")
        if isinstance(client, CheckedClient):
            client.pop_background_errors()
    text = "\n".join(faults)
    assert not faults, f"{len(faults)} of {len(checked)} requirements are not met:\n{text}"
    return checked


async def _fault_of(one: Requirement, probe: Probe) -> str:
    """How a requirement is not met; empty if it is."""
    try:
        with trio.fail_after(PATIENCE):
            await one.check(probe)
    except NotChecked:
        raise
    except trio.TooSlowError:
        return f"there was no answer within {PATIENCE} seconds"
    except (AssertionError, ClientError) as error:
        return str(error) or "it is not so"
    return ""


class NotChecked(Exception):
    """A requirement needs a sample that was not given."""
