"""IPython's shell, whose cells run in the kernel's Trio loop, each in a task of that.

What is wanted
    A cell is transformed, compiled, counted, kept in the history and shown as IPython does it, so
    that magics, extensions and people's configuration work. It runs in the kernel's Trio loop, and
    only its own code can be interrupted or cancelled: what stands around it has to finish properly.

What does not work
    IPython's loop runners: ``%autoawait trio`` starts a loop for each cell. Its `run_code` catches
    everything, `trio.Cancelled` included, and shows it. Ctrl-C anywhere in IPython's own code
    leaves a half-counted cell. Importing it is a quarter of a kernel's start.

What is done
    `PythonKernel.do_execute` awaits `run_cell_async`, and `run_code` is ours: the request's cancel
    scope stands directly around the code of the cell, and only that code is called unprotected.
    What it raises, or why it was stopped, is shown and put into IPython's result; what it has left
    open is closed. Each part of IPython that costs a cell more than the cell has one in its place
    that gives the same (`fast_paths`), and so have magics that run code in a function that is not
    async (`async_magics`). This module is imported once the kernel's sockets are bound: a client
    that finds them connects meanwhile.

What remains
    The names of IPython that this stands on are not all public: `system.private_names` lists them.
    A context variable's token of an earlier cell may not be reset if that cell was left behind.
"""

from __future__ import annotations

import ast
import os
import sys
import types
import weakref
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import trio
from IPython.core import page, payloadpage
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell, InteractiveShellABC
from IPython.core.payload import PayloadManager
from IPython.utils.text import LSString, SList
from traitlets import CBool, Instance, Type, default
from trio.lowlevel import enable_ki_protection

from ..core import (
    RequestScope,
    StopReason,
    call_unprotected,
    current_request,
    holds_cancel,
    is_cancel,
    unwrap_interrupt,
)
from ..system import (
    LeftOpen,
    close_what_was_left_open,
    exit_forked,
    is_anything_left_open,
)
from ..timeline import Tasks
from .async_magics import AwaitingCompiler, refuse_to_run, rewrite
from .asyncio_loops import end_asyncio_loops
from .cell_loops import CellLoops
from .cell_run import ExecutionCount, run_cell, run_statement, run_statements
from .debugger import CellDebugger
from .display import CellDisplayHook, CellDisplayPublisher, shared_display_trap
from .fast_paths import CellTransformers, DisplayFormatter, HistoryManager, PrefilterManager
from .ipykernel_attributes import KernelParent, KernelTrait
from .magics import MAGICS, register_late, take_timeout
from .tracebacks import (
    CellErrors,
    left_open_error,
    show_error,
    visible_below_ipython,
    where_it_was,
)

if TYPE_CHECKING:
    from .async_magics import AsyncMagics

__all__ = ["ZMQInteractiveShell"]

EXIT_DELAY = 0.3  # seconds


class ZMQInteractiveShell(InteractiveShell):
    """The shell of a Python kernel. Libraries look for this very name, to tell a notebook."""

    __module__ = "ipykernel.zmqshell"
    displayhook_class = Type(CellDisplayHook)
    compiler_class = Type(AwaitingCompiler)
    display_pub_class = Type(CellDisplayPublisher)
    exiter: Any = Instance(ZMQExitAutocall, args=())
    owns_process: Any = CBool(False)
    input_transformer_manager: Any = Instance(TransformerManager)
    kernel: Any = KernelTrait()
    take_timeout = staticmethod(take_timeout)
    keepkernel_on_exit = None
    # Plain attributes in the place of IPython's traits, because nobody observes these and a trait
    # is slow. Two are set for each cell:
    last_execution_succeeded = True
    last_execution_result: Any = None
    # and the others are looked up several times for each cell:
    builtin_trap: Any = None
    history_manager: Any = None
    magics_manager: Any = None
    payload_manager: Any = None
    prefilter_manager: Any = None
    execution_count: Any = ExecutionCount(1)

    def __init__(self, *, kernel: Any, **kwargs: Any) -> None:
        self.find_kernel: Any = weakref.ref(kernel)
        self.errors = CellErrors()
        super().__init__(**kwargs)
        self.execution_count = self.execution_count  # set its default explicitly: see `subshells`
        self.parent = KernelParent(self.find_kernel)
        if not self.owns_process:
            self.display_trap = shared_display_trap
        self.autoawait = True
        self.runs_synchronously = False
        self.has_own_run_cell = _has_own_run_cell(type(self))
        self.exiter.set_ip(self)
        self.loop_runner = refuse_to_run
        self.tasks = Tasks(self.compile.format_code_name)
        self.run_statement = run_statement  # or that of asyncio's cells, which `loops` puts here
        self.loops = CellLoops(self, run_statement)
        self._process = os.getpid()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that the kernel runs in."""
        return self._process != os.getpid()

    # Executing

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Run code without ``await``, from inside a cell; other code is refused."""
        before, self.runs_synchronously = self.runs_synchronously, True
        try:
            return super().run_cell(*args, **kwargs)
        finally:
            self.runs_synchronously = before

    async def run_cell_async(
        self,
        raw_cell: str,
        store_history: bool = False,
        silent: bool = False,
        shell_futures: bool = True,
        *,
        transformed_cell: str | None = None,
        preprocessing_exc_tuple: Any = None,
        cell_id: str | None = None,
        cell_meta: Any = None,
    ) -> Any:
        """Run code as a cell, from inside one too: ``await get_ipython().run_cell_async(code)``."""
        if transformed_cell is None and preprocessing_exc_tuple is None:
            try:
                transformed_cell = call_unprotected(self.transform_cell, raw_cell)
            except Exception:
                preprocessing_exc_tuple = sys.exc_info()
        info = ExecutionInfo(raw_cell, store_history, silent, shell_futures, cell_id)
        info.transformed_cell, info.cell_meta = transformed_cell, cell_meta
        return await run_cell(self, info, transformed_cell, preprocessing_exc_tuple)

    def transform_cell(self, raw_cell: str) -> str:
        """The cell as Python."""
        transformers, prefilter = self.input_transformer_manager, self.prefilter_manager
        if not self.input_transformers_post and isinstance(transformers, CellTransformers):
            cell = transformers.transform_plain(raw_cell)
            if cell is not None and prefilter.leaves_alone(cell):
                return cell
        transformed: str = super().transform_cell(raw_cell)
        return transformed

    def transform_ast(self, node: Any) -> Any:
        """Rewrite calls of magics that await, and apply the user's transformers."""
        if getattr(self.compile, "calls_magic", True) and self.autoawait:
            node = rewrite(self, node)
        return call_unprotected(super().transform_ast, node) if self.ast_transformers else node

    @cached_property
    def async_magics(self) -> AsyncMagics:
        """The magics that await; made when one is called."""
        from .async_magics import AsyncMagics

        return AsyncMagics(self)

    def run_async_magic(self, name: str, line: str, cell: str | None = None) -> Any:
        """A magic that awaits. Cells that need it are rewritten to call it."""
        magic = getattr(self.async_magics, name)
        return magic(line) if cell is None else magic(line, cell)

    @enable_ki_protection
    async def run_ast_nodes(
        self,
        nodelist: list[ast.stmt],
        cell_name: str,
        interactivity: str = "last_expr",
        compiler: Any = None,
        result: Any = None,
    ) -> Any:
        """Run the statements of a cell in one cancel scope; True if one of them raised.

        A nursery or scope that they leave open is closed at the end, and is an error. A cancel from
        outside passes through.
        """
        __tracebackhide__ = "__ipython_bottom__"
        request, compiler = current_request.get(), compiler or self.compile
        run = run_statements(self, nodelist, cell_name, interactivity, compiler, result)
        if request is None or result is None:
            return await run
        left_open: list[LeftOpen] = []
        cancel: BaseException | None = None
        failed = True
        with RequestScope(request) as scope:
            try:
                failed = await run
            except (trio.Cancelled, BaseExceptionGroup) as raised:  # raised again below
                cancel = raised
            finally:
                if is_anything_left_open(scope):
                    left_open = await close_what_was_left_open(scope)
        if cancel is not None and (not left_open or is_cancel(cancel)):
            try:
                raise cancel
            finally:
                del cancel  # and with it this frame, which the traceback holds
        if left_open and (cancel is not None or not failed):
            name_of = self.compile.format_code_name
            result.error_in_exec = left_open_error(left_open, cell_name, nodelist, name_of)
            self.show(result.error_in_exec)
            return True
        return failed

    @enable_ki_protection
    async def run_code(
        self, code_obj: types.CodeType, result: Any = None, *, async_: bool = False
    ) -> bool:
        """Run one compiled statement of a cell; True if it raised or was stopped.

        The error is shown and put into ``result``. A cancel from outside the request is raised.
        """
        __tracebackhide__ = "__ipython_bottom__"
        error = await self._error_of(code_obj, async_)
        if error is None:
            return False
        if result is not None:
            result.error_in_exec = error
        request = current_request.get()
        if request is None or not request.finished:  # else it was left behind, and is answered
            self.show(error)
        return True

    async def _error_of(self, code_obj: types.CodeType, async_: bool) -> BaseException | None:
        """What the statement raised, or the error that says why it was stopped."""
        __tracebackhide__ = True  # from a debugger's stack
        request = current_request.get()
        if request is None:
            return await self._error_at_startup(code_obj, async_)
        if request.stop_reason is not None:
            return request.stop_error()
        try:
            names = self.user_global_ns, self.user_ns
            ended: BaseException | None = await self.run_statement(code_obj, *names, async_)
        except BaseException as raised:
            if self.is_forked:
                exit_forked(raised)
            where, cancelled = raised.__traceback__, holds_cancel(raised)
            if cancelled and request.stop_reason is None:
                raise
            if async_ and isinstance(raised, GeneratorExit):  # the loop is gone
                raise
            error = unwrap_interrupt(raised)
            end_asyncio_loops(raised)
            if request.stop_reason is not None and (
                cancelled or isinstance(error, KeyboardInterrupt)
            ):
                error = request.stop_error()
                where = where_it_was(where, request.stood)
            return error if error is raised else error.with_traceback(where)
        if request.stop_reason is not None:  # also if it has ended without noticing
            return request.stop_error()
        return ended

    async def _error_at_startup(
        self, code_obj: types.CodeType, async_: bool
    ) -> BaseException | None:
        try:
            return await run_statement(code_obj, self.user_global_ns, self.user_ns, async_)
        except BaseException as raised:  # a file that exits ends no kernel
            if holds_cancel(raised) or (async_ and isinstance(raised, GeneratorExit)):
                raise
            return raised

    # Errors

    def show(self, error: BaseException) -> None:
        """Publish an error under the current cell, with the user's frames only."""
        show_error(self, self.errors, error, self._showtraceback)

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        """The error that IPython itself is about to show, in ``%run`` for example."""
        kind, error, tb = super()._get_exc_info(exc_tuple)
        if error is not None:
            sys.last_traceback = tb = visible_below_ipython(error, tb)
        return kind, error, tb

    def _showtraceback(self, etype: type, evalue: BaseException, stb: Any) -> None:
        """Send an ``error`` instead of printing the traceback."""
        content = self.errors.show_as(evalue, stb)
        if self.displayhook.is_showing:
            self.errors.note_of_display(evalue)
        kernel = self.find_kernel()
        if kernel.sender.current() is None:  # of a startup file: there is no cell to show it under
            kernel.log.error("%s", "\n".join(content["traceback"]))
        kernel.send_response(kernel.iopub_socket, "error", content)
        self.loops.tell_what_it_needs(evalue)

    # What cells ask for

    def system(self, cmd: str) -> None:
        """``!cmd``: its exit status is in ``_exit_code``. An interrupt raises as usual."""
        from . import commands

        commands.refuse_background(cmd)
        status = commands.run_in_terminal(self.var_expand(cmd, depth=1))
        commands.finish(self, cmd, status)

    system_piped = system

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """``x = !cmd``: what it prints, as lines or as one text."""
        from . import commands

        commands.refuse_background(cmd)
        text, status = commands.get_output(self.var_expand(cmd, depth=depth + 1))
        if self.system_raise_on_error:
            commands.finish(self, cmd, status)
        return SList(text.splitlines()) if split else LSString(text)

    def take_payload(self) -> list[Any]:
        """The payload that code has written since the last call: requests to the frontend."""
        payload: list[Any] = self.payload_manager.read_payload()
        if payload:
            self.payload_manager.clear_payload()
        return payload

    def display_captured(self, content: dict[str, Any], update: bool) -> bool:
        """Whether ``capture_output`` takes this display instead of the frontend."""
        outputs = getattr(self.display_pub, "outputs", None)
        if outputs is None:
            return False
        outputs.append({**content, "update": update})
        return True

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Have the frontend put ``text`` in the next cell, or in this one."""
        self.payload_manager.write_payload(
            {"source": "set_next_input", "text": text, "replace": replace}
        )

    def ask_exit(self) -> None:
        """``exit`` and ``quit``: tell the frontend, and end the process once this is answered.

        A kernel that is embedded in a program is kept, for the next frontend.
        """
        kernel, request = self.find_kernel(), current_request.get()
        keep = bool(self.keepkernel_on_exit) or kernel.thread_of_cells is not None
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": keep})
        services = kernel.server.stopper.services
        if self.owns_process and not keep and request is not None:
            request.after_idle(partial(services.start_soon, self._leave))

    @enable_ki_protection
    async def _leave(self) -> None:
        """End the kernel after `EXIT_DELAY`: some clients do not read the reply of a process that
        is gone.
        """
        await trio.sleep(EXIT_DELAY)
        self.find_kernel().server.stop()

    def enable_gui(self, gui: Any = None) -> None:
        """``%gui``, and what matplotlib asks for."""
        self.loops.enable_gui(gui)

    @property
    def debugger_cls(self) -> type:
        """What ``%debug`` and ``%pdb`` start."""
        return CellDebugger

    # What libraries written for ipykernel ask for

    def get_parent(self) -> dict[str, Any]:
        """The message that this code runs for, as ipykernel's shell has it."""
        parent: dict[str, Any] = self.find_kernel().get_parent()
        return parent

    parent_header = property(get_parent)

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Make ``parent`` the parent of what this task and its children send."""
        self.find_kernel().set_parent([], parent)

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """The same. Returns what `reset_thread_parent` takes."""
        return self.find_kernel().sender.set_parent([], parent)

    def reset_thread_parent(self, token: Any) -> None:
        """Undo that call of `set_thread_parent`, which was made in this thread or task."""
        self.find_kernel().sender.reset_parent(token)

    # Setting up: what IPython calls as it builds a shell, which it does for a terminal otherwise

    @default("input_transformer_manager")
    def _default_transformers(self) -> TransformerManager:
        return CellTransformers()

    def init_prefilter(self) -> None:
        """What may change a cell of one line."""
        self.prefilter_manager = PrefilterManager(shell=self, parent=self)
        self.configurables.append(self.prefilter_manager)
        self.prefilter = self.prefilter_manager.prefilter_lines

    def init_history(self) -> None:
        """A history whose writing does not slow down cells."""
        self.history_manager = HistoryManager(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_payload(self) -> None:
        """Payloads: what a reply asks of the frontend."""
        self.payload_manager = PayloadManager(parent=self)
        self.configurables.append(self.payload_manager)

    def init_sys_modules(self) -> None:
        """Make the namespace ``__main__``, in a process of its own only."""
        if self.owns_process:
            super().init_sys_modules()

    def init_hooks(self) -> None:
        """Pagers show their text by way of the frontend."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_display_formatter(self) -> None:
        """Every representation of an object, not only the text."""
        self.display_formatter = DisplayFormatter(parent=self)
        self.configurables.append(self.display_formatter)
        self.display_formatter.active_types = self.display_formatter.format_types

    def init_environment(self) -> None:
        """The environment is `process`' business."""

    def init_virtualenv(self) -> None:
        """The kernel runs in the environment it was installed in."""

    def init_io(self) -> None:
        """The streams are `process`' business."""

    def init_magics(self) -> None:
        """IPython's magics and ours."""
        super().init_magics()
        self.register_magics(*MAGICS)
        register_late(self)

    def init_events(self) -> None:
        """Hooks are the user's code."""
        super().init_events()
        self.events.trigger = self._trigger

    def _trigger(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks of an event; what they raise is shown, as IPython does.

        An interrupt that hits one of those before a cell is meant for the cell, and stops that too.
        """
        for hook in tuple(self.events.callbacks[event]):
            try:
                call_unprotected(hook, *args, **kwargs)
            except (Exception, KeyboardInterrupt) as error:
                request = current_request.get()
                is_for_cell = isinstance(error, KeyboardInterrupt) and event.startswith("pre_")
                if is_for_cell and request is not None:
                    request.mark(StopReason.INTERRUPT)
                else:
                    print(f"Error in callback {hook} (for {event}):")
                    self.showtraceback()


def _has_own_run_cell(cls: type) -> bool:
    """Whether a subclass has a `run_cell` of its own, which runs cells without ``await`` then."""
    ours: Any = ZMQInteractiveShell
    mine: Any = cls
    return mine.run_cell is not ours.run_cell and mine.run_cell_async is ours.run_cell_async


InteractiveShellABC.register(ZMQInteractiveShell)
