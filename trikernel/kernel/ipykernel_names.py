"""The methods and attributes that subclasses written for ipykernel use, mostly one line each.

The state behind them is in the kernel's parts: `sender` (what is sent, and its parent), `stdin`
(questions) and the server. Source: ipykernel's ``kernelbase.Kernel``, whose subclasses run
unchanged.
"""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..core import Job, current_subshell
from ..errors import TrikernelError
from ..wire import PROTOCOL_VERSION, Priority
from .checks import check_facts, language_info
from .handlers import built_in
from .hooks import name_of
from .sender import NOT_SERVED, ChannelHandle, Sender
from .settings import settings_of

if TYPE_CHECKING:
    from .stdin import Asker

__all__ = ["IPykernelNames", "asker_of", "note_served", "served_kernel"]

K = TypeVar("K", bound="IPykernelNames")
_kept: list[Any] = []
_served: list[Callable[[], Any]] = []  # a weak reference to the kernel that was served last


def note_served(kernel: Any) -> None:
    """Note that a kernel is served now, so that `Kernel.instance` finds it."""
    _served[:] = [weakref.ref(kernel)]


def served_kernel() -> Any:
    """The kernel that was served last in this process, or None."""
    return next((kernel for find in _served if (kernel := find()) is not None), None)


def _told(kernel: Any, name: str, default: Any = "") -> Any:
    """A fact, which the author's class may compute. If that raises, a warning is logged and the
    default is returned.
    """
    try:
        return getattr(kernel, name)
    except Exception as error:  # the boundary of the author's code
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        kernel.log.warning("%s cannot be told: %s", name_of(kernel, name), text)
        return default


def asker_of(kernel: IPykernelNames) -> Asker:
    """What asks the person at the frontend. Raises `TrikernelError` while it is not served."""
    if kernel.served_asker is None:
        raise TrikernelError(NOT_SERVED)
    return kernel.served_asker


class IPykernelNames:
    """See `Kernel`, which is what authors subclass."""

    if TYPE_CHECKING:  # what `Kernel` has
        implementation: str
        implementation_version: str
        language: str
        language_version: str
        language_info: Mapping[str, Any]
        banner: str
        help_links: Sequence[Mapping[str, str]]
        supported_features: Sequence[str]
        has_subshells: bool
        sender: Sender
        server: Any
        ports: dict[str, int]

        served_asker: Asker | None
        log: logging.Logger
        _eventloop: Callable[[Any], object] | None
        kept_session: Any
        kept_comms: Any

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        """Set all settings to their defaults: like traits, they can be read before ``__init__``."""
        kernel = super().__new__(cls)
        kernel.log = logging.getLogger("trikernel")
        for name, one in settings_of(cls).items():
            kernel.__dict__[name] = one.default
        return kernel

    @classmethod
    def instance(cls: type[K], **settings: Any) -> K:
        """The kernel of this class that was served last, or a new one that is kept."""
        for kernel in (*(find() for find in _served), *_kept):
            if isinstance(kernel, cls):
                return kernel
        kernel = cls(**settings)
        _kept[:] = [kernel]
        return kernel

    @property
    def session(self) -> Any:
        """A `jupyter_client.session.Session` that sends through this kernel's channels."""
        if self.kept_session is None:
            from .session import KernelSession  # imported late, because jupyter_client is slow

            self.kept_session = KernelSession.on(self.sender.connection)
        return self.kept_session

    @property
    def comm_manager(self) -> Any:
        """The comm manager. Comms connect the kernel to objects in the frontend:
        ``register_target(name, function)`` serves a target, ``create(target_name=..., data=...)``
        opens a comm. Handlers may be async. It may be set to another object that has ``comms``,
        ``comm_open``, ``comm_msg`` and ``comm_close`` as the ``comm`` package's manager.
        """
        if self.kept_comms is None:
            from .comms import CellCommManager  # not every kernel has comms

            self.kept_comms = CellCommManager(weakref.ref(self))
        return self.kept_comms

    @comm_manager.setter
    def comm_manager(self, manager: Any) -> None:
        self.kept_comms = manager

    @property
    def shell_streams(self) -> list[ChannelHandle]:
        """A handle for each shell channel."""
        channels = self.sender.connection.transport.shell
        return [ChannelHandle(self.sender, channel.name) for channel in channels]

    @property
    def shell_stream(self) -> ChannelHandle:
        """The first shell channel."""
        return ChannelHandle(self.sender, "shell")

    @built_in
    def start(self) -> None:
        """ipykernel's name for what is to be done before `started`. Plain or async."""

    def record_ports(self, ports: Mapping[str, int]) -> None:
        """Remember the ports that a ``connect_reply`` lists."""
        self.ports = dict(ports)

    @property
    @built_in
    def kernel_info(self) -> dict[str, Any]:
        """The content of a ``kernel_info_reply``. A fact that the subclass leaves out, or whose
        computation raises, has a default, because clients wait for this reply before anything else.
        """
        info = _told(self, "language_info", {})
        info = dict(info) if type(info) is dict else language_info(self, info)
        language, banner = _told(self, "language"), _told(self, "banner")
        own, own_version = _told(self, "implementation"), _told(self, "implementation_version")
        version = _told(self, "language_version")
        info.setdefault("name", str(language or ""))
        info.setdefault("version", str(version or ""))
        info.setdefault("mimetype", "text/plain")
        info.setdefault("file_extension", ".txt")
        facts = language, version, banner, own, own_version
        texts = info["name"], info["version"], info["mimetype"], info["file_extension"]
        for value in (*facts, *texts):
            if type(value) is not str:
                check_facts(self, info)
        features = list(_told(self, "supported_features", ()) or ())
        if self.has_subshells and "kernel subshells" not in features:
            features.append("kernel subshells")
        return {
            "status": "ok",
            "protocol_version": PROTOCOL_VERSION,
            "implementation": str(own or ""),
            "implementation_version": str(own_version or ""),
            "language_info": info,
            "banner": str(banner or own or ""),
            "help_links": list(_told(self, "help_links", ()) or ()),
            "supported_features": features,
            "debugger": "debugger" in features,
        }

    # The parent

    def set_parent(self, ident: Sequence[bytes], parent: Mapping[str, Any]) -> None:
        """Make ``parent`` (a message) the parent of what this task and its children send."""
        self.sender.set_parent(ident, parent)

    def get_parent(self, channel: str = "shell") -> dict[str, Any]:
        """The message that the calling code runs for, as a nested dictionary; ``{}`` for none.

        With ``"control"`` it is ``{}`` unless that message came on the control channel.
        """
        request = self.sender.current() if channel == "control" else None
        if request is not None and request.channel.name != channel:
            return {}
        return self.sender.get_parent()

    @property
    def _parent_header(self) -> dict[str, Any]:
        return self.sender.get_parent()

    @property
    def _parent_ident(self) -> dict[str, list[bytes]]:
        idents = self.sender.idents()
        return {"shell": idents, "control": idents}

    @property
    def _allow_stdin(self) -> bool:
        request = self.sender.current()
        return request is not None and getattr(request.content, "allow_stdin", False) is True

    # Sending

    def _topic(self, topic: str) -> bytes:
        return self.sender.connection.iopub.topic(topic)

    def _publish_status(self, status: str, parent: Mapping[str, Any] | None = None) -> None:
        """Publish ``busy``, ``idle`` or ``starting`` about ``parent`` (a message)."""
        iopub = self.sender.connection.iopub
        about = parent["header"] if parent else self.sender.parent_header()
        iopub.post(iopub.encode_status(status, about))

    # Input

    def raw_input(self, prompt: str = "") -> str:
        """Ask the frontend and block until the answer has come, as `input` does.

        Raises `StdinNotImplementedError` at once if the frontend does not allow it, `PeerGone`
        if the frontend has had no stdin channel open for half a second, `StdinUnavailable` in a
        kernel without sockets, `EOFError` for the end of file, `KeyboardInterrupt` if the request
        is stopped.
        """
        return asker_of(self).ask(self.sender.current(), str(prompt), password=False)

    def getpass(self, prompt: str = "", stream: Any = None) -> str:
        """As `raw_input`, without showing what is typed; ``stream`` is not supported."""
        if stream is not None:
            text = "the `stream` argument of getpass() has no effect in a notebook"
            warnings.warn(text, UserWarning, stacklevel=3)
        return asker_of(self).ask(self.sender.current(), str(prompt), password=True)

    # The shell lane

    async def process_one(self, wait: bool = True) -> int | None:
        """Handle the most urgent queued request. Returns its priority, or None if none is queued.

        With ``wait`` it waits for one. Called in a running cell, it handles the request while that
        cell is suspended: if the request fails, queued requests are aborted, but not the cell.
        """
        subshell = current_subshell.get()
        lane = self.server.lane if subshell is None else subshell.lane
        priority: int | None = await lane.process_one(wait)
        return priority

    async def do_one_iteration(self) -> None:
        """Handle everything queued above shell priority, and at most one shell request."""
        while True:
            priority = await self.process_one(wait=False)
            if priority is None or priority >= Priority.SHELL:
                return

    def schedule_dispatch(self, priority: int, dispatch: Any, *args: Any) -> None:
        """Queue a call of ``dispatch(*args)``, plain or async, in the shell lane.

        May be called in any thread. What ``dispatch`` raises is logged.
        """
        self.server.schedule(priority, Job(dispatch, args))

    @property
    def eventloop(self) -> Callable[[Any], object] | None:
        """A callable that is called with the kernel while no message is queued, or None.

        Each call lets another event loop run once. It may be set and cleared at any time.
        """
        return self._eventloop

    @eventloop.setter
    def eventloop(self, function: Callable[[Any], object] | None) -> None:
        self._eventloop = function
        if self.sender.is_connected:
            self.server.eventloop_changed.set()
