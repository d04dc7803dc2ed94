"""A shield around the scopes that a coroutine has entered, from the moment when it is to clean up.

An asyncio cell that is cancelled by Trio may await as it cleans up (`loops.steps`). So the cancel
has to be kept from what it awaits then. A shielded scope that is entered at that moment would be
inside of the scopes which the coroutine is about to leave, and Trio demands that scopes are left in
the opposite order. One that is entered before the coroutine begins would be inside of scopes that
an earlier statement of the cell has left open, which this one may leave.

So the scope is put into the tree of Trio's scopes at that moment, above what the coroutine has
entered, and is taken out again in the end. This needs private names. Without them the shield is
entered as any scope, and a coroutine that leaves a scope as it cleans up gets Trio's error.
"""

from __future__ import annotations

from typing import Any

import trio
from trio.lowlevel import current_task

__all__ = ["innermost_status", "leave_shield", "shield_within"]


def innermost_status() -> Any:
    """Trio's status of the innermost scope that this task is in; None in a Trio without such."""
    return getattr(current_task(), "_cancel_status", None)


def shield_within(outside: Any) -> trio.CancelScope:
    """Shield this task from cancels of the scope with the status ``outside``, and of those around
    it, but not of the scopes that the task has entered since. Leave it by `leave_shield`.
    """
    scope: Any = trio.CancelScope(shield=True)
    status = innermost_status()
    if status is None or outside is None or status is outside or not outside.encloses(status):
        scope.__enter__()
        return scope  # type: ignore[no-any-return]
    while status.parent is not outside:
        status = status.parent
    own = trio._core._run.CancelStatus(scope=scope, parent=outside)
    scope._cancel_status, status.parent = own, own
    return scope  # type: ignore[no-any-return]


def leave_shield(scope: trio.CancelScope) -> None:
    """Leave a scope of `shield_within`. Scopes that the task is still in stay entered."""
    own: Any = getattr(scope, "_cancel_status", None)
    if own is None or innermost_status() is own:
        scope.__exit__(None, None, None)
        return
    for inner in tuple(own.children):
        inner.parent = own.parent
    own.close()
    scope._cancel_status = None
