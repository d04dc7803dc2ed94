"""Creates and deletes subshells for a client; none is left over if the caller is cancelled."""

from __future__ import annotations

from contextlib import suppress

import trio

from ..errors import KernelDied, NoSubshell
from .connection import Connection

__all__ = ["create_subshell", "delete_subshell"]

GRACE = 5  # seconds that a kernel has to create or delete one


async def create_subshell(connection: Connection) -> str:
    """Create a subshell; returns its id. Raises `NoSubshell`, `KernelDied`. If it is cancelled, the
    subshell is deleted again.
    """
    asked = connection.send("create_subshell_request", {}, channel="control")
    subshell_id: str | None = None
    try:
        with trio.CancelScope(shield=True), trio.move_on_after(GRACE):
            content = (await (await asked.wait()).wait_reply()).content
            subshell_id = content.get("subshell_id")
            if not isinstance(subshell_id, str):
                raise NoSubshell(
                    str(content.get("evalue", f"the kernel answered {content!r:.200}"))
                )
        if subshell_id is None:
            raise NoSubshell(f"the kernel has not answered for {GRACE} seconds")
        await trio.lowlevel.checkpoint_if_cancelled()
    except trio.Cancelled:
        if subshell_id is not None:
            await delete_subshell(connection, subshell_id)
        raise
    return subshell_id


async def delete_subshell(connection: Connection, subshell_id: str) -> None:
    """Delete a subshell, and wait `GRACE` seconds at most until that is done. Raises nothing, also
    if the kernel ends. Shielded from cancellation.
    """
    with trio.move_on_after(GRACE, shield=True), suppress(KernelDied):
        content = {"subshell_id": subshell_id}
        asked = connection.send("delete_subshell_request", content, channel="control")
        await asked.wait()
