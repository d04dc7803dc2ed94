"""Results as text, as JSON and as JUnit's XML."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .run import Result

__all__ = ["as_json", "as_junit", "as_lines", "summary"]

ORDER = ("met", "missed", "not offered", "not checked")


def as_lines(result: Result) -> list[str]:
    """A result as a line of a table; a missed requirement has more lines, which show why."""
    one = result.requirement
    head = f"{result.outcome:<12} {one.id:<28} {one.sentence}"
    if result.outcome == "met":
        return [head]
    if result.outcome != "missed":
        return [f"{result.outcome:<12} {one.id:<28} {result.why}"]
    shown = [f"{'':<12}   {line}" for line in result.shown]
    return [head, f"{'':<12} {result.why} ({one.source})", *shown]


def summary(results: Sequence[Result]) -> str:
    """The number of results of each outcome, in words."""
    counts = Counter[str](one.outcome for one in results)
    return ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])


def as_json(results: Sequence[Result], kernel: str) -> str:
    """An object with ``kernel`` and ``results``, each with its requirement's fields."""
    found = {"kernel": kernel, "results": [_as_dict(one) for one in results]}
    return json.dumps(found, indent=2)


def _as_dict(result: Result) -> dict[str, Any]:
    one = result.requirement
    return {
        "id": one.id,
        "sentence": one.sentence,
        "source": one.source,
        "feature": one.feature,
        "outcome": result.outcome,
        "why": result.why,
        "messages": list(result.shown),
    }


def as_junit(results: Sequence[Result], kernel: str) -> str:
    """One test case for each requirement; one that is not offered or not checked is skipped."""
    counts = Counter(one.outcome for one in results)
    suite = ElementTree.Element(
        "testsuite",
        name=kernel,
        tests=str(len(results)),
        failures=str(counts["missed"]),
        skipped=str(counts["not offered"] + counts["not checked"]),
        errors="0",
    )
    for result in results:
        one = result.requirement
        case = ElementTree.SubElement(suite, "testcase", classname=one.feature, name=one.id)
        if result.outcome == "missed":
            failure = ElementTree.SubElement(case, "failure", message=_clean(result.why))
            lines = [f"{one.sentence} ({one.source})", *result.shown]
            failure.text = _clean("\n".join(lines))
        elif result.outcome != "met":
            why = f"{result.outcome}: {result.why}"
            ElementTree.SubElement(case, "skipped", message=_clean(why))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _clean(text: str) -> str:
    """The text with escapes for characters that XML 1.0 may not contain."""
    return "".join(
        one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text
    )
