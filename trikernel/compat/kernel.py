"""`Kernel` and `IPythonKernel`: base classes for kernels that were written for ipykernel.

They have ipykernel's names and the features of traitlets: traits that configuration files and flags
set, ``parent``, ``log``, `instance`. The work is done by an adapter, a kernel of this package that
each object owns (`trikernel_adapter`): most attributes and methods here only refer to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from comm.base_comm import CommManager
from traitlets import Any as AnyTrait
from traitlets import TraitError, TraitType, default, observe
from traitlets.config import SingletonConfigurable

from ..errors import SettingError
from ..kernel import (
    Application,
    Setting,
    application_of,
    built_in,
    served_kernel,
    settings_of,
    use_application,
)
from ..kernel import Kernel as _Kernel
from ..python import PythonKernel as _PythonKernel
from ..wire import reply_type
from .adapter import Held, delegated, make_adapter

__all__ = ["IPythonKernel", "Kernel"]


class _SettingTrait(AnyTrait):
    """A setting of the kernel as a trait, with the same checks."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(help=setting.help)
        self._setting = setting

    def default(self, author: Any = None) -> Any:
        """The value of the adapter: the default of the class, or of the environment."""
        return getattr(author.trikernel_adapter, self.name) if author is not None else None

    def validate(self, author: Any, value: Any) -> Any:
        """The value, if it is in the setting's range; else raises `TraitError`."""
        try:
            return self._setting.check(value)
        except SettingError as error:
            raise TraitError(str(error)) from None

    def from_string(self, text: str) -> Any:
        """The value of a flag. Raises `TraitError`."""
        try:
            return self._setting.from_text(text, "flag")
        except SettingError as error:
            raise TraitError(str(error).removeprefix("flag: ")) from None

    def set(self, author: Any, value: Any) -> None:
        """Set the value here and in the adapter, which uses it."""
        super().set(author, value)
        setattr(author.trikernel_adapter, self.name, getattr(author, self.name))


class _Given(AnyTrait):
    """The adapter's attribute, unless the author sets it."""

    def default(self, author: Any = None) -> Any:
        """The adapter's attribute."""
        return getattr(author.trikernel_adapter, self.name) if author is not None else None


class _SessionTrait(_Given):
    """The kernel's session; before the kernel is served, one that works once it is."""

    def default(self, author: Any = None) -> Any:
        """The adapter's session, or before the kernel is served an `EarlySession`."""
        if author is None or author.trikernel_adapter.sender.is_connected:
            return super().default(author)
        from .session import EarlySession

        return EarlySession.of(author.trikernel_adapter)


class _TornadoLoop:
    """Tornado's loop over the kernel's asyncio loop, once that exists; an author may set one."""

    def __get__(self, author: Any, owner: type) -> Any:
        if author is None:
            return self
        if author.trikernel_adapter.guest_loop is None:
            raise AttributeError("a kernel has an io_loop while it is served", name="io_loop")
        return vars(author).setdefault("io_loop", author.trikernel_adapter.guest_loop.io_loop)


class _CommManager:
    """The kernel's comm manager. If it is set to the ``comm`` package's default one, the targets
    and comms of that are taken over.
    """

    def __get__(self, author: Any, owner: type) -> Any:
        return self if author is None else author.trikernel_adapter.comm_manager

    def __set__(self, author: Any, manager: Any) -> None:
        if type(manager) is CommManager:  # share its dictionaries, for code that has kept it
            manager, given = author.trikernel_adapter.comm_manager, manager
            given.targets.update(manager.targets)
            manager.targets, manager.comms = given.targets, given.comms
        author.trikernel_adapter.comm_manager = manager


def _setting_traits(base: type[_Kernel]) -> dict[str, TraitType[Any, Any]]:
    return {name: _SettingTrait(one).tag(config=True) for name, one in settings_of(base).items()}


class Kernel(SingletonConfigurable):
    """Has the interface of ipykernel's ``kernelbase.Kernel``: a port only changes the import.

    ::

        from trikernel.compat import IPKernelApp, Kernel

        class Echo(Kernel):
            implementation = "echo"

            def do_execute(self, code, silent, store_history=True,
                           user_expressions=None, allow_stdin=False):
                self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
                return {"status": "ok", "execution_count": self.execution_count}

        IPKernelApp.launch_instance(kernel_class=Echo)

    A plain verb runs on the main thread, where an interrupt raises `KeyboardInterrupt` in it. An
    async one may await asyncio, Trio, or both. Every setting of `trikernel.Kernel` is a trait.
    """

    _trikernel_base: ClassVar[type[_Kernel]] = _Kernel
    vars().update(_setting_traits(_Kernel))

    session = _SessionTrait()
    iopub_socket = _Given()
    stdin_socket = _Given()
    control_stream = _Given()
    shell_stream = _Given()
    shell_streams = _Given()
    profile_dir = AnyTrait()
    control_thread = iopub_thread = debugpy_stream = None
    user_ns: Any = None
    _shutdown_message: Any = None

    implementation = "ipython"
    implementation_version = "1.0"
    language = _Kernel.language
    language_version = ""
    language_info: Any = {}  # noqa: RUF012  # ipykernel's subclasses change theirs
    banner: Any = ""
    help_links: Any = []  # noqa: RUF012
    supported_features: Any = []  # noqa: RUF012
    display_name = ""
    interrupt_mode = "signal"
    msg_types: ClassVar[list[str]] = list(_Kernel.msg_types)
    control_msg_types: ClassVar[list[str]] = list(_Kernel.control_msg_types)

    aborted = Held()
    connection_file = Held()
    comm_manager = _CommManager()
    control_handlers = Held()
    eventloop = Held()
    execution_count = Held()
    ident = Held()
    int_id = Held()
    kernel_info = Held()
    nursery = Held()
    server = Held()
    shell_handlers = Held()
    io_loop = _TornadoLoop()
    _allow_stdin = Held()
    _parent_header = Held()
    _parent_ident = Held()

    do_execute = delegated("do_execute")
    do_complete = delegated("do_complete")
    do_inspect = delegated("do_inspect")
    do_history = delegated("do_history")
    do_is_complete = delegated("do_is_complete")
    do_shutdown = delegated("do_shutdown")
    do_apply = delegated("do_apply")
    do_clear = delegated("do_clear")

    start = delegated("start")
    started = delegated("started")
    init_metadata = delegated("init_metadata")
    finish_metadata = delegated("finish_metadata")
    should_handle = delegated("should_handle")
    pre_handler_hook = delegated("pre_handler_hook")
    post_handler_hook = delegated("post_handler_hook")

    send_response = delegated("send_response")
    show_error = delegated("show_error")
    raw_input = delegated("raw_input")
    getpass = delegated("getpass")
    async_input = delegated("async_input")
    get_parent = delegated("get_parent")
    record_ports = delegated("record_ports")
    process_one = delegated("process_one")
    do_one_iteration = delegated("do_one_iteration")
    schedule_dispatch = delegated("schedule_dispatch")
    _topic = delegated("_topic")

    vars().update({name: delegated(name) for name in _Kernel.control_msg_types})

    def __init__(self, **kwargs: Any) -> None:
        """Takes traits by keyword, ``config`` and ``parent``. Raises `KernelClassError` for a class
        that cannot work, `SettingError` or `TraitError` for a wrong value.
        """
        self.trikernel_adapter  # noqa: B018  # else it would be the first one that needs it who is told
        super().__init__(**kwargs)

    @classmethod
    def initialized(cls) -> bool:
        """Whether this process has a kernel of this class, or serves another one."""
        return super().initialized() or _served_process() is not None

    @classmethod
    def instance(cls, *args: Any, **kwargs: Any) -> Any:
        """The kernel of this process: the one that is served, if there is none of this class and no
        argument is given; else one of this class, which is made if needed.
        """
        is_new = not super().initialized() and not args and not kwargs
        return (_served_process() if is_new else None) or super().instance(*args, **kwargs)

    @property
    def trikernel_adapter(self) -> Any:
        """The kernel of this package that is served for this object."""
        if (
            "_trikernel_adapter" not in self.__dict__
        ):  # made here, because a subclass may not call our ``__init__``
            self.__dict__["_trikernel_adapter"] = make_adapter(self, self._trikernel_base)
        return self.__dict__["_trikernel_adapter"]

    @default("log")
    def _default_log(self) -> Any:
        return self.parent.log if self.parent is not None else logging.getLogger("trikernel")

    @observe("log")
    def _on_log(self, change: Any) -> None:
        self.trikernel_adapter.log = change.new

    @built_in
    def set_parent(
        self, ident: Sequence[bytes], parent: Mapping[str, Any], channel: str = "shell"
    ) -> None:
        """Make ``parent`` (a message) the parent of what this task and its children send."""
        if self.trikernel_adapter.get_parent().get("header") != parent.get("header"):
            self.trikernel_adapter.set_parent(ident, parent)

    def _publish_status(
        self, status: str, channel: str = "shell", parent: Mapping[str, Any] | None = None
    ) -> None:
        self.trikernel_adapter._publish_status(status, parent)

    def _send_abort_reply(
        self, stream: Any, msg: Mapping[str, Any], idents: Sequence[bytes]
    ) -> None:
        """Answer a message with ``aborted``; for handlers of an author's own."""
        reply = reply_type(msg["header"]["msg_type"])
        metadata = {"status": "aborted", "engine": self.ident}
        self.trikernel_adapter.send_response(
            stream, reply, {"status": "aborted"}, ident=idents, metadata=metadata
        )

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """Abort queued requests, as after a failed cell."""
        self.trikernel_adapter.server.lane.abort_queued(
            self.trikernel_adapter.stop_on_error_timeout
        )


class IPythonKernel(Kernel):
    """A Python kernel with the interface of ipykernel's ``ipkernel.IPythonKernel``; cells run in
    Trio.

    A subclass may override verbs and call `super()`: `do_execute` returns an awaitable.
    ``shell_class`` has to be a subclass of this kernel's shell.
    """

    _trikernel_base: ClassVar[type[_Kernel]] = _PythonKernel
    vars().update(_setting_traits(_PythonKernel))

    shell_class = AnyTrait()
    use_experimental_completions = AnyTrait(True).tag(config=True)

    implementation = "ipython"
    language = _PythonKernel.language
    language_version = _PythonKernel.language_version
    language_info: Any = dict(_PythonKernel.language_info)  # noqa: RUF012
    banner: Any = Held()  # contains IPython's version, so it is made only when it is read
    help_links: Any = list(_PythonKernel.help_links)  # noqa: RUF012

    shell = Held()
    user_ns = Held()

    def __init__(self, **kwargs: Any) -> None:
        """As `Kernel`. If an application creates it, it prepares the process and the shell."""
        parent: Any = kwargs.get("parent")
        flags = getattr(parent, "kernel_flags", None)
        self.trikernel_adapter.shell_class = self.shell_class
        if flags is not None:
            self.trikernel_adapter.flags = flags
            self.trikernel_adapter.connection_file = parent.abs_connection_file or None
            self.trikernel_adapter.prepare_process()
        super().__init__(**kwargs)

    @property
    def user_module(self) -> Any:
        """The module whose namespace is that of the cells."""
        return self.trikernel_adapter.shell.user_module


def _served_process() -> Any:
    kernel = served_kernel()
    if kernel is None or not kernel.owns_process:
        return None
    find = getattr(kernel, "find_author", None)
    return (find() if find is not None else None) or kernel


def _application(author: Kernel) -> Application:
    application = application_of(author.trikernel_adapter)
    application.at_end.callback(_keep, author)
    return application


def _keep(author: Kernel) -> None:
    """Keeps the author object alive while its kernel is served: the adapter refers to it weakly."""


use_application(_application, Kernel)
