"""Requests for information: about the kernel, about code while it is written, and the history."""

from __future__ import annotations

from typing import Any

from ..manifest import NotOffered, requirement
from ..probe import Probe, ok
from ..schema import require


@requirement("kernel-info.shell", "It says on shell who it is.", "Kernel info")
async def check_kernel_info(probe: Probe) -> None:
    ok(await probe.ask("kernel_info_request"))


@requirement("kernel-info.control", "It says the same on control.", "Kernel info; JEP 80")
async def check_kernel_info_on_control(probe: Probe) -> None:
    on_shell = ok(await probe.ask("kernel_info_request"))
    on_control = ok(await probe.ask("kernel_info_request", channel="control"))
    keys = on_shell.keys() | on_control.keys()
    names = sorted(keys - {"banner"})  # it may contain a tip of the day
    differ = [one for one in names if on_shell.get(one) != on_control.get(one)]
    words = [f"{one}: {on_shell.get(one)!r:.60}, {on_control.get(one)!r:.60}" for one in differ]
    require(not differ, f"on shell and on control differ {'; '.join(words)}")


@requirement("kernel-info.help-links", "Each help link has a text and an address.", "Kernel info")
async def check_help_links(probe: Probe) -> None:
    links = ok(await probe.ask("kernel_info_request")).get("help_links", [])
    right = isinstance(links, list) and all(
        isinstance(one, dict) and isinstance(one.get("text"), str) and isinstance(one["url"], str)
        for one in links
    )
    require(right, f"help_links is {links!r}")


@requirement(
    "kernel-info.debugger",
    "The deprecated field debugger says what supported_features says.",
    "Kernel info; JEP 92",
)
async def check_debugger_field(probe: Probe) -> None:
    info = ok(await probe.ask("kernel_info_request"))
    if "debugger" not in info or "supported_features" not in info:
        raise NotOffered("one of the two fields is not there, and need not be")
    offers = "debugger" in info["supported_features"]
    require(info["debugger"] is offers, f"debugger is {info['debugger']}")


@requirement("connect.reply", "A connect_reply tells the ports.", "Connect")
async def check_connect(probe: Probe) -> None:
    try:
        execution = await probe.ask("connect_request")
    except AssertionError:
        raise NotOffered("connect_request is deprecated, and not answered") from None
    if execution.status == "error":
        raise NotOffered("connect_request is deprecated, and answered by an error")
    reply = ok(execution)
    names = ("shell_port", "iopub_port", "stdin_port", "hb_port")
    missing = [one for one in names if not isinstance(reply.get(one), int)]
    require(not missing, f"the reply has no {', '.join(missing)}")
    if probe.subject.info is not None:
        ports = probe.subject.info.ports
        wrong = [one for one in names if reply[one] != ports[one]]
        require(not wrong, f"{', '.join(wrong)} are not those of the connection file")


@requirement("complete.reply", "A completion has its matches and what they replace.", "Completion")
async def check_complete(probe: Probe) -> None:
    code = probe.sample("completing")
    reply = ok(await probe.ask("complete_request", {"code": code, "cursor_pos": len(code)}))
    require(reply["matches"], f"there is no match for {code!r}")
    start, end = reply["cursor_start"], reply["cursor_end"]
    require(0 <= start <= end <= len(code), f"what is replaced is {start} to {end}")


@requirement(
    "complete.code-points", "The cursor's position counts code points.", "Completion; cursor_pos"
)
async def check_complete_wide(probe: Probe) -> None:
    code = probe.sample("wide")
    reply = ok(await probe.ask("complete_request", {"code": code, "cursor_pos": len(code)}))
    start, end = reply["cursor_start"], reply["cursor_end"]
    require(reply["matches"], f"there is no match for {code!r}")
    require(end == len(code), f"what is replaced ends at {end}, but the cursor is at {len(code)}")
    typed = code[start:end]
    require(typed and code.endswith(typed) and typed.isascii(), f"what is replaced is {typed!r}")


@requirement("complete.nothing", "Where nothing completes, the reply is still ok.", "Completion")
async def check_complete_nothing(probe: Probe) -> None:
    ok(await probe.ask("complete_request", {"code": "", "cursor_pos": 0}))


@requirement(
    "complete.types",
    "Types of matches, where they are told, have a place, a text and a type.",
    "IPython: _jupyter_types_experimental",
)
async def check_complete_types(probe: Probe) -> None:
    code = probe.sample("completing")
    reply = ok(await probe.ask("complete_request", {"code": code, "cursor_pos": len(code)}))
    types = reply["metadata"].get("_jupyter_types_experimental")
    if types is None:
        raise NotOffered("the metadata has no _jupyter_types_experimental")
    for one in types:
        missing = {"start", "end", "text", "type"} - set(one)
        require(not missing, f"{one} has no {', '.join(sorted(missing))}")


@requirement("inspect.reply", "An inspection says whether it found something.", "Introspection")
async def check_inspect(probe: Probe) -> None:
    content = {"code": "no_such_name_anywhere", "cursor_pos": 3, "detail_level": 0}
    reply = ok(await probe.ask("inspect_request", content))
    require(isinstance(reply.get("found"), bool), f"found is {reply.get('found')!r}")


@requirement("inspect.found", "What it finds, it tells as a MIME bundle.", "Introspection")
async def check_inspect_found(probe: Probe) -> None:
    code = probe.sample("inspecting")
    for level in (0, 1):
        content = {"code": code, "cursor_pos": len(code), "detail_level": level}
        reply = ok(await probe.ask("inspect_request", content))
        require(reply["found"] is True, f"{code!r} is not found at detail level {level}")
        require(reply["data"], "the bundle is empty")


@requirement("history.tail", "The end of the history can be asked for.", "History")
async def check_history(probe: Probe) -> None:
    await _history(probe, hist_access_type="tail", n=3)


@requirement("history.range", "A range of a session can be asked for.", "History")
async def check_history_range(probe: Probe) -> None:
    await _history(probe, hist_access_type="range", session=0, start=1, stop=3)


@requirement("history.search", "What matches a pattern can be asked for.", "History")
async def check_history_search(probe: Probe) -> None:
    await _history(probe, hist_access_type="search", pattern="*", n=3, unique=True)


@requirement("history.outputs", "With outputs, each entry has its input and its output.", "History")
async def check_history_outputs(probe: Probe) -> None:
    await _history(probe, hist_access_type="tail", n=3, output=True)


async def _history(probe: Probe, *, output: bool = False, **fields: Any) -> None:
    content = {"output": output, "raw": True, **fields}
    found = ok(await probe.ask("history_request", content))["history"]
    for one in found:
        require(isinstance(one, list) and len(one) == 3, f"an entry is {one!r:.80}")
        pair = isinstance(one[2], list) and len(one[2]) == 2
        require(pair if output else isinstance(one[2], str), f"an entry is {one!r:.80}")


@requirement(
    "is-complete.status", "Code is complete, incomplete, invalid or unknown.", "Code completeness"
)
async def check_is_complete(probe: Probe) -> None:
    execution = await probe.ask("is_complete_request", {"code": probe.sample("code")})
    require(execution.status in ("complete", "incomplete", "invalid", "unknown"), execution.status)


@requirement(
    "is-complete.indent", "For incomplete code it says how to indent.", "Code completeness"
)
async def check_indent(probe: Probe) -> None:
    execution = await probe.ask("is_complete_request", {"code": probe.sample("incomplete")})
    require(execution.status in ("incomplete", "unknown"), f"it is {execution.status!r}")
    assert execution.reply is not None
    if execution.status == "incomplete":
        indent = execution.reply.content.get("indent")
        require(isinstance(indent, str), f"indent is {indent!r}")
