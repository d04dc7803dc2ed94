"""A client that checks what comes back, and says in a failure what a person needs to know."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from ..client import Client, Execution
from ..client.outputs import Output, as_output
from ..errors import CellFailed
from ..wire import Message
from .schema import assert_order, message_types

__all__ = ["CheckedClient", "Expected", "describe"]

Expected = str | re.Pattern[str]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONG = 2000  # characters of one output in a failure's text


class CheckedClient(Client):
    """A `Client` for tests: `expect` runs a cell and asserts what comes of it.

    ``watches_late_errors`` has it tell what failed outside of any reply by the messages alone, as
    errors that no reply tells of. A kernel served by `open_memory_client` gives its client the
    exceptions themselves.
    """

    watches_late_errors = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._background_errors: list[BaseException] = []
        self._watched: dict[Execution, int] = {}  # and how many of its errors are noted

    def send(self, *args: Any, **options: Any) -> Execution:
        """As `Client.send`; what is sent is watched for late errors, where that is wanted."""
        execution = super().send(*args, **options)
        if self.watches_late_errors:
            self._watched[execution] = 0
        return execution

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
        those of `Client.execute`, whose errors and cancellation are this one's too.

        Raises `AssertionError` that shows the cell, its outputs and the end of the kernel's log.
        """
        __tracebackhide__ = True
        execution = await self.execute(code, **options)
        cell = _Checked(execution, self.log_tail())
        cell.check_end(error, status)
        cell.check_outputs(stdout, stderr, result)
        cell.check_messages(messages)
        return execution

    @property
    def background_errors(self) -> list[BaseException]:
        """What failed outside of any reply until now."""
        for execution, noted in self._watched.items():
            errors = _background_errors(execution)
            for message in errors[noted:]:
                lines = "\n".join(as_output(message)["traceback"])
                self._background_errors.append(CellFailed(_ANSI.sub("", lines)))
            self._watched[execution] = len(errors)
        return self._background_errors

    def pop_background_errors(self) -> list[BaseException]:
        """What failed in the background until now; popped, it does not fail the test."""
        errors = self.background_errors
        self._background_errors = []
        return errors

    def raise_background_errors(self) -> None:
        """Raise what failed in the background and was not popped; nothing if nothing did.

        Several errors are raised as a `BaseExceptionGroup`.
        """
        errors = self.pop_background_errors()
        if len(errors) > 1:
            raise BaseExceptionGroup("background tasks failed", errors)
        if errors:
            raise errors[0]

    async def stop_all(self) -> None:
        """Stop the cells that still run, or wait to; at most 5 seconds for each."""
        for execution in self._connection.waiting():
            if execution.msg_type == "execute_request":
                await self.stop(execution)


def _background_errors(execution: Execution) -> list[Message]:
    """The ``error`` messages that no reply tells of: those after idle, and one too many before."""
    errors = [one for one in execution.late if one.msg_type == "error"]
    if not execution.done:
        return errors
    before = [one for one in execution.messages if one.msg_type == "error"]
    own = 1 if execution.status == "error" else 0
    return [*before[: len(before) - own], *errors]


class _Checked:
    """A cell that has ended, and what is asserted of it."""

    def __init__(self, execution: Execution, log: str) -> None:
        self._execution = execution
        self._log = log

    def fail(self, text: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{text}\n{describe(self._execution, self._log)}")

    def check_end(self, error: Expected | type[BaseException] | None, status: str | None) -> None:
        """That it ended well, or as it should."""
        __tracebackhide__ = True
        execution, found = self._execution, self._execution.error
        if error is None and status in (None, "ok") and found is not None:
            self.fail(f"the cell failed: {found}")
        if error is None and status is None and execution.status != "ok":
            words = "but must be ok, error or aborted"
            self.fail(f"the reply's status is {execution.status!r}, {words}")
        if error is not None:
            if found is None:
                self.fail(f"the cell ended well, but should fail with {_words(error)}")
            if not _is_error(error, found.ename, str(found)):
                self.fail(f"the cell failed with {str(found)!r}, but should with {_words(error)}")
        if status is not None and execution.status != status:
            self.fail(f"the status is {execution.status!r}, but should be {status!r}")

    def check_outputs(self, stdout: Expected | None, stderr: Expected | None, result: Any) -> None:
        """That it wrote and returned what it should."""
        __tracebackhide__ = True
        execution = self._execution
        if stdout is not None:
            self._compare("stdout", stdout, execution.stdout)
        if stderr is not None:
            self._compare("stderr", stderr, execution.stderr)
        if result is not None:
            shown = result if isinstance(result, str | re.Pattern) else repr(result)
            if execution.result is None:
                self.fail(f"the result should be {_words(shown)}, but there is none")
            self._compare("result", shown, execution.result.get("text/plain", ""))

    def check_messages(self, messages: Sequence[str] | None) -> None:
        """That these came on iopub, in an order that is right in any case."""
        __tracebackhide__ = True
        found = message_types(self._execution)
        if messages is not None and found != list(messages):
            self.fail(f"iopub has {found}, but should have {list(messages)}")
        assert_order(self._execution)

    def _compare(self, name: str, expected: Expected, found: str) -> None:
        __tracebackhide__ = True
        if isinstance(expected, re.Pattern):
            if not expected.search(found):
                self.fail(f"{name} has no match of {expected.pattern!r}: {found!r:.{_LONG}}")
        elif found not in (expected, f"{expected}\n"):
            space = " " * len(name)
            self.fail(f"{name} should be {expected!r}\n{space}       but is {found!r:.{_LONG}}")


def describe(execution: Execution, log: str = "") -> str:
    """The cell, its outputs and the end of the kernel's log, to be read in a failure."""
    parts = [("cell", execution.code), ("outputs", _show(execution.outputs))]
    if execution.late:
        parts.append(("after idle", ", ".join(one.msg_type for one in execution.late)))
    parts += [("what the kernel did wrong", "\n".join(execution.faults)), ("log", log)]
    return "\n".join(f"{name}:\n{textwrap.indent(text, '    ')}" for name, text in parts if text)


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
