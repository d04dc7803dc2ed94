"""Completion, inspection, history and completeness, answered by IPython.

IPython is imported inside the functions: `early` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["complete", "history", "inspect", "is_complete"]


def complete(shell: Any, code: str, cursor_pos: int) -> dict[str, Any]:
    """A ``complete_reply``, with the kinds and signatures that frontends show."""
    from IPython.core.completer import provisionalcompleter, rectify_completions

    with provisionalcompleter():
        completions = list(
            rectify_completions(code, list(shell.Completer.completions(code, cursor_pos)))
        )
    details = [
        {
            "start": one.start,
            "end": one.end,
            "text": one.text,
            "type": one.type,
            "signature": one.signature,
        }
        for one in completions
    ]
    start = completions[0].start if completions else cursor_pos
    end = completions[0].end if completions else cursor_pos
    return {
        "status": "ok",
        "matches": [one.text for one in completions],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {"_jupyter_types_experimental": details},
    }


def inspect(
    shell: Any, code: str, cursor_pos: int, detail_level: int, omit_sections: Sequence[str]
) -> dict[str, Any]:
    """An ``inspect_reply`` about the name at the cursor."""
    from IPython.utils.tokenutil import token_at_cursor

    name = token_at_cursor(code, cursor_pos)
    try:
        bundle = shell.object_inspect_mime(
            name, detail_level=detail_level, omit_sections=omit_sections
        )
    except KeyError:
        bundle = None
    data = dict(bundle or {})
    if not shell.enable_html_pager:
        data.pop("text/html", None)
    return {"status": "ok", "found": bundle is not None, "data": data, "metadata": {}}


def history(
    shell: Any,
    hist_access_type: str,
    output: bool,
    raw: bool,
    session: int | None,
    start: int | None,
    stop: int | None,
    n: int | None,
    pattern: str | None,
    unique: bool,
) -> dict[str, Any]:
    """A ``history_reply``, from IPython's history."""
    manager = shell.history_manager
    if hist_access_type == "tail":
        found = manager.get_tail(_count(n, 10), raw=raw, output=output, include_latest=True)
    elif hist_access_type == "range":
        found = manager.get_range(session or 0, start or 0, stop, raw=raw, output=output)
    else:
        found = manager.search(
            pattern or "*", raw=raw, output=output, n=_count(n, None), unique=unique
        )
    # in some answers of IPython the current session has the number 0
    entries = [(session or manager.session_number, *rest) for session, *rest in found]
    return {"status": "ok", "history": entries}


def is_complete(shell: Any, code: str) -> dict[str, Any]:
    """An ``is_complete_reply``; if the code is incomplete, with the indent of the next line."""
    status, indent = shell.input_transformer_manager.check_complete(code)
    reply = {"status": status}
    if status == "incomplete":
        reply["indent"] = " " * (indent or 0)
    return reply


def _count(n: int | None, default: int | None) -> int | None:
    """How many entries, limited to what fits into a 64-bit integer of SQLite."""
    return default if n is None else max(0, min(n, 1 << 62))
