"""What a Jupyter kernel must do: each requirement with its id, its source and its check.

The table `REQUIREMENTS` is in the order of the checks: what a kernel says of itself and of code
that is being written; what becomes of code that is to be run; what is wrong, unknown or to be
stopped, where the kernel is shut down in the end; and what must hold for every message that came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import trio

from ..client import Client, Execution
from ..wire import Message
from .schema import content_faults, header_faults, order_faults, require

__all__ = ["REQUIREMENTS", "NotChecked", "Probe", "Requirement", "Samples"]

SPEC = "messaging.rst"


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


REQUIREMENTS: list[Requirement] = []


def requirement(id: str, sentence: str, source: str) -> Callable[[Check], Check]:
    """A decorator that adds a check to the table; ``source`` is a section of the specification."""

    def add(check: Check) -> Check:
        found = f"{SPEC}, {source}" if source else SPEC
        REQUIREMENTS.append(Requirement(id, sentence, found, check))
        return check

    return add


def ok(execution: Execution) -> dict[str, Any]:
    """The content of a reply that must be ok."""
    assert execution.reply is not None
    require(execution.status == "ok", f"the reply is {dict(execution.reply.content)}")
    return dict(execution.reply.content)


def is_error(execution: Execution) -> None:
    """The reply must be a whole error reply."""
    assert execution.reply is not None
    content = execution.reply.content
    require(content.get("status") == "error", f"the reply is {dict(content)}")
    missing = {"ename", "evalue", "traceback"} - set(content)
    require(not missing, f"the reply has no {', '.join(sorted(missing))}")


# What it says of itself, of code that is being written, and of comms


@requirement("kernel-info.shell", "It says on shell who it is.", "Kernel info")
async def _kernel_info(probe: Probe) -> None:
    ok(await probe.ask("kernel_info_request"))


@requirement("kernel-info.control", "It says the same on control.", "Kernel info; JEP 80")
async def _kernel_info_on_control(probe: Probe) -> None:
    on_shell = ok(await probe.ask("kernel_info_request"))
    on_control = ok(await probe.ask("kernel_info_request", channel="control"))
    require(on_shell == on_control, "the two replies differ")


@requirement("complete.reply", "A completion has its matches and what they replace.", "Completion")
async def _complete(probe: Probe) -> None:
    code = probe.sample("completing")
    reply = ok(await probe.ask("complete_request", {"code": code, "cursor_pos": len(code)}))
    require(reply["matches"], f"there is no match for {code!r}")
    start, end = reply["cursor_start"], reply["cursor_end"]
    require(0 <= start <= end <= len(code), f"what is replaced is {start} to {end}")


@requirement("complete.nothing", "Where nothing completes, the reply is still ok.", "Completion")
async def _complete_nothing(probe: Probe) -> None:
    ok(await probe.ask("complete_request", {"code": "", "cursor_pos": 0}))


@requirement("inspect.reply", "An inspection says whether it found something.", "Introspection")
async def _inspect(probe: Probe) -> None:
    content = {"code": "no_such_name_anywhere", "cursor_pos": 3, "detail_level": 0}
    reply = ok(await probe.ask("inspect_request", content))
    require(isinstance(reply.get("found"), bool), f"found is {reply.get('found')!r}")


@requirement("history.tail", "The end of the history can be asked for.", "History")
async def _history(probe: Probe) -> None:
    content = {"hist_access_type": "tail", "n": 3, "output": False, "raw": True}
    ok(await probe.ask("history_request", content))


@requirement(
    "is-complete.status", "Code is complete, incomplete, invalid or unknown.", "Code completeness"
)
async def _is_complete(probe: Probe) -> None:
    execution = await probe.ask("is_complete_request", {"code": probe.sample("code")})
    require(execution.status in ("complete", "incomplete", "invalid", "unknown"), execution.status)


@requirement("comm.info", "The open comms can be listed.", "Comm info")
async def _comm_info(probe: Probe) -> None:
    ok(await probe.ask("comm_info_request", {}))
    reply = ok(await probe.ask("comm_info_request", {"target_name": "no such target"}))
    require(reply["comms"] == {}, f"comms is {reply['comms']}")


@requirement(
    "comm.unknown-target", "A comm to an unknown target is closed at once.", "Opening a Comm"
)
async def _comm_unknown_target(probe: Probe) -> None:
    comm = probe.client.comm_open("no such target")
    assert comm.opened is not None
    await comm.opened.wait()
    require(comm.closed, "it stays open")


# What becomes of code that is to be run


@requirement("execute.reply", "Code that ends well gets a reply that says ok.", "Execute")
async def _execute(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code")))


@requirement("execute.input", "execute_input repeats the code and the number.", "Code inputs")
async def _execute_input(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("code"))
    reply = ok(execution)
    inputs = [dict(one.content) for one in execution.messages if one.msg_type == "execute_input"]
    expected = {"code": execution.code, "execution_count": reply["execution_count"]}
    require(inputs == [expected], f"execute_input is {inputs}, but should be {expected}")


@requirement("execute.count", "The number grows by one with each cell.", "Execution counter")
async def _execute_count(probe: Probe) -> None:
    counts = [ok(await probe.execute(probe.sample("code")))["execution_count"] for _ in range(3)]
    require(counts == [counts[0], counts[0] + 1, counts[0] + 2], f"the numbers are {counts}")


@requirement("execute.silent", "A silent cell publishes nothing and is not counted.", "Execute")
async def _execute_silent(probe: Probe) -> None:
    before = ok(await probe.execute(probe.sample("code")))["execution_count"]
    silent = await probe.execute(probe.sample("code"), silent=True, store_history=False)
    ok(silent)
    kinds = {one.msg_type for one in silent.messages}
    require(kinds == {"status"}, f"iopub has {sorted(kinds)}")
    after = ok(await probe.execute(probe.sample("code")))["execution_count"]
    require(after == before + 1, f"the number goes from {before} to {after}")


@requirement("execute.empty", "Empty code ends well.", "Execute")
async def _execute_empty(probe: Probe) -> None:
    ok(await probe.execute(""))


@requirement("execute.stdout", "What code prints comes as a stream named stdout.", "Streams")
async def _execute_stdout(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("printing"))
    ok(execution)
    require(execution.stdout, f"the outputs are {execution.outputs}")


@requirement("execute.error", "Failing code gets an error reply and an error output.", "Execute")
async def _execute_error(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("failing"))
    is_error(execution)
    assert execution.reply is not None
    require("execution_count" in execution.reply.content, "the reply has no execution_count")
    names = [one["ename"] for one in execution.outputs if one["output_type"] == "error"]
    require(names == [execution.reply.content["ename"]], f"the error outputs are {names}")


@requirement("execute.goes-on", "After an error, code runs as before.", "Execute")
async def _execute_goes_on(probe: Probe) -> None:
    await probe.execute(probe.sample("failing"))
    ok(await probe.execute(probe.sample("code")))


@requirement(
    "execute.aborts", "With stop_on_error an error aborts what is queued behind it.", "Execute"
)
async def _execute_aborts(probe: Probe) -> None:
    client = probe.client
    for _ in range(5):
        first = client.start(probe.sample("failing"), stop_on_error=True)
        second = client.start(probe.sample("code"))
        third = client.send("kernel_info_request", {})
        sent_at = datetime.now(UTC)
        probe.finished += [await one.wait() for one in (first, second, third)]
        is_error(first)
        if second.status == "aborted" or not _was_sent_late(first, sent_at):
            break
    require(second.status == "aborted", f"the queued cell's status is {second.status!r}")
    ok(third)
    while (await probe.execute(probe.sample("code"))).status == "aborted":  # noqa: ASYNC110
        await trio.sleep(0.1)  # a kernel may go on aborting for a while, and tells nobody


def _was_sent_late(failed: Execution, sent_at: datetime) -> bool:
    """Whether this process was held up so long that the failure was known as it sent."""
    try:
        return (
            failed.reply is not None and datetime.fromisoformat(failed.reply.header.date) < sent_at
        )
    except (ValueError, TypeError):  # no date, or one without a time zone
        return False


@requirement(
    "execute.fifo", "Cells run one after the other, in the order they came.", "Request-Reply"
)
async def _execute_fifo(probe: Probe) -> None:
    cells = [probe.client.start(probe.sample("code")) for _ in range(5)]
    probe.finished += [await one.wait() for one in cells]
    counts = [ok(one)["execution_count"] for one in cells]
    require(counts == sorted(counts), f"the numbers are {counts}")
    ids = [one.msg_id for one in cells]
    states = [
        (message.parent_id, message.content["execution_state"])
        for message in probe.iopub
        if message.msg_type == "status" and message.parent_id in ids
    ]
    expected = [(one, state) for one in ids for state in ("busy", "idle")]
    require(states == expected, "the cells' busy and idle overlap")


@requirement("execute.expressions", "A failing user expression is an error of its own.", "Execute")
async def _user_expressions(probe: Probe) -> None:
    reply = ok(await probe.execute(probe.sample("code"), user_expressions={"x": ")("}))
    values = reply.get("user_expressions", {})
    status = values.get("x", {}).get("status", "error")
    require(status == "error", f"user_expressions is {values}")


# What is wrong, what is unknown, and what stops


@requirement(
    "request.malformed", "A request without a needed field gets an error reply.", "Request-Reply"
)
async def _malformed(probe: Probe) -> None:
    for kind in ("execute", "complete", "inspect", "is_complete"):
        is_error(await probe.ask(f"{kind}_request", {}))


@requirement("request.unknown-fields", "Fields that nobody knows are ignored.", "Compatibility")
async def _unknown_fields(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code"), no_such_field=[1, {}]))
    ok(await probe.ask("kernel_info_request", {"no_such_field": None}))


@requirement("request.unknown-type", "A message of an unknown type stops nothing.", "Compatibility")
async def _unknown_type(probe: Probe) -> None:
    probe.client.send("no_such_thing", {})
    ok(await probe.ask("kernel_info_request"))


@requirement(
    "interrupt.reply", "An interrupt that interrupts nothing is answered.", "Kernel interrupt"
)
async def _interrupt(probe: Probe) -> None:
    ok(await probe.ask("interrupt_request", channel="control"))
    ok(await probe.execute(probe.sample("code")))


@requirement("shutdown.reply", "A shutdown is answered with what it was asked.", "Kernel shutdown")
async def _shutdown(probe: Probe) -> None:
    reply = await probe.client.shutdown()
    require(reply.content.get("status") == "ok", f"the reply is {dict(reply.content)}")
    require(reply.content.get("restart") is False, "restart is not false")


# What holds for every message that came


@requirement("messages.content", "Every content has the fields that it should.", "")
async def _contents(probe: Probe) -> None:
    replies = [one.reply for one in probe.finished if one.reply is not None]
    faults = [fault for one in (*replies, *probe.iopub) for fault in content_faults(one)]
    require(not faults, _listed(faults))


@requirement("messages.header", "Every header is whole, its date in ISO 8601.", "Message header")
async def _headers(probe: Probe) -> None:
    replies = [one.reply for one in probe.finished if one.reply is not None]
    faults = [fault for one in (*replies, *probe.iopub) for fault in header_faults(one)]
    require(not faults, _listed(faults))
    ids = [one.msg_id for one in (*replies, *probe.iopub)]
    require(len(ids) == len(set(ids)), "a msg_id was used twice")
    sessions = {one.header.session for one in (*replies, *probe.iopub)}
    require(len(sessions) == 1, f"the kernel has {len(sessions)} session ids")


@requirement(
    "messages.parent", "Every reply carries a copy of its request's header.", "Parent header"
)
async def _parents(probe: Probe) -> None:
    for execution in probe.finished:
        assert execution.reply is not None
        parent = execution.reply.parent_header
        require(parent.get("msg_type") == execution.msg_type, f"a parent header is {dict(parent)}")
        expected = execution.msg_type.replace("_request", "_reply")
        require(execution.reply.msg_type == expected, f"the reply is a {execution.reply.msg_type}")


@requirement(
    "messages.order", "Busy comes first, idle last, one reply, outputs in between.", "Kernel status"
)
async def _order(probe: Probe) -> None:
    faults = [f"{one}: {fault}" for one in probe.finished for fault in order_faults(one)]
    require(not faults, _listed(faults))


def _listed(faults: list[str]) -> str:
    """The first faults, each once."""
    different = list(dict.fromkeys(faults))
    more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
    return "; ".join(different[:3]) + more
