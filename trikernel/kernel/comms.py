"""Comms: the ``comm`` package, which ipywidgets and others use, over a kernel's channels.

While at least one kernel is served, also in memory, ``comm.create_comm`` and
``comm.get_comm_manager`` are replaced by functions that find out from the calling context which
kernel's code calls them: the comm is that kernel's. Code that runs for no kernel gets the original.
Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from types import CoroutineType
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager
from trio.lowlevel import enable_ki_protection

from ..core import is_cancel, run_unprotected, unwrap_interrupt
from .replacements import Replacements, Served

__all__ = ["CellCommManager", "Comm", "retake_comms", "with_comms"]

_log = logging.getLogger("trikernel")


class Comm(BaseComm):
    """One comm. What it sends has the calling cell as its parent.

    ``find`` returns its kernel, or None when that is gone; without it the kernel is ``kernel``, or
    by default that of the calling code. ``note`` is called with ``pre_execute`` before and
    ``post_execute`` after each message's handler has run. ``show_warning`` is an argument of
    ipykernel's class and has no effect.
    """

    def __init__(
        self,
        *args: Any,
        find: Callable[[], Any] | None = None,
        note: Callable[[str], object] | None = None,
        kernel: Any = None,
        show_warning: bool = False,
        **kwargs: Any,
    ) -> None:
        if find is None:
            kernel = with_comms.kernel_of_task() if kernel is None else kernel
            find = _weakly(kernel)
        if note is None:
            note = getattr(getattr(find(), "comm_manager", None), "note", _note_nothing)
        self._find, self._note = find, note
        super().__init__(*args, **kwargs)

    @property
    def kernel(self) -> Any:
        """The comm's kernel; widgets read the current parent message from it."""
        return self._find()

    def publish_msg(
        self,
        msg_type: str,
        data: Any = None,
        metadata: Any = None,
        buffers: Sequence[bytes] | None = None,
        **keys: Any,
    ) -> None:
        """Send ``comm_open``, ``comm_msg`` or ``comm_close``; does nothing without a kernel."""
        kernel = self._find()
        if kernel is None or not kernel.sender.is_connected:
            return
        kernel.send_response(
            kernel.iopub_socket,
            msg_type,
            {"data": {} if data is None else data, "comm_id": self.comm_id, **keys},
            ident=f"comm-{self.comm_id}".encode(),
            metadata=metadata or {},
            buffers=buffers,
        )

    def handle_msg(self, msg: Any) -> Any:
        """Call the handler for messages. Returns what it returns, or something awaitable that does
        so if the handler is async.
        """
        if self._msg_callback is None:
            return None
        self._note("pre_execute")
        result = self._msg_callback(msg)
        if isinstance(result, CoroutineType) or isawaitable(result):
            return self._awaited(result)
        self._note("post_execute")
        return result

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        value = await result
        self._note("post_execute")
        return value

    def handle_close(self, msg: Any) -> Any:
        """Call the handler for the close. Returns what it returns, which may be awaitable."""
        return self._close_callback(msg) if self._close_callback is not None else None


class CellCommManager(CommManager):
    """The comms of one kernel. Handlers may be async; what they raise is logged and shown.

    Errors are sent with the comm message as their parent; frontends show these in their log.
    ``find`` returns the kernel, or None when that is gone; ``note`` is as for `Comm`. Callers that
    were written for ipykernel's class give ``kernel`` or ``parent`` instead.
    """

    def __init__(
        self,
        find: Callable[[], Any] | None = None,
        note: Callable[[str], object] | None = None,
        *,
        kernel: Any = None,
        parent: Any = None,
    ) -> None:
        super().__init__()
        self._find = find or _weakly(parent if kernel is None else kernel)
        self.note = note or _note_nothing
        self.call: Callable[..., Any] = run_unprotected  # a handler, which may be plain or async

    def create(self, *args: Any, **kwargs: Any) -> Comm:
        """Create a comm, as ``comm.create_comm`` does in a cell."""
        return Comm(*args, find=self._find, note=self.note, **kwargs)

    @enable_ki_protection
    async def comm_open(self, stream: Any, ident: Any, msg: Any) -> None:
        """The frontend opens a comm. It is closed at once if its target is unknown or the target's
        handler raises.
        """
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
        """A message for a comm. It is dropped if the comm is not open."""
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
        """The kernel ends: mark all comms as closed, so that they send nothing when they are
        garbage-collected.
        """
        for one in self.comms.values():
            one._closed = True
        self.comms.clear()

    async def _call(self, handler: Any, *args: Any) -> bool:
        """Call a handler. An error of it is logged and shown; returns whether there was none."""
        try:
            await self.call(handler, *args)
        except BaseException as raised:
            if is_cancel(raised):
                raise
            _log.warning("a comm handler failed", exc_info=raised)
            self._find().show_error(unwrap_interrupt(raised))
            return False
        return True


def _weakly(kernel: Any) -> Callable[[], Any]:
    return weakref.ref(kernel) if kernel is not None else lambda: None


def _note_nothing(event: str) -> None:
    """The default for ``note``: does nothing."""


class _Functions:
    """The functions that replace those of the ``comm`` package. There is one instance."""

    def __init__(self) -> None:
        self._create_comm: Callable[..., Any] | None = None

    def replace(self, replaced: Replacements) -> None:
        """Replace them."""
        self._replaced = replaced
        self._create_comm = _creating(comm.create_comm)
        replaced.replace(comm, "create_comm", self._create_comm)
        replaced.replace(comm, "get_comm_manager", _finding_manager(comm.get_comm_manager))

    def retake(self) -> None:
        """Replace them again, if other code has replaced ``create_comm`` since."""
        if comm.create_comm is not self._create_comm:
            self.replace(self._replaced)


_functions = _Functions()
retake_comms = _functions.retake
with_comms = Served(_functions.replace)
"""The kernels whose comms ``comm.create_comm`` makes."""


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_comm(*args: Any, **kwargs: Any) -> Any:
        """Create a comm of the kernel that the calling code runs for."""
        kernel = with_comms.kernel_of_task()
        if kernel is None:
            return original(*args, **kwargs)
        create = getattr(kernel.comm_manager, "create", None)
        if create is None:  # an author's own manager
            create = CellCommManager(weakref.ref(kernel)).create
        return create(*args, **kwargs)

    return create_comm


def _finding_manager(original: Callable[[], Any]) -> Callable[[], Any]:
    def get_comm_manager() -> Any:
        """The comm manager of the kernel that the calling code runs for."""
        kernel = with_comms.kernel_of_task()
        return original() if kernel is None else kernel.comm_manager

    return get_comm_manager
