"""The manifest: what a Jupyter kernel must do, each requirement with its id, source and check.

The modules of `trikernel.conformance.requirements` add to one table, `REQUIREMENTS`, by the
decorator `requirement`. This module does not know how a kernel is started, or how a result is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from ..errors import TrikernelError, UsageError

__all__ = [
    "FEATURES",
    "REQUIREMENTS",
    "SPEC",
    "Check",
    "NotChecked",
    "NotOffered",
    "Requirement",
    "requirement",
    "select",
]

SPEC = "messaging.rst"

FEATURES = {
    "core": "what every kernel has",
    "sockets": "what only shows over real sockets",
    "stdin": "questions to the person at the frontend",
    "comm": "comms, by which widgets speak",
    "welcome": "`iopub_welcome`; offered by a kernel that sends one",
    "usage": "`usage_request`, an extension of ipykernel; offered by a kernel that answers it",
    "debugger": "offered by `supported_features` in the kernel_info_reply",
    "kernel subshells": "offered by `supported_features` in the kernel_info_reply",
    "kernelspec": "what the kernelspec says",
    "curve": "encryption; offered by `metadata.supported_encryption` of the kernelspec",
    "handshake": "the startup handshake; offered by a `kernel_protocol_version` from 5.6 on",
}
"""Each feature: what it is, or how to know whether a kernel offers it."""

LIVE, ENDS, AFTERWARDS = range(3)


class NotOffered(TrikernelError):
    """Raised by a check: the kernel does not claim the feature, or the requirement cannot apply to
    it. The text says why.
    """


class NotChecked(TrikernelError):
    """Raised by a check: the requirement may apply, but cannot be checked; the text says why."""


Check = Callable[[Any], Awaitable[None]]
"""Called with a `trikernel.conformance.probe.Probe`."""


@attrs.frozen
class Requirement:
    """One thing that a kernel must do. ``source`` is the document that demands it.

    ``check`` talks to a kernel, and returns if the requirement is met. If it is not, it raises
    `AssertionError` with what was seen; it may also raise `NotOffered` or `NotChecked`. ``stage``
    is ``LIVE``, ``ENDS`` if the check ends the kernel, or ``AFTERWARDS`` if it only looks at the
    messages of the other checks.
    """

    id: str
    sentence: str
    source: str
    feature: str
    check: Check = attrs.field(repr=False)
    stage: int = attrs.field(default=LIVE, repr=False)

    def __str__(self) -> str:
        return self.id


REQUIREMENTS: list[Requirement] = []


def requirement(
    id: str, sentence: str, source: str, feature: str = "core", *, stage: int = LIVE
) -> Callable[[Check], Check]:
    """A decorator that adds a check to the table.

    ``source`` is a section of messaging.rst. If it has a colon, it is the name of another document
    and, after the colon, its section.
    """

    def add(check: Check) -> Check:
        found = f"{SPEC}, {source}" if source else SPEC
        if ":" in source:
            found = source.removesuffix(":")
        REQUIREMENTS.append(Requirement(id, sentence, found, feature, check, stage))
        return check

    return add


def select(features: Sequence[str] = ()) -> list[Requirement]:
    """The requirements of these features, or all of them, in the order in which they are checked.

    Raises `UsageError` for an unknown feature.
    """
    unknown = [one for one in features if one not in FEATURES]
    if unknown:
        raise UsageError(f"there is no feature {unknown[0]!r}; there are: {', '.join(FEATURES)}")
    chosen = [one for one in REQUIREMENTS if not features or one.feature in features]
    return sorted(chosen, key=lambda one: one.stage)  # stable: in a stage the order remains
