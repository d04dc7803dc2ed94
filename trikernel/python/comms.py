"""The ``comm`` package on our channels: what ipywidgets and other frontends' objects speak.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager

from .streams import redirections

__all__ = ["Comm", "install"]


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


_install_lock = threading.Lock()


def install() -> None:
    """Have ``comm.create_comm`` and ``comm.get_comm_manager`` serve the current kernel."""
    with _install_lock:
        if comm.create_comm is Comm:
            return
        fallback = comm.get_comm_manager

        def get_comm_manager() -> CommManager:
            kernel = redirections.kernel()
            return kernel.comm_manager if kernel is not None else fallback()

        comm.create_comm = Comm
        comm.get_comm_manager = get_comm_manager
