"""A client that checks what comes back, and says in a failure what a person needs to know."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from ..client import Client, Execution
from ..client.outputs import Output, as_output
from ..errors import CellFailed
from ..wire import Message
from .order import assert_order, message_types

__all__ = ["CheckedClient", "Expected", "describe"]

Expected = str | re.Pattern[str]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONG = 2000  # characters of one output in a failure's text


class CheckedClient(Client):
    """A `Client` for tests. ``background_errors`` is what failed outside of any reply.

    ``watches_late_errors`` has it tell them by the messages alone, as errors that no reply tells
    of; a kernel served by `open_memory_client` gives its client the exceptions themselves.
    """

    watches_late_errors = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.background_errors: list[BaseException] = []
        self._ended: set[str] = set()

    async def expect(
        self,
        code: str,
        *,
        stdout: Expected | None = None,
        stderr: Expected | None = None,
        result: Any = None,
        error: Expected | type[BaseException] | None = None,
        status: str | None = None,
        messages: Sequence[str] | None = None,
        **options: Any,
    ) -> Execution:
        """Run a cell and assert what comes of it; the `Execution`, for further assertions.

        What is not given is not looked at, except that a cell must end well unless ``error`` or
        ``status`` says otherwise, and that the order of messages is always checked.

        ``stdout``, ``stderr``: the whole text (a last newline may be left out), or a compiled
        pattern to be found in it. ``result``: the ``text/plain`` of the result, the same ways;
        any other value stands for its ``repr``. ``error``: the exception's name, or
        ``"name: text"``, a pattern found in that, or the class. ``status``: ``ok``, ``error``,
        ``aborted``. ``messages``: exactly these on iopub, as of `message_types`. ``options`` are
        those of `Client.execute`.

        Raises `AssertionError` that shows the cell, its outputs and the end of the kernel's log.
        """
        __tracebackhide__ = True
        execution = await self.execute(code, **options)
        fail = self._failing(execution)
        found = execution.error
        if error is None and status in (None, "ok") and found is not None:
            fail(f"the cell failed: {found}")
        if error is None and status is None and execution.status != "ok":
            fail(f"the reply's status is {execution.status!r}, but must be ok, error or aborted")
        if error is not None:
            if found is None:
                fail(f"the cell ended well, but should fail with {_words(error)}")
            elif not _is_error(error, found.ename, str(found)):
                fail(f"the cell failed with {str(found)!r}, but should with {_words(error)}")
        if status is not None and execution.status != status:
            fail(f"the status is {execution.status!r}, but should be {status!r}")
        for name, expected in (("stdout", stdout), ("stderr", stderr)):
            if expected is not None:
                _compare(name, expected, getattr(execution, name), fail)
        if result is not None:
            shown = result if isinstance(result, str | re.Pattern) else repr(result)
            if execution.result is None:
                fail(f"the result should be {_words(shown)}, but there is none")
            _compare("result", shown, (execution.result or {}).get("text/plain", ""), fail)
        if messages is not None and message_types(execution) != list(messages):
            fail(f"iopub has {message_types(execution)}, but should have {list(messages)}")
        assert_order(execution)
        return execution

    def pop_background_errors(self) -> list[BaseException]:
        """What failed in the background until now; popped, it does not fail the test."""
        errors, self.background_errors = self.background_errors, []
        return errors

    async def stop_all(self) -> None:
        """Stop the cells that still run, or wait to."""
        for execution in self._waiting():
            if execution.msg_type == "execute_request":
                await self.stop(execution)

    def raise_background_errors(self) -> None:
        """Raise what failed in the background and was not popped; nothing if nothing did."""
        errors = self.pop_background_errors()
        if len(errors) > 1:
            raise BaseExceptionGroup("background tasks failed", errors)
        if errors:
            raise errors[0]

    def _take(self, message: Message) -> None:
        """An ``error`` that comes after idle is of something that went on in the background."""
        super()._take(message)
        parent_id = message.parent_id or ""
        if message.content.get("execution_state") == "idle":
            self._ended.add(parent_id)
        elif message.msg_type == "error" and parent_id in self._ended:
            self._note_background(message)

    def _tidy(self, execution: Execution) -> None:
        """So is an ``error`` more than the reply tells of."""
        if execution.done and execution.msg_id in self._unfinished:
            errors = [one for one in execution.messages if one.msg_type == "error"]
            own = 1 if execution.status == "error" else 0
            for message in errors[: len(errors) - own]:
                self._note_background(message)
        super()._tidy(execution)

    def _note_background(self, message: Message) -> None:
        if self.watches_late_errors:
            lines = "\n".join(as_output(message)["traceback"])
            self.background_errors.append(CellFailed(_ANSI.sub("", lines)))

    def _failing(self, execution: Execution) -> Callable[[str], None]:
        def fail(text: str) -> None:
            __tracebackhide__ = True
            raise AssertionError(f"{text}\n{describe(execution, self.log_tail())}")

        return fail


def describe(execution: Execution, log: str = "") -> str:
    """The cell, its outputs and the end of the kernel's log, to be read in a failure."""
    parts = [("cell", execution.code), ("outputs", _show(execution.outputs))]
    if execution.late:
        parts.append(("after idle", ", ".join(one.msg_type for one in execution.late)))
    parts.append(("log", log))
    return "\n".join(f"{name}:\n{textwrap.indent(text, '    ')}" for name, text in parts if text)


def _compare(name: str, expected: Expected, found: str, fail: Callable[[str], None]) -> None:
    __tracebackhide__ = True
    if isinstance(expected, re.Pattern):
        if not expected.search(found):
            fail(f"{name} has no match of {expected.pattern!r}: {found!r:.{_LONG}}")
    elif found not in (expected, f"{expected}\n"):
        fail(f"{name} should be {expected!r}\n{' ' * len(name)}       but is {found!r:.{_LONG}}")


def _is_error(expected: Expected | type[BaseException], ename: str, text: str) -> bool:
    if isinstance(expected, re.Pattern):
        return expected.search(text) is not None
    if isinstance(expected, type):
        return ename == expected.__name__
    return expected in (ename, text)


def _words(expected: Expected | type[BaseException]) -> str:
    if isinstance(expected, re.Pattern):
        return f"an error that matches {expected.pattern!r}"
    return expected.__name__ if isinstance(expected, type) else repr(expected)


def _show(outputs: Sequence[Output]) -> str:
    return "\n".join(_shortened(line) for line in map(_show_one, outputs))


def _show_one(output: Output) -> str:
    kind = output["output_type"]
    if kind == "stream":
        return f"{output['name']}: {output['text'].rstrip()}"
    if kind == "error":
        text = "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
        return _ANSI.sub("", text)
    data = output["data"]
    return f"{kind}: {data.get('text/plain', ', '.join(data))}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]}\n...\n{text[-_LONG // 2 :]}"
