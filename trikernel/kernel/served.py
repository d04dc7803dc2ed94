"""What the parts of a kernel ask of it. `Kernel` fulfils it; they know no more of it."""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger
from typing import TYPE_CHECKING, Any, Protocol

from ..core import Server
from .sender import ChannelHandle, Sender

if TYPE_CHECKING:
    from ..timeline import Tasks
    from .fd_capture import FdCapture

__all__ = ["ServedKernel"]

Function = Callable[..., Any]


class ServedKernel(Protocol):
    """A kernel, as its parts see it.

    The verbs and hooks are an author's: they may be plain or async, and return what they like. So
    their types say nothing of that. `handlers` makes complete replies of what they return.
    """

    log: Logger
    cell_timeout: float
    execution_count: int
    has_subshells: bool
    has_widgets: bool
    capture_output: bool
    ports: dict[str, int]

    sender: Sender
    iopub_socket: ChannelHandle
    descriptors: FdCapture | None
    living_tasks: Tasks | None
    kept_comms: Any
    shell_handlers: dict[str, Any]
    control_handlers: dict[str, Any]
    name_of_code: Callable[[str], tuple[str, str] | None]

    @property
    def server(self) -> Server: ...
    @property
    def owns_process(self) -> bool: ...
    @property
    def shell_stream(self) -> ChannelHandle: ...
    @property
    def comm_manager(self) -> Any: ...
    @property
    def kernel_info(self) -> dict[str, Any]: ...

    @property
    def send_response(self) -> Function: ...
    @property
    def _begin_execution(self) -> Function: ...

    @property
    def do_execute(self) -> Function: ...
    @property
    def do_complete(self) -> Function: ...
    @property
    def do_inspect(self) -> Function: ...
    @property
    def do_history(self) -> Function: ...
    @property
    def do_is_complete(self) -> Function: ...
    @property
    def do_debug_request(self) -> Function: ...
    @property
    def do_apply(self) -> Function: ...
    @property
    def do_clear(self) -> Function: ...
    @property
    def init_metadata(self) -> Function: ...
    @property
    def finish_metadata(self) -> Function: ...
