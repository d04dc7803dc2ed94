"""How a check joins a table of requirements, and two assertions that most checks make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...client import Execution
from ..order import require
from ..probe import Check, Requirement

__all__ = ["adding_to", "is_error", "ok", "require"]

SPEC = "messaging.rst"


def adding_to(table: list[Requirement]) -> Callable[[str, str, str], Callable[[Check], Check]]:
    """A decorator that adds checks to a table: ``@requirement(id, sentence, source)``."""

    def requirement(id: str, sentence: str, source: str) -> Callable[[Check], Check]:
        def add(check: Check) -> Check:
            table.append(Requirement(id, sentence, f"{SPEC}, {source}" if source else SPEC, check))
            return check

        return add

    return requirement


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
