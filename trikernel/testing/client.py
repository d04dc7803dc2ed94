"""A client that checks the results of cells, and shows cell, outputs and log in a failure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Unpack

import attrs
import trio

from ..client import Client, Execution
from ..client.client import ExecuteOptions
from ..client.outputs import Output, as_output
from ..conformance.schema import assert_order, message_types
from ..errors import CellFailed, ExecutionTimeout
from .forgotten import ForgottenAwaits

__all__ = ["CellNote", "CheckedClient", "Expected", "describe", "late_errors", "raise_errors"]

Expected = str | re.Pattern[str]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONG = 2000  # characters of one output in a failure's text


class CellNote(str):
    """A note on an exception that shows the cell that the exception has ended."""


@attrs.frozen
class _Expectation:
    """The arguments of `CheckedClient.expect`; None is not checked."""

    stdout: Expected | None
    stderr: Expected | None
    result: Any
    error: Expected | type[BaseException] | None
    status: str | None
    messages: Sequence[str] | None


class CheckedClient(Client):
    """A `Client` for tests: `expect` runs a cell and asserts its results.

    Requests to execute have ``stop_on_error`` set by default, as those of frontends: an error
    aborts the cells that are queued behind it. A call of `expect` or `execute` that is not awaited
    fails the test.

    With ``watches_late_errors`` it finds errors of background tasks by their messages: ``error``
    messages that belong to no reply. For a kernel that is served in the test's own loop, the
    exceptions themselves are in ``noted_errors``, a list that its clients share.
    """

    watches_late_errors = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.noted_errors: list[BaseException] = []
        self._watched: dict[Execution, int] = {}  # request: how many of its errors are noted
        self._forgotten = ForgottenAwaits()

    def send(self, *args: Any, **options: Any) -> Execution:
        """As `Client.send`; with ``watches_late_errors`` the request is watched for them."""
        execution = super().send(*args, **options)
        if self.watches_late_errors:
            self._watched[execution] = 0
        return execution

    def start(self, code: str, **options: Unpack[ExecuteOptions]) -> Execution:
        """As `Client.start`, with ``stop_on_error`` on unless given."""
        options.setdefault("stop_on_error", True)
        return super().start(code, **options)

    @asynccontextmanager
    async def executing(
        self,
        code: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as in `Client`: it interrupts the kernel
        **options: Unpack[ExecuteOptions],
    ) -> AsyncIterator[Execution]:
        """As `Client.executing`; the error of a deadline that ends it has a note with the cell."""
        shown = CellNote()
        try:
            async with super().executing(code, timeout=timeout, **options) as execution:
                try:
                    yield execution
                    await execution.wait()
                except trio.Cancelled as cancel:  # show the outputs from before the interrupt
                    shown = CellNote(describe(execution, self.log_tail()))
                    cancel.add_note(shown)
                    raise
        except ExecutionTimeout as error:
            error.add_note(shown)
            raise

    def execute(
        self, code: str, *, timeout: float | None = None, **options: Unpack[ExecuteOptions]
    ) -> Coroutine[Any, Any, Execution]:
        """As `Client.execute`, with ``stop_on_error`` on unless given."""
        coroutine = super().execute(code, timeout=timeout, **options)
        return self._forgotten.watch(f"execute({code!r:.80})", coroutine)

    def expect(
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
    ) -> Coroutine[Any, Any, Execution]:
        """Run a cell and assert its results. Awaited, it returns the `Execution`, for further
        assertions.

        Only what is given is checked, except that the cell must succeed unless ``error`` or
        ``status`` is given, and that the order of messages is always checked.

        ``stdout``, ``stderr``: the whole text (a last newline may be left out), or a compiled
        pattern that must be found in it. ``result``: the ``text/plain`` of the result, in the same
        two ways; any other value stands for its ``repr``. ``error``: the exception's name, or
        ``"name: text"``, or a pattern that must be found in that, or the class. ``status``: ``ok``,
        ``error``, ``aborted``. ``messages``: the exact iopub messages, as `message_types` returns
        them. ``options`` are those of `Client.execute`; errors and cancellation are as there, too.

        Raises `AssertionError`, which shows the cell, its outputs and the end of the kernel's log.
        If a deadline ends it (``timeout``, or a scope around the call), a note on the error has
        these, as for `execute`.
        """
        expected = _Expectation(stdout, stderr, result, error, status, messages)
        coroutine = self._expect(code, expected, **options)
        return self._forgotten.watch(f"expect({code!r:.80})", coroutine)

    async def _expect(self, code: str, expected: _Expectation, **options: Any) -> Execution:
        __tracebackhide__ = True
        execution = await super().execute(code, **options)
        _Checked(execution, self.log_tail()).check(expected)
        return execution

    def pop_background_errors(self) -> list[BaseException]:
        """Return and clear the errors of background tasks so far; they no longer fail the test."""
        for execution, noted in self._watched.items():
            errors = late_errors(execution)
            self.noted_errors += errors[noted:]
            self._watched[execution] = len(errors)
        popped = list(self.noted_errors)
        self.noted_errors.clear()
        return popped

    def pop_what_was_missed(self) -> list[BaseException]:
        """Return and clear what must fail a test at its end: calls that were not awaited, and
        errors of background tasks.
        """
        return [*self._forgotten.pop(), *self.pop_background_errors()]

    async def stop_all(self) -> None:
        """Stop all cells that run or are queued; it waits at most 5 seconds for each."""
        for execution in self.connection.waiting():
            if execution.msg_type == "execute_request":
                await self.stop(execution)


def raise_errors(errors: Sequence[BaseException]) -> None:
    """Raise a single error, or several as a `BaseExceptionGroup`; does nothing without errors."""
    __tracebackhide__ = True
    if len(errors) > 1:
        raise BaseExceptionGroup("several things went wrong beside the test", errors)
    if errors:
        raise errors[0]


def late_errors(execution: Execution) -> list[CellFailed]:
    """The ``error`` messages of a request that belong to no reply: those after idle, and those
    before it except the one that the reply reports.
    """
    errors = [one for one in execution.late if one.msg_type == "error"]
    if execution.done:
        before = [one for one in execution.messages if one.msg_type == "error"]
        own = 1 if execution.status == "error" else 0
        errors = [*before[: len(before) - own], *errors]
    return [CellFailed(_ANSI.sub("", "\n".join(as_output(one)["traceback"]))) for one in errors]


class _Checked:
    """The assertions about a cell that has ended."""

    def __init__(self, execution: Execution, log: str) -> None:
        self._execution = execution
        self._log = log

    def fail(self, text: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{text}\n{describe(self._execution, self._log)}")

    def check(self, expected: _Expectation) -> None:
        """Assert everything that was given to `CheckedClient.expect`."""
        __tracebackhide__ = True
        self.check_end(expected.error, expected.status)
        self.check_outputs(expected.stdout, expected.stderr, expected.result)
        self.check_messages(expected.messages)

    def check_end(self, error: Expected | type[BaseException] | None, status: str | None) -> None:
        """Assert that the cell has succeeded, or has ended with this error or status."""
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
        """Assert the texts of the streams and the result."""
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
        """Assert the types of iopub messages, and always that their order is right."""
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
    """The cell, its outputs, faults of the kernel and the end of its log, as text for a failure."""
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
