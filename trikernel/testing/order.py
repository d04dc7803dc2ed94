"""The order of what a request brings: what the protocol promises of every single one.

Knows messages only, so it judges executions of any kernel, over any transport.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..client import Execution
from ..client.outputs import OUTPUT_TYPES

__all__ = ["assert_order", "message_types", "order_faults", "require"]


def message_types(execution: Execution) -> list[str]:
    """What came on iopub, up to idle: ``status:busy``, ``execute_input``, ``stream`` ..."""
    return [
        f"status:{one.content.get('execution_state')}" if one.msg_type == "status" else one.msg_type
        for one in execution.messages
    ]


def assert_order(execution: Execution, *types: str) -> None:
    """Assert that a finished request brought its messages in the order that it should.

    Always: busy first, idle last, one reply, one ``execute_input`` before all outputs, outputs
    and reply agree on success. With ``types`` (as of `message_types`), exactly those besides.
    Source: messaging.rst, "Request-Reply" and "Kernel status".
    """
    __tracebackhide__ = True
    faults = list(order_faults(execution))
    if types and message_types(execution) != list(types):
        faults.append(f"expected are {' '.join(types)}")
    require(
        not faults, f"{execution}: {'; '.join(faults)}\niopub: {_line(message_types(execution))}"
    )


def require(condition: object, text: str) -> None:
    """Raise `AssertionError` with this text, and no other, unless the condition holds.

    Not an ``assert``: to those pytest adds its own words, and ``python -O`` leaves them out.
    """
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(text)


def order_faults(execution: Execution) -> Iterator[str]:
    """What is wrong with the order, in words; nothing if all is well."""
    types = message_types(execution)
    if types[:1] != ["status:busy"] or types.count("status:busy") != 1:
        yield "busy must come once, before everything else"
    again = any(one.msg_type == "status" for one in execution.late)
    if types[-1:] != ["status:idle"] or again:
        yield "idle must come once, after everything else"
    if execution.replies != 1 and execution.has_reply:
        yield f"there must be one reply, not {execution.replies}"
    if execution.msg_type == "execute_request":
        yield from _execute_faults(execution, types)


def _execute_faults(execution: Execution, types: Sequence[str]) -> Iterator[str]:
    outputs = [index for index, one in enumerate(types) if one in OUTPUT_TYPES]
    inputs = [index for index, one in enumerate(types) if one == "execute_input"]
    if execution.silent:
        if len(types) > 2:
            yield "a silent request must publish nothing but busy and idle"
        return
    if not inputs and execution.status in ("aborted", "error"):  # it was refused, or never run
        if outputs:
            yield "a request that was not run must have no outputs"
        return
    if len(inputs) != 1:
        yield f"there must be one execute_input, not {len(inputs)}"
    elif outputs and outputs[0] < inputs[0]:
        yield "execute_input must come before the outputs"
    if types.count("execute_result") > 1:
        yield "there must be at most one execute_result"
    if execution.status == "error" and inputs and "error" not in types:
        yield "the reply says error, so there must be an error output"


def _line(types: Sequence[str]) -> str:
    """The types with repetitions counted: ``stream x 3``."""
    groups: list[tuple[str, int]] = []
    for one in types:
        if groups and groups[-1][0] == one:
            groups[-1] = (one, groups[-1][1] + 1)
        else:
            groups.append((one, 1))
    return ", ".join(name if count == 1 else f"{name} x {count}" for name, count in groups)
