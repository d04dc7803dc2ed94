"""The ``comm`` package on our channels: what ipywidgets and other frontends' objects speak.

While at least one kernel is served, in memory too, ``comm.create_comm`` and
``comm.get_comm_manager`` ask the calling context whose code it is: the comm is that kernel's. Code
that runs for none gets what it got before. Source: messaging.rst, "Custom Messages".
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager
from trio.lowlevel import enable_ki_protection

from ..core import is_cancel, run_unprotected, unwrap_interrupt
from .replacements import Replacements, Served

__all__ = ["CellCommManager", "Comm", "retake_comms", "with_comms"]

_log = logging.getLogger("trikernel")


class Comm(BaseComm):
    """One comm; what it says goes out under the cell that says it.

    ``find`` gives its kernel, or None when that is gone; by default it is that of the calling code,
    or ``kernel``. ``note`` is called with ``pre_execute`` and ``post_execute`` around each
    message's handler. ``show_warning`` is ipykernel's, whose class warns.
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
            {"data": {} if data is None else data, "comm_id": self.comm_id, **keys},
            ident=f"comm-{self.comm_id}".encode(),
            metadata=metadata or {},
            buffers=buffers,
        )

    def handle_msg(self, msg: Any) -> Any:
        """Call the handler; what it returns, which may be awaitable."""
        if self._msg_callback is None:
            return None
        self._note("pre_execute")
        result = self._msg_callback(msg)
        self._note("post_execute")
        return result

    def handle_close(self, msg: Any) -> Any:
        """Call the handler; what it returns, which may be awaitable."""
        return self._close_callback(msg) if self._close_callback is not None else None


class CellCommManager(CommManager):
    """The comms of one kernel. Handlers may be async; what they raise is shown.

    Their errors go out under the comm message's own parent, where frontends have a log for them.
    ``find`` gives the kernel, or None when that is gone; ``note`` is as for `Comm`. ipykernel's
    class is given ``kernel`` instead, and a ``parent`` to configure it.
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
        """What ``comm.create_comm`` makes in a cell."""
        return Comm(*args, find=self._find, note=self.note, **kwargs)

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
    """Nobody wants to know."""


class _Functions:
    """What stands in the ``comm`` package. There is one."""

    def __init__(self) -> None:
        self._create_comm: Callable[..., Any] | None = None

    def replace(self, replaced: Replacements) -> None:
        """Put it there."""
        self._replaced = replaced
        self._create_comm = _creating(comm.create_comm)
        replaced.replace(comm, "create_comm", self._create_comm)
        replaced.replace(comm, "get_comm_manager", _finding_manager(comm.get_comm_manager))

    def retake(self) -> None:
        """Put it there again, if something else stands there now."""
        if comm.create_comm is not self._create_comm:
            self.replace(self._replaced)


_functions = _Functions()
retake_comms = _functions.retake
with_comms = Served(_functions.replace)
"""The kernels whose comms ``comm.create_comm`` makes."""


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_comm(*args: Any, **kwargs: Any) -> Any:
        """Create a comm of the kernel whose code asks."""
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
        """The comms of the kernel whose code asks."""
        kernel = with_comms.kernel_of_task()
        return original() if kernel is None else kernel.comm_manager

    return get_comm_manager
