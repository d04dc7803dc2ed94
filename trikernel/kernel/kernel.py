"""`Kernel`: the class that authors subclass. Facts, settings, verbs and hooks.

A kernel holds a `Sender` for its messages and an `Asker` for its questions to the person, and a
reference to its server while it is served. What the core asks of a kernel is in `application`, the
handlers of messages are in `handlers`, and the names that subclasses written for ipykernel use are
in `ipykernel_names`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..core import BackgroundNursery, Server, current_subshell
from ..errors import KernelClassError, TrikernelError, UnknownMessageType
from ..wire import REQUESTS, as_content
from . import handlers, recording
from .handlers import built_in
from .ipykernel_names import IPykernelNames, asker_of
from .own_types import keep_message_types
from .sender import NOT_SERVED, ChannelHandle, Sender
from .settings import keep_settings, set_settings, setting
from .shown import refuse_call
from .tracebacks import render_error

if TYPE_CHECKING:
    from ..timeline import Tasks
    from .fd_capture import FdCapture
    from .stdin import Asker

__all__ = ["Kernel"]

_HOUR = 3600.0  # seconds


class Kernel(IPykernelNames):
    """A Jupyter kernel. Subclass it and write the verbs: ``do_execute``, ``do_complete`` ...

    ::

        class Echo(Kernel):
            implementation = "echo"

            async def do_execute(self, code, silent, **options):
                self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

        trikernel.main(Echo)

    Each verb may be plain or ``async``. A plain verb runs on the main thread, where an interrupt
    raises `KeyboardInterrupt` in it; an async one is cancelled. Either may return a content
    dictionary or None for the default answer; what it raises becomes the error reply.

    An instance has ``log`` (a `logging.Logger`), ``execution_count``, and ``iopub_socket`` and
    ``stdin_socket`` for `send_response`. In a process of its own what it prints, and what its
    child processes print, goes to the cell, and `input` asks there: see ``capture_output``.
    Settings are keywords, flags or environment variables; see ``trikernel info``.
    One kernel object is served once at a time, by `trikernel.serve` or `trikernel.run`.
    Source: messaging.rst, "Messages on the shell (ROUTER/DEALER) channel".
    """

    flags: Sequence[str] | None = None
    """The command-line arguments that are no settings. None for a kernel that takes no others: then
    `main` refuses them."""

    connection_file: str | None = None
    """The path of the connection file, in a process of the kernel's own."""

    stop_on_error_timeout: float = setting(
        0.1, "seconds during which what arrives after an error is aborted", maximum=_HOUR
    )
    cell_timeout: float = setting(
        0.0, "seconds after which a cell is stopped, 0 for never", maximum=1e9
    )
    stop_grace: float = setting(
        1.0,
        "seconds that a stopped cell has before the next step of the stop",
        minimum=0.05,
        maximum=_HOUR,
    )
    poll_interval: float = setting(
        0.01, "seconds between two turns of a loop that %gui has set", minimum=0.0005, maximum=60
    )
    switch_interval: float = setting(
        0.001, "seconds a thread may hold the interpreter lock", minimum=1e-6, maximum=1
    )
    shutdown_grace: float = setting(
        0.6, "seconds that a shutdown waits for user code, twice at most", maximum=_HOUR
    )
    exit_grace: float = setting(
        10.0, "seconds that threads and exit handlers have at the end, 0 for any", maximum=_HOUR
    )
    flush_interval: float = setting(
        0.02, "seconds after which printed text is sent", minimum=0.001, maximum=10
    )
    max_merge: int = setting(1 << 16, "characters of text in one message", minimum=1)
    output_budget_bytes: int = setting(
        16 << 20,
        "bytes of output kept for a slow frontend; who writes waits beyond a sixteenth",
        minimum=1 << 10,
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
    registration_timeout: float = setting(
        20.0, "seconds that a launcher has to acknowledge a registration", maximum=_HOUR
    )
    capture_output: bool = setting(
        True, "what is printed, and input(), go to the cell, in a process of the kernel's own"
    )
    shell_channels: int = setting(1, "shell channels to listen on", minimum=1, maximum=64)
    darwin_app_nap: bool = setting(True, "on macOS, keep the system from napping the kernel")

    display_name = ""
    """The kernel's name in launchers. ``trikernel install`` writes it into the kernelspec."""
    interrupt_mode = "signal"
    """``signal`` or ``message``: how clients interrupt. ``trikernel install`` writes it, too."""
    implementation = "trikernel"
    implementation_version = ""
    language = "unknown"
    language_version = ""
    language_info: Mapping[str, Any] = {}
    banner = ""
    help_links: Sequence[Mapping[str, str]] = ()
    supported_features: Sequence[str] = ()
    has_subshells = False
    """Whether clients may create subshells. Each subshell calls verbs and hooks in a thread of its
    own, several at the same time: set this to True in a class that is written for that."""

    msg_types: ClassVar[list[str]] = [
        row.name for row in REQUESTS.values() if "shell" in row.channels
    ]
    """Message types that are handled by the method of that name; a subclass may add some."""
    control_msg_types: ClassVar[list[str]] = list(REQUESTS)

    # Handlers, one for each row of the table. A subclass may override one, or add one for a type
    # of its own: it takes the `Request` and returns a content, a `Reply`, or None. One that takes
    # three arguments is called as ``handler(stream, ident, message)``; it may send its own reply.
    execute_request = handlers.execute_request
    complete_request = handlers.complete_request
    inspect_request = handlers.inspect_request
    history_request = handlers.history_request
    is_complete_request = handlers.is_complete_request
    kernel_info_request = handlers.kernel_info_request
    comm_info_request = handlers.comm_info_request
    connect_request = handlers.connect_request
    usage_request = handlers.usage_request
    tasks_request = handlers.tasks_request
    shutdown_request = handlers.shutdown_request
    interrupt_request = handlers.interrupt_request
    abort_request = handlers.abort_request
    create_subshell_request = handlers.create_subshell_request
    delete_subshell_request = handlers.delete_subshell_request
    list_subshell_request = handlers.list_subshell_request
    debug_request = handlers.debug_request
    apply_request = handlers.apply_request
    clear_request = handlers.clear_request
    comm_open = handlers.comm_open
    comm_msg = handlers.comm_msg
    comm_close = handlers.comm_close
    do_debug_request: Any = handlers.offer_no_debugger
    record = recording.record
    name_of_code: Callable[[str], tuple[str, str] | None] = staticmethod(recording.no_cell)
    _begin_execution = handlers.begin_execution

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_settings(cls)
        keep_message_types(cls)

    def __init__(self, **settings: Any) -> None:
        """Settings by keyword; `SettingError` names one that is unknown or out of its range."""
        set_settings(self, settings)
        self.ident = str(uuid.uuid4())
        self.int_id = -1  # the number of an engine of ipyparallel's
        self.session_id: str | None = None  # in the headers of what it sends; None for a new one
        self.topics = ""  # the prefix of its topics on iopub; by default ``kernel.`` and the ident
        self.execution_count = 0
        self.aborted: dict[str, None] = {}  # ids of requests to abort when they come
        self.ports: dict[str, int] = {}  # what a ``connect_reply`` lists
        self.sender = Sender(type(self).__name__)
        self.iopub_socket = ChannelHandle(self.sender, "iopub")
        self.stdin_socket = ChannelHandle(self.sender, "stdin")
        self.control_stream = ChannelHandle(self.sender, "control")
        self.served_asker: Asker | None = None  # asks the person at the frontend, while served
        self.living_tasks: Tasks | None = None  # those of cells, in a kernel that keeps track
        self.has_widgets = False  # whether a frontend has asked for the comms of widgets
        self.kept_session: Any = None  # `session`, once it was asked for
        self.kept_comms: Any = None  # `comm_manager`, once it was asked for
        self.descriptors: FdCapture | None = None  # captures what is written to descriptors 1 and 2
        self.thread_of_cells: int | None = None  # the cells' thread, where no signal may reach them
        self._eventloop: Callable[[Any], object] | None = None
        self.server_ref: Callable[[], Server | None] = lambda: None
        self.shell_handlers = _methods(self, "msg_types")
        self.control_handlers = _methods(self, "control_msg_types")

    @property
    def server(self) -> Server:
        """The server that this kernel is part of; `TrikernelError` while it is not served."""
        server = self.server_ref()
        if server is None:
            raise TrikernelError(NOT_SERVED)
        return server

    @property
    def owns_process(self) -> bool:
        """Whether it has the process to itself, as it is served now."""
        server = self.server_ref()
        return server is not None and server.owns_process

    @property
    def nursery(self) -> BackgroundNursery:
        """A nursery for tasks that outlive the request that starts them. They run in the loop of
        the calling code: the kernel's, or that of a subshell.
        """
        server, subshell = self.server, current_subshell.get()
        if server.background is None:
            raise TrikernelError("the background nursery is open once the kernel is served")
        tasks = server.background_tasks if subshell is None else subshell.background_tasks
        return BackgroundNursery(tasks, server.application.report_background_error)

    # Sending and asking

    @built_in
    def send_response(
        self,
        stream: ChannelHandle,
        msg_or_type: str | Mapping[str, Any],
        content: Mapping[str, Any] | None = None,
        ident: bytes | Sequence[bytes] | None = None,
        buffers: Sequence[bytes] | None = None,
        track: bool = False,
        header: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Send one message about the current request, on iopub or to the asking client.

        ``stream`` is `iopub_socket` or another channel's handle, ``msg_or_type`` a type or a
        message of `session.msg`. On iopub ``ident`` replaces the topic, elsewhere the client.
        ``track`` is accepted and not used. Synchronous, from any thread. That a client is gone is
        logged and raises nothing. While a silent request runs, nothing goes out on iopub. While
        more is queued than frontends read, the call waits, interruptibly.
        """
        sender = self.sender
        try:
            name, given = stream.name, dict(content or {})
        except (AttributeError, TypeError, ValueError):
            refuse_call(sender.owner, stream, content)
        sender.send(name, msg_or_type, given, ident, buffers or (), header, metadata)
        sender.give_way()

    async def async_input(self, prompt: str = "", *, password: bool = False) -> str:
        """Ask the person at the frontend, and wait for the answer while other tasks go on.

        Raises as `raw_input` does. Cancelled, the question is withdrawn: a later answer to it
        is dropped.
        """
        return await asker_of(self).ask_async(self.sender.current(), str(prompt), password)

    def show_error(self, error: BaseException) -> None:
        """Publish an ``error`` under the cell that this code runs for."""
        shown = as_content(render_error(error))
        content = {name: shown[name] for name in ("ename", "evalue", "traceback")}
        self.send_response(self.iopub_socket, "error", content)

    # Verbs

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
        """Run code. Publish results with `send_response`; what is raised becomes the reply.

        ``options`` are ``store_history`` (bool), ``user_expressions`` (dict), ``allow_stdin``
        (bool), ``cell_meta`` (the request's metadata) and ``cell_id`` (str or None); a
        subclass names those that it needs. Returns ``{"status": "ok", "payload": [...],
        "user_expressions": {...}}`` or an error content; ``execution_count`` is filled in.
        """
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_execute")

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        """Complete at ``cursor_pos`` (code points): a ``complete_reply`` content,
        ``{"matches": [str], "cursor_start": int, "cursor_end": int, "metadata": {}}``.
        """
        return {
            "status": "ok",
            "matches": [],
            "cursor_start": cursor_pos,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    def do_inspect(self, code: str, cursor_pos: int, *args: Any, **options: Any) -> Any:
        """Describe the object at ``cursor_pos``: an ``inspect_reply`` content,
        ``{"found": bool, "data": {mime: value}, "metadata": {}}``.

        ``options`` are ``detail_level`` (0 or 1) and ``omit_sections`` (MIME types).
        """
        return {"status": "ok", "found": False, "data": {}, "metadata": {}}

    def do_history(self, *args: Any, **options: Any) -> Any:
        """Look into the history: a ``history_reply`` content, ``{"history": [(session, line,
        input), ...]}``.

        ``options`` are the fields of a ``history_request``: ``hist_access_type`` (tail, range
        or search), ``output``, ``raw``, ``session``, ``start``, ``stop``, ``n``, ``pattern``,
        ``unique``.
        """
        return {"status": "ok", "history": []}

    def do_is_complete(self, code: str) -> Any:
        """Say whether ``code`` is ready to run: an ``is_complete_reply`` content, whose ``status``
        is ``complete``, ``incomplete`` (with ``indent``), ``invalid`` or ``unknown``.
        """
        return {"status": "unknown"}

    def do_shutdown(self, restart: bool) -> Any:
        """Clean up, within ``shutdown_grace`` seconds: a ``shutdown_reply`` content."""
        return {"status": "ok", "restart": restart}

    def do_apply(
        self,
        content: dict[str, Any],
        bufs: Sequence[bytes],
        msg_id: str,
        reply_metadata: dict[str, Any],
    ) -> Any:
        """Run a function call of an IPython.parallel client, packed in ``bufs``.

        Returns ``(reply_content, result_buffers)``.
        """
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_apply")

    def do_clear(self) -> Any:
        """Clear the namespace: a reply content."""
        raise UnknownMessageType(f"{type(self).__name__} does not implement do_clear")

    # Hooks

    @built_in
    def init_metadata(self, parent: dict[str, Any]) -> dict[str, Any]:
        """What is added to the reply's metadata as the request starts; ``started`` is there."""
        return {}

    @built_in
    def finish_metadata(
        self, parent: dict[str, Any], metadata: dict[str, Any], reply_content: dict[str, Any]
    ) -> dict[str, Any]:
        """The whole metadata of the reply, asked for when its content is known."""
        return metadata

    @built_in
    def should_handle(self, stream: Any, msg: dict[str, Any], idents: Sequence[bytes]) -> Any:
        """Whether a request may run; one that may not is answered ``aborted``. May be async."""
        return msg["header"]["msg_id"] not in self.aborted

    @built_in
    def pre_handler_hook(self) -> None:
        """Called in the main thread before each handler of the shell lane."""

    @built_in
    def post_handler_hook(self) -> None:
        """Called in the main thread after each handler of the shell lane."""

    @built_in
    def started(self) -> Awaitable[None]:
        """Called in the user loop once ``starting`` is published, before the first request.

        The place to start what the kernel needs, in its `nursery`. Plain or async. Interrupts do
        not reach it. It is cancelled if the kernel is told to end meanwhile; what it raises ends
        the kernel, and is raised by `serve`.
        """
        return _NOTHING_TO_DO


def _methods(kernel: Kernel, table: str) -> dict[str, Any]:
    """The methods that a class names as its handlers, in ``msg_types`` or ``control_msg_types``."""
    for name in getattr(kernel, table):
        if not hasattr(kernel, name):
            cls = type(kernel).__name__
            raise KernelClassError(f"{cls}.{table} names {name!r}, and there is no such method")
    return {name: getattr(kernel, name) for name in getattr(kernel, table)}


class _NothingToDo:
    """What an empty hook returns: an override calls it plainly, or awaits it."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


_NOTHING_TO_DO = _NothingToDo()
