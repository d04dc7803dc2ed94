"""The ``comm`` package on our channels: what ipywidgets and other frontends' objects speak.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager
from trio.lowlevel import enable_ki_protection

from ..core import collapse, is_cancel, run_unprotected
from .streams import redirections

__all__ = ["CellCommManager", "Comm", "install", "uninstall"]


class Comm(BaseComm):
    """One comm; what it says goes out under the cell that says it."""

    kernel: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kernel = redirections.kernel()
        super().__init__(*args, **kwargs)

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Sequence[bytes] | None = None,
        **keys: Any,
    ) -> None:
        """Send ``comm_open``, ``comm_msg`` or ``comm_close``; without a kernel, nothing."""
        kernel = self.kernel
        if kernel is None or kernel._server is None:
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
        shell = getattr(self.kernel, "shell", None)
        if shell is not None:
            shell.events.trigger("pre_execute")
        result = self._msg_callback(msg)
        if shell is not None:
            shell.events.trigger("post_execute")
        return result

    def handle_close(self, msg: Any) -> Any:
        """Call the handler; what it returns, which may be awaitable."""
        return self._close_callback(msg) if self._close_callback is not None else None


class CellCommManager(CommManager):
    """The comms of one kernel. Handlers may be async; what they raise is shown.

    Their errors go out under the comm message's own parent, where frontends have a log for them.
    """

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self._kernel = kernel

    @enable_ki_protection
    async def comm_open(self, stream: Any, ident: Any, msg: Any) -> None:
        """The frontend opens a comm; one of an unknown target is closed at once."""
        content = msg["content"]
        comm_id, target_name = content["comm_id"], content["target_name"]
        opened = comm.create_comm(comm_id=comm_id, primary=False, target_name=target_name)
        self.register_comm(opened)
        target = self.targets.get(target_name)
        if target is None:
            self._kernel.log.error("no comm target %r is registered", target_name)
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

    def forget_all(self) -> None:
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
            self._kernel.log.warning("a comm handler failed", exc_info=raised)
            self._kernel.show_error(collapse(raised))
            return False
        return True


_install_lock = threading.Lock()
_previous: list[tuple[Any, Any]] = []


def install() -> None:
    """Have ``comm.create_comm`` and ``comm.get_comm_manager`` serve the current kernel."""
    with _install_lock:
        if comm.create_comm is Comm:
            return
        _previous.append((comm.create_comm, comm.get_comm_manager))
        fallback = comm.get_comm_manager

        def get_comm_manager() -> CommManager:
            kernel = redirections.kernel()
            return kernel.comm_manager if kernel is not None else fallback()

        comm.create_comm = Comm
        comm.get_comm_manager = get_comm_manager


def uninstall() -> None:
    """Put back what was there before the first `install`; no kernel is served any more."""
    with _install_lock:
        if _previous:
            comm.create_comm, comm.get_comm_manager = _previous[0]
            _previous.clear()
