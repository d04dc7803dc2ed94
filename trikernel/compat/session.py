"""A session that an author's code may get before its kernel is served."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..kernel.session import KernelSession

__all__ = ["EarlySession"]


class EarlySession(KernelSession):
    """Takes over the key and the session id of the kernel's connection, once there is one."""

    session: Any
    _find: Callable[[], Any]

    @classmethod
    def of(cls, adapter: Any) -> EarlySession:
        """A session for a kernel that is not served yet."""
        session = cls()
        session._find = weakref.ref(adapter)
        return session

    def send(self, stream: Any, msg_or_type: Any, *args: Any, **kwargs: Any) -> Any:
        """As `KernelSession.send`. Before the kernel is served it can only send to sockets of the
        author's own.
        """
        self._take_over()
        return super().send(stream, msg_or_type, *args, **kwargs)

    def msg_header(self, msg_type: str) -> dict[str, Any]:
        """A header with the kernel's session id."""
        self._take_over()
        return super().msg_header(msg_type)

    def _take_over(self) -> None:
        adapter = self._find()
        if adapter is None or not adapter.sender.is_connected:
            return
        connection = adapter.sender.connection
        codec = connection.codec
        if self.session != codec.session:
            self.key, self.signature_scheme = codec.key, codec.signature_scheme
            self.session, self.username = codec.session, codec.username
            self._topic = connection.iopub.topic
