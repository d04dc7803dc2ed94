"""What a kernel is made of: facts, settings, the table of its handlers, its place in a server."""

from __future__ import annotations

import logging
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import Any, ClassVar, TypeVar

from ..core import OutboxLimits, Server
from ..errors import TrikernelError
from ..wire import REQUESTS, Limits, MessageType
from .promptness import prompt
from .settings import Setting, add_settings, resolve_settings, set_checked, setting

__all__ = ["KernelState"]

K = TypeVar("K", bound="KernelState")
_ABORTED_LIMIT = 10_000
_MINUTES = 3600.0


class KernelState:
    """The base of the base: what every other part of `Kernel` stands on."""

    stop_on_error_timeout: float = setting(
        0.1, "seconds during which what arrives after an error is aborted", maximum=_MINUTES
    )
    cell_timeout: float = setting(
        0.0, "seconds after which a cell is stopped, 0 for never", maximum=1e9
    )
    poll_interval: float = setting(
        0.01, "seconds between two turns of a set event loop", minimum=0.0005, maximum=60
    )
    switch_interval: float = setting(
        0.001, "seconds a thread may hold the interpreter lock", minimum=1e-6, maximum=1
    )
    shutdown_grace: float = setting(
        0.6, "seconds that a shutdown waits for user code, twice at most", maximum=_MINUTES
    )
    exit_grace: float = setting(
        10.0, "seconds that threads and exit handlers have at the end, 0 for any", maximum=_MINUTES
    )
    flush_interval: float = setting(
        0.02, "seconds after which printed text is sent", minimum=0.001, maximum=10
    )
    max_merge: int = setting(1 << 16, "characters of text in one message", minimum=1)
    output_budget_bytes: int = setting(
        16 << 20, "bytes of text kept for a frontend that does not read", minimum=1 << 10
    )
    output_budget_seconds: float = setting(
        0.5, "seconds that output waits for a frontend that does not read", maximum=60
    )
    max_frames: int = setting(4096, "frames that a message may have", minimum=6)
    max_message_bytes: int = setting(
        1 << 30, "bytes that a message may have", minimum=1 << 10, maximum=1 << 62
    )
    max_identities: int = setting(64, "routing frames that a message may have", minimum=1)
    max_queue_bytes: int = setting(
        1 << 30, "bytes of requests that may wait; more get an error reply", minimum=1 << 12
    )
    max_backlog_bytes: int = setting(
        1 << 26, "bytes of replies kept for a client that does not read", minimum=1 << 12
    )
    replay_window: int = setting(
        8_192, "verified signatures that are remembered", minimum=1, maximum=1 << 24
    )
    shell_channels: int = setting(1, "shell channels to listen on", minimum=1, maximum=64)
    darwin_app_nap: bool = setting(True, "on macOS, keep the system from napping the kernel")

    implementation = "trikernel"
    implementation_version = ""
    language = "unknown"
    language_version = ""
    language_info: Mapping[str, Any] = {}
    banner = ""
    help_links: Sequence[Mapping[str, str]] = ()
    supported_features: Sequence[str] = ()

    msg_types: ClassVar[list[str]] = [
        row.name for row in REQUESTS.values() if "shell" in row.channels
    ]
    """Message types that are handled by the method of that name; a subclass may add some."""
    control_msg_types: ClassVar[list[str]] = list(REQUESTS)

    _settings: ClassVar[Mapping[str, Setting]]
    _latest: ClassVar[Callable[[], KernelState | None]] = staticmethod(lambda: None)
    _kept: ClassVar[KernelState | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        add_settings(cls)

    def __init__(self, **settings: Any) -> None:
        """Settings by keyword; `SettingError` names one that is unknown or out of its range."""
        for name, value in resolve_settings(type(self), settings):
            setattr(self, name, value)
        self.log = logging.getLogger("trikernel")
        self.ident = str(uuid.uuid4())
        self.int_id = -1
        self.execution_count = 0
        self.aborted: dict[str, None] = {}
        self.comm_manager: Any = None
        self.user_context: Context | None = None
        self._server: Server | None = None
        self._eventloop: Callable[[Any], object] | None = None
        self._ports: dict[str, int] = {}
        self.shell_handlers = {name: getattr(self, name) for name in self.msg_types}
        self.control_handlers = {name: getattr(self, name) for name in self.control_msg_types}
        self._rows: dict[str, MessageType] = dict(REQUESTS)

    @classmethod
    def instance(cls: type[K], **settings: Any) -> K:
        """The kernel of this class that was served last, or a new one that is kept."""
        for kernel in (KernelState._latest(), KernelState._kept):
            if isinstance(kernel, cls):
                return kernel
        kernel = cls(**settings)
        KernelState._kept = kernel
        return kernel

    # What the core asks

    def bind(self, server: Server) -> None:
        """The kernel is about to be served by ``server``."""
        if self._server is not None:
            raise TrikernelError("this kernel is being served already; make another one")
        self._server = server
        KernelState._latest = weakref.ref(self)
        if not self._ports:
            self.record_ports(server.transport.ports)

    def unbind(self) -> None:
        """It is no longer served."""
        self._server = None

    def find(self, msg_type: str) -> MessageType | None:
        """The row of a message type that this kernel has a handler for."""
        if msg_type not in self.shell_handlers and msg_type not in self.control_handlers:
            return None
        row = self._rows.get(msg_type)
        if row is None:
            row = self._rows[msg_type] = MessageType(name=msg_type, reply=dict)
        return row

    def remember_aborted(self, msg_ids: set[str]) -> None:
        """Abort these when they come; the oldest ids beyond 10,000 are forgotten."""
        self.aborted.update(dict.fromkeys(msg_ids))
        while len(self.aborted) > _ABORTED_LIMIT:
            del self.aborted[next(iter(self.aborted))]

    @property
    def limits(self) -> Limits:
        """The bounds of a message."""
        return Limits(
            self.max_frames, self.max_message_bytes, self.max_identities, self.replay_window
        )

    @property
    def outbox_limits(self) -> OutboxLimits:
        """The bounds of the output queue."""
        return OutboxLimits(
            self.max_merge,
            self.flush_interval,
            self.output_budget_bytes,
            self.output_budget_seconds,
        )

    # For subclasses

    @property
    def server(self) -> Server:
        """The server that this kernel is part of; `TrikernelError` while it is not served."""
        if self._server is None:
            raise TrikernelError("this kernel is not being served: pass it to serve() or run()")
        return self._server

    @property
    def eventloop(self) -> Callable[[Any], object] | None:
        """A callable that is called with the kernel while no message waits, or None.

        Each call advances some other event loop once. Set it, swap it, clear it at any time.
        """
        return self._eventloop

    @eventloop.setter
    def eventloop(self, function: Callable[[Any], object] | None) -> None:
        self._eventloop = function
        if self._server is not None:
            server = self._server
            server.user_token.run_sync_soon(lambda: server.eventloop_changed.set())

    def record_ports(self, ports: Mapping[str, int]) -> None:
        """Remember the ports that a ``connect_reply`` lists."""
        self._ports = dict(ports)

    @property
    @prompt
    def kernel_info(self) -> dict[str, Any]:
        """The content of a ``kernel_info_reply``; what a subclass leaves out has a default."""
        from ..wire import PROTOCOL_VERSION

        info = dict(self.language_info or {})
        info.setdefault("name", self.language)
        info.setdefault("version", str(self.language_version))
        info.setdefault("mimetype", "text/plain")
        info.setdefault("file_extension", ".txt")
        return {
            "status": "ok",
            "protocol_version": PROTOCOL_VERSION,
            "implementation": str(self.implementation),
            "implementation_version": str(self.implementation_version),
            "language_info": info,
            "banner": str(self.banner or self.implementation),
            "help_links": list(self.help_links or ()),
            "supported_features": list(self.supported_features or ()),
            "debugger": "debugger" in (self.supported_features or ()),
        }


add_settings(KernelState)
# Not in the class: there mypy would take any name for an attribute.
KernelState.__setattr__ = set_checked  # type: ignore[method-assign]
