"""The Python kernel: IPython for the language, Trio for the loop that cells run in."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..core import Request, Server, call_unprotected, current_request, current_subshell
from ..errors import AbortedError, TrikernelError, UsageError
from ..kernel import Application, Kernel, built_in, is_built_in, setting, use_application
from ..system import gc_paused
from ..wire import Header
from ..wire import contents as c
from . import early, introspect
from .closing import close_shell, collections_so_far, give_names_back

if TYPE_CHECKING:
    from ..debugger import Debugger
    from .host import AsyncioHost
    from .process import OwnProcess
    from .shell import ZMQInteractiveShell

__all__ = ["PythonKernel"]


class PythonApplication(Application):
    """What is set up and taken down around a `PythonKernel` that is served."""

    kernel: PythonKernel
    captures_anywhere = True

    def __init__(self, kernel: PythonKernel) -> None:
        """Raises `UsageError` where the packages of the extra are not installed."""
        super().__init__(kernel)
        self._entering = threading.Lock()  # held while a subshell sets up its part of the shell
        self._traps = contextlib.ExitStack()  # IPython's traps, which stay entered for subshells
        try:
            import comm  # noqa: F401  # the lightest of them; IPython is imported after the start
        except ImportError as error:
            raise UsageError(
                f"the Python kernel needs more packages ({error.name} is missing): "
                "pip install 'trikernel[python]'"
            ) from None
        if any(one.startswith("--show-config") for one in kernel.flags or ()):
            from .profile import Profile

            Profile.read(kernel.profile, kernel.flags or ()).start()  # which prints it
            sys.exit(0)

    def bind(self, server: Server) -> None:
        """The kernel is about to be served. Raises `UsageError` for an unknown profile."""
        with gc_paused():
            from ..kernel import comms

        kernel = self.kernel
        if kernel.cell_loop not in ("trio", "asyncio"):
            raise UsageError(f"cell_loop is trio or asyncio, not {kernel.cell_loop!r}")
        own = kernel._own_process if kernel._is_prepared else None
        shell = kernel._shell if kernel._is_prepared else None
        try:
            super().bind(server)
        except BaseException:
            if own is not None:
                own.stop()
            raise
        kernel._own_process, kernel._shell, kernel._is_prepared = own, shell, False
        if own is not None:
            own.profile.configure(kernel)
        if isinstance(kernel.comm_manager, comms.CellCommManager):
            kernel.comm_manager.note = partial(_trigger, weakref.ref(kernel))

    async def enter_loop(self) -> None:
        """A loop begins: the kernel's first one, or one in the place of a loop that is lost.

        Raises `UsageError` for an unknown profile.
        """
        kernel, server = self.kernel, self.kernel.server
        if server.owns_process and kernel._own_process is None:
            async with server.dispatcher.answering_early(self.needs_no_start):
                try:
                    await self._take_process()
                except Exception as error:
                    self.start_error = error
                    raise
        with gc_paused():
            from .nested_runs import note_outer_asyncio_loop
            from .process import served
            from .rendering import drawing_for_nobody, prepare_soon

        await super().enter_loop()
        note_outer_asyncio_loop()
        served.add(kernel)
        trio.lowlevel.add_instrument(kernel.shell.tasks)
        if kernel.cell_loop == "asyncio" or kernel.host is not None:
            kernel.shell.loops.run_in("asyncio")
        if server.background is not None and kernel.owns_process:
            server.background.start_soon(kernel.shell.history_manager.run, name="history")
            draw = drawing_for_nobody(kernel.shell.InteractiveTB)
            server.background.start_soon(prepare_soon, draw, name="error renderer")

    def needs_no_start(self, request: Request) -> bool:
        """Whether a request may be answered before the kernel has started: a
        ``kernel_info_request``, if its reply is known from the class, and the start cannot fail for
        an unknown profile or in a hook of an author's.
        """
        kernel = self.kernel
        if request.msg_type != "kernel_info_request" or kernel.flags or kernel.profile != "default":
            return False
        hooks = kernel.start, kernel.started
        return all(map(is_built_in, hooks)) and self.busy_may_wait(request)

    async def _take_process(self) -> None:
        """Import IPython, in a thread so that the loop turns, read the profile, make the shell."""
        if early.HEAVY not in sys.modules:  # where this process was forked from a template, it is
            await trio.to_thread.run_sync(early.import_ipython)
        from . import process, profile

        kernel = self.kernel
        kernel._own_process = process.OwnProcess(
            profile.Profile.read(kernel.profile, kernel.flags or ())
        )
        kernel._own_process.profile.configure(kernel)
        process.served.add(kernel)  # makes its shell

    async def enter_subshell(self) -> None:
        """Called in the loop of each subshell, before it takes requests."""
        from .nested_runs import note_outer_asyncio_loop
        from .subshells import enter_subshell

        await super().enter_subshell()
        shell = self.kernel.shell
        if not self.kernel.server.inline:  # else this is the main shell's loop
            note_outer_asyncio_loop()
            trio.lowlevel.add_instrument(shell.tasks)
        with self._entering:
            enter_subshell(shell, self._traps)

    def prepare(self) -> None:
        """Take over the process, if it is the kernel's own, and run the user's startup files."""
        kernel = self.kernel
        if kernel._own_process is not None:
            kernel._own_process.start(kernel.shell)

    def unbind(self) -> None:
        """Give everything back, whatever the user's code has done to it."""
        from .process import served

        kernel = self.kernel
        with contextlib.ExitStack() as stack:  # the last one first, and each of them
            stack.callback(super().unbind)
            if kernel._shell is not None:
                stack.callback(_close_shell, kernel, kernel._shell)
            if kernel._own_process is not None:
                stack.callback(kernel._own_process.stop)
            stack.callback(served.remove, kernel)
            stack.callback(self.takeover.give_back)
            stack.callback(self._traps.close)


def _trigger(find: Callable[[], PythonKernel | None], event: str) -> None:
    """Call IPython's hooks of an event, before and after a comm's handler as around a cell."""
    kernel = find()
    if kernel is not None:
        kernel.shell.events.trigger(event)


def _close_shell(kernel: PythonKernel, shell: ZMQInteractiveShell) -> None:
    if trio.lowlevel.in_trio_run():
        with contextlib.suppress(KeyError):  # never started
            trio.lowlevel.remove_instrument(shell.tasks)
    if shell.owns_process:  # then as the process exits, after exit functions that need its names
        return
    given = kernel.given_names[1]
    if given is not None:
        give_names_back(shell, given)
    close_shell(shell, kernel._shell_began, kernel.log)


class PythonKernel(Kernel):
    """A kernel for Python with Trio. Cells may use ``await`` and nurseries at the top level.

    While one is served, in memory too, it replaces some names of the process (`sys.stdout`,
    `input`, `threading.Thread.start` and a few more): the module `trikernel.python.process` and
    the discussion page "two loops" say which, and how they come back.
    """

    profile: str = setting("default", "the IPython profile whose configuration is read")
    cell_loop: str = setting("trio", "the loop that cells run in: trio, or asyncio beside it")
    flags: Sequence[str] | None = ()

    has_subshells = True
    display_name = "Python 3 (Trio)"
    implementation = "trikernel"
    implementation_version = "0.1.0"
    banner: Any = built_in(early.Banner())
    supported_features: Any = built_in(early.Features())
    language = "python"
    language_version = sys.version.split()[0]
    language_info = MappingProxyType(
        {
            "name": "python",
            "version": sys.version.split()[0],
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        }
    )
    help_links = (
        {"text": "Python Reference", "url": f"https://docs.python.org/{sys.version_info[0]}"},
        {"text": "Trio Reference", "url": "https://trio.readthedocs.io"},
        {"text": "IPython Reference", "url": "https://ipython.org/documentation.html"},
    )

    given_names: tuple[ModuleType | None, dict[str, Any] | None] = (None, None)
    """The module and the namespace that cells run in; None for new ones."""

    def __init__(self, **settings: Any) -> None:
        self._shell: ZMQInteractiveShell | None = None
        self._shell_began = 0
        self._own_process: OwnProcess | None = None
        self._is_prepared = False
        self._debugger: Debugger | None = None
        self.host: AsyncioHost | None = None  # the asyncio program that the kernel is embedded in
        self.debug_header: Header | None = None
        self.shell_class: Any = None
        self.find_author: Callable[[], Any] = weakref.ref(self)  # `get_ipython().kernel` of cells
        super().__init__(**settings)
        self.sender.prefers_cells = True
        self.sender.is_strict = False

    @property
    def shell(self) -> ZMQInteractiveShell:
        """IPython's shell; made when the kernel starts to be served."""
        if self._shell is None:
            profile = self._own_process.profile if self._own_process is not None else None
            with gc_paused():
                self._shell = _new_shell(self, profile)
            self._shell_began = collections_so_far()
            self.name_of_code = self._shell.compile.format_code_name
            self.living_tasks = self._shell.tasks
        return self._shell

    def prepare_process(self) -> None:
        """Take over the process before the kernel is served: its shell can be used from now on.

        Raises `UsageError` for an unknown profile.
        """
        with gc_paused():
            from . import process, profile

        self._own_process = process.OwnProcess(profile.Profile.read(self.profile, self.flags or ()))
        self._is_prepared = True

    @property
    def execution_count(self) -> int:
        """The number of the next cell; it grows with each cell that is kept in the history.

        Setting it raises `ValueError` for a number that a notebook cannot hold.
        """
        return int(self._shell.execution_count) if self._shell is not None else 0

    @execution_count.setter
    def execution_count(self, value: int) -> None:
        if self._shell is not None:
            self._shell.execution_count = value

    @property
    def user_ns(self) -> dict[str, Any]:
        """The cells' namespace."""
        namespace: dict[str, Any] = self.shell.user_ns
        return namespace

    @property
    def user_module(self) -> Any:
        """The module whose names the cells' are."""
        return self.shell.user_module

    @property
    def parent(self) -> Any:
        """An object in the place of ipykernel's application; None in a process of a host's."""
        if not self.owns_process:
            return None
        application = importlib.import_module("ipykernel.kernelapp").IPKernelApp
        return application.instance()

    def user_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that cells of this shell run in, and their background tasks; not the children
        of these.
        """
        server = current_subshell.get() or self.server
        return server.cells.child_tasks | server.background_tasks.child_tasks

    def show_error(self, error: BaseException) -> None:
        """Publish an ``error`` with IPython's traceback."""
        self.shell.show(error)

    # Verbs

    @built_in
    def _begin_execution(self, content: c.ExecuteRequest) -> int:
        """The cell's number. IPython counts after the cell, if that is kept in the history."""
        return int((self._shell or self.shell).execution_count)

    @built_in
    @enable_ki_protection
    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        """Run a cell in the calling task."""
        from ..kernel.comms import retake_comms

        shell, request = self._shell or self.shell, current_request.get()
        shell.errors.forget()
        shell.payload_manager.clear_payload()  # a background task may have written to it
        retake_comms()
        failed, transformed = None, code
        try:
            stripped, seconds = shell.take_timeout(code)
            if seconds is not None and request is not None:
                self.server.stopper_here.stop_after(request, seconds)
            transformed = call_unprotected(shell.transform_cell, stripped)
        except (Exception, KeyboardInterrupt) as raised:
            from .cell_run import why_it_failed

            failed = why_it_failed(raised, request)
        own = shell.has_own_run_cell or "run_cell" in shell.__dict__  # set by an extension
        if own and failed is None and not _awaits(shell, code, transformed):
            result = _run_by_subclass(shell, stripped, store_history, silent, cell_id)
        else:
            result = await shell.run_cell_async(
                code,
                store_history=store_history,
                silent=silent,
                transformed_cell=transformed,
                preprocessing_exc_tuple=failed,
                cell_id=cell_id,
                cell_meta=cell_meta,
            )
        if request is not None and request.abandoned:
            return {}
        return _finish(shell, result, silent, user_expressions or {})

    def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        """Complete by IPython."""
        return introspect.complete(self.shell, code, cursor_pos)

    def do_inspect(
        self,
        code: str,
        cursor_pos: int,
        detail_level: int = 0,
        omit_sections: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Inspect by IPython."""
        return introspect.inspect(self.shell, code, cursor_pos, detail_level, omit_sections)

    def do_history(
        self,
        hist_access_type: str,
        output: bool,
        raw: bool,
        session: int | None = None,
        start: int | None = None,
        stop: int | None = None,
        n: int | None = None,
        pattern: str | None = None,
        unique: bool = False,
    ) -> dict[str, Any]:
        """Ask IPython's history."""
        return introspect.history(
            self.shell, hist_access_type, output, raw, session, start, stop, n, pattern, unique
        )

    def do_is_complete(self, code: str) -> dict[str, Any]:
        """Ask IPython's tokenizer."""
        return introspect.is_complete(self.shell, code)

    def do_clear(self) -> dict[str, Any]:
        """Empty the namespace."""
        self.shell.reset(False)
        return {"status": "ok"}

    async def do_debug_request(self, msg: dict[str, Any]) -> dict[str, Any]:
        """Answer by debugpy; it is imported when the first frontend starts a debugger."""
        if self._debugger is None:
            from .debuggee import start_debugger

            self._debugger = start_debugger(partial(_existing, weakref.ref(self)))
        request = current_request.get()
        self.debug_header = request.message.header if request is not None else None
        return await self._debugger.answer(msg)


def _existing(find: Callable[[], PythonKernel | None]) -> PythonKernel:
    kernel = find()
    if kernel is None:
        raise TrikernelError("the kernel that is debugged is gone")
    return kernel


def _new_shell(kernel: PythonKernel, profile: Any) -> ZMQInteractiveShell:
    """A shell with a profile's configuration; without one, it leaves no traces on disk."""
    from traitlets.config import Config

    from .ipykernel_attributes import application_config
    from .shell import ZMQInteractiveShell

    config = Config()
    if profile is not None:
        config.merge(profile.config)
    else:
        config.HistoryManager.hist_file = ":memory:"
    config.setdefault("IPKernelApp", Config()).merge(application_config(kernel))
    shell_class: type[ZMQInteractiveShell] = kernel.shell_class or ZMQInteractiveShell
    module, names = kernel.given_names
    shell = shell_class(
        kernel=kernel,
        user_module=module,
        user_ns=names,
        owns_process=profile is not None,
        config=config,
        profile_dir=profile.profile_dir if profile is not None else None,
        ipython_dir=profile.ipython_dir if profile is not None else None,
    )
    if "JPY_SESSION_NAME" in os.environ:
        shell.user_ns["__session__"] = os.environ["JPY_SESSION_NAME"]
    return shell


use_application(PythonApplication, PythonKernel)


def _finish(
    shell: Any, result: Any, silent: bool, user_expressions: dict[str, Any]
) -> dict[str, Any]:
    """Call the hooks after a cell; its reply.

    One that is not counted is answered with the number of the last one that was, as in ipykernel.
    """
    events = shell.events
    if events.callbacks["post_execute"]:
        events.trigger("post_execute")
    if not silent and events.callbacks["post_run_cell"]:
        events.trigger("post_run_cell", result)
    count = {"execution_count": max(shell.execution_count - 1, 0)}
    for error in (result.error_before_exec, result.error_in_exec, shell.errors.of_display()):
        if isinstance(error, AbortedError):
            return {"status": "aborted"}
        if error is not None:
            content = {"status": "error", **count, **shell.errors.content(error)}
            return {**content, "payload": shell.take_payload(), "user_expressions": {}}
    asked = user_expressions
    values = call_unprotected(shell.user_expressions, asked) if asked else {}
    payload = shell.take_payload()
    return {"status": "ok", **count, "payload": payload, "user_expressions": values}


def _run_by_subclass(
    shell: Any, code: str, store_history: bool, silent: bool, cell_id: str | None
) -> Any:
    """Run a cell by the `run_cell` of somebody's own shell; IPython's result."""
    options: dict[str, Any] = {"store_history": store_history, "silent": silent}
    parameters = inspect.signature(shell.run_cell).parameters.values()
    if any(one.name == "cell_id" or one.kind is one.VAR_KEYWORD for one in parameters):
        options["cell_id"] = cell_id
    return call_unprotected(shell.run_cell, code, **options)


def _awaits(shell: Any, code: str, transformed: str | None) -> bool:
    """Whether a cell awaits, or calls a magic that does."""
    if "_magic(" in (transformed or ""):
        from .async_magics import awaits

        with contextlib.suppress(SyntaxError, ValueError):
            return awaits(shell, transformed or "")
    return bool(shell.should_run_async(code, transformed_cell=transformed))
