"""Handlers of comm messages: what a kernel with a `comm_manager` does, and one without.

Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio.lowlevel import enable_ki_protection

from ..core import Request, run_unprotected
from ..wire import contents as c
from ..wire import parse
from ..wire import replies as r
from .verbs import KernelVerbs

__all__ = ["KernelComms"]


class KernelComms(KernelVerbs):
    """A manager is any object with ``comms``, `comm_open`, `comm_msg` and `comm_close`."""

    async def comm_info_request(self, request: Request) -> r.CommInfoReply:
        """The open comms, all or those of one target."""
        target_name = self._parse(c.CommInfoRequest, request).target_name
        comms = self.comm_manager.comms if self.comm_manager is not None else {}
        return r.CommInfoReply(
            comms={
                comm_id: {"target_name": comm.target_name}
                for comm_id, comm in tuple(comms.items())
                if target_name in (None, comm.target_name)
            }
        )

    @enable_ki_protection
    async def comm_open(self, request: Request) -> None:
        """Open a comm; one of an unknown target is closed at once."""
        content = self._parse(c.CommOpen, request)
        if self.comm_manager is None:
            self.send_response(
                self.iopub_socket, "comm_close", {"comm_id": content.comm_id, "data": {}}
            )
            return
        await self._comm(self.comm_manager.comm_open, request)

    @enable_ki_protection
    async def comm_msg(self, request: Request) -> None:
        """A message for an open comm."""
        self._parse(c.CommMsg, request)
        if self.comm_manager is not None:
            await self._comm(self.comm_manager.comm_msg, request)

    @enable_ki_protection
    async def comm_close(self, request: Request) -> None:
        """The frontend closes a comm."""
        self._parse(c.CommClose, request)
        if self.comm_manager is not None:
            await self._comm(self.comm_manager.comm_close, request)

    async def _comm(self, function: Callable[..., Any], request: Request) -> None:
        message = request.message
        await run_unprotected(
            function, self.shell_stream, list(message.identities), message.as_dict()
        )

    def _parse(self, cls: type[Any], request: Request) -> Any:
        request.content = parse(cls, request.msg_type, request.message.content)
        return request.content
