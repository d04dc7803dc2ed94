"""The ``comm`` package on our channels: what ipywidgets and other frontends' objects speak.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from comm.base_comm import BaseComm, CommManager
from trio.lowlevel import enable_ki_protection

from ..core import is_cancel, run_unprotected, unwrap_interrupt

__all__ = ["CellCommManager", "Comm"]

_log = logging.getLogger("trikernel")


class Comm(BaseComm):
    """One comm; what it says goes out under the cell that says it.

    ``find`` gives its kernel, or None when that is gone.
    """

    def __init__(self, *args: Any, find: Callable[[], Any], **kwargs: Any) -> None:
        self._find = find
        super().__init__(*args, **kwargs)

    @property
    def kernel(self) -> Any:
        """Its kernel; widgets ask it for the message that runs."""
        return self._find()

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Sequence[bytes] | None = None,
        **keys: Any,
    ) -> None:
        """Send ``comm_open``, ``comm_msg`` or ``comm_close``; without a kernel, nothing."""
        kernel = self._find()
        if kernel is None or not kernel.sender.is_connected:
            return
        kernel.send_response(
            kernel.iopub_socket,
            msg_type,
            {"data": data or {}, "comm_id": self.comm_id, **keys},
            ident=f"comm-{self.comm_id}".encode(),
            metadata=metadata or {},
            buffers=buffers,
        )

    def handle_msg(self, msg: Any) -> Any:
        """Call the handler; what it returns, which may be awaitable."""
        if self._msg_callback is None:
            return None
        kernel = self._find()
        trigger = kernel.shell.events.trigger if kernel is not None else _ignore
        trigger("pre_execute")
        result = self._msg_callback(msg)
        trigger("post_execute")
        return result

    def handle_close(self, msg: Any) -> Any:
        """Call the handler; what it returns, which may be awaitable."""
        return self._close_callback(msg) if self._close_callback is not None else None


class CellCommManager(CommManager):
    """The comms of one kernel. Handlers may be async; what they raise is shown.

    Their errors go out under the comm message's own parent, where frontends have a log for them.
    ``find`` gives the kernel, or None when that is gone.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        super().__init__()
        self._find = find

    def create(self, *args: Any, **kwargs: Any) -> Comm:
        """What ``comm.create_comm`` makes in a cell."""
        return Comm(*args, find=self._find, **kwargs)

    @enable_ki_protection
    async def comm_open(self, stream: Any, ident: Any, msg: Any) -> None:
        """The frontend opens a comm; one of an unknown target is closed at once."""
        content = msg["content"]
        comm_id, target_name = content["comm_id"], content["target_name"]
        opened = self.create(comm_id=comm_id, primary=False, target_name=target_name)
        self.register_comm(opened)
        target = self.targets.get(target_name)
        if target is None:
            _log.error("no comm target %r is registered", target_name)
        elif await self._call(target, opened, msg):
            return
        opened.close()

    @enable_ki_protection
    async def comm_msg(self, stream: Any, ident: Any, msg: Any) -> None:
        """A message for a comm; for one that is closed it is dropped."""
        found = self.get_comm(msg["content"]["comm_id"])
        if found is not None:
            await self._call(found.handle_msg, msg)

    @enable_ki_protection
    async def comm_close(self, stream: Any, ident: Any, msg: Any) -> None:
        """The frontend closes a comm."""
        found = self.get_comm(msg["content"]["comm_id"])
        if found is not None:
            found._closed = True
            del self.comms[found.comm_id]
            await self._call(found.handle_close, msg)

    def close_all(self) -> None:
        """The kernel ends: nothing is to be said any more when its comms are collected."""
        for one in self.comms.values():
            one._closed = True
        self.comms.clear()

    async def _call(self, handler: Any, *args: Any) -> bool:
        """Whether the handler went well."""
        try:
            await run_unprotected(handler, *args)
        except BaseException as raised:
            if is_cancel(raised):
                raise
            _log.warning("a comm handler failed", exc_info=raised)
            self._find().show_error(unwrap_interrupt(raised))
            return False
        return True


def _ignore(event: str) -> None:
    """A kernel that is gone has no hooks."""
