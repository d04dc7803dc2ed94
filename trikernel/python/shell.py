"""IPython's shell, driven natively by the cell's own Trio task.

`run_code` is ours: IPython's catches everything, `trio.Cancelled` included. Here the cell's
cancel scope stands directly around the user's code, and only that code is unprotected.
"""

from __future__ import annotations

import sys
import types
from functools import cached_property, partial
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any

import trio
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.interactiveshell import InteractiveShell, InteractiveShellABC
from IPython.utils.text import LSString, SList
from traitlets import Instance, Type, validate
from trio.lowlevel import enable_ki_protection

from ..core import (
    StopReason,
    await_unprotected,
    call_unprotected,
    collapse,
    current_request,
    stop_error,
)
from ..system import exit_if_forked, fork_count
from .awaiting import AwaitingCompiler, AwaitingTransformer, refuse_to_await
from .debugger import CellDebugger
from .display import CellDisplayHook, CellDisplayPublisher
from .magics import KernelMagics
from .particulars import ParticularShell
from .tasks import Tasks

if TYPE_CHECKING:
    from .twins import Twins

__all__ = ["ZMQInteractiveShell"]

EXIT_DELAY = 0.3  # seconds
_SCRIPTS = "trikernel.python.commands:CellScripts"
_LAST_COUNT = (1 << 53) - 1  # the largest integer that every reader of JSON keeps


class ZMQInteractiveShell(ParticularShell):
    """The shell of a Python kernel. Libraries look for this very name, to tell a notebook."""

    displayhook_class = Type(CellDisplayHook)
    compiler_class = Type(AwaitingCompiler)
    display_pub_class = Type(CellDisplayPublisher)
    exiter: Any = Instance(ZMQExitAutocall, args=())
    keepkernel_on_exit = None
    last_execution_succeeded = True  # IPython's are traits, set once a cell, observed by nobody
    last_execution_result: Any = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autoawait = True
        self.runs_synchronously = False
        self.exiter.set_ip(self)
        self.loop_runner = _refuse
        self.tasks = Tasks(self.kernel)
        self.compile.rewrite = AwaitingTransformer(self)
        self._generation = fork_count()

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Run code that awaits nothing, from inside a cell; other code is refused."""
        before, self.runs_synchronously = self.runs_synchronously, True
        try:
            return super().run_cell(*args, **kwargs)
        finally:
            self.runs_synchronously = before

    async def run_cell_async(
        self,
        raw_cell: str,
        *args: Any,
        transformed_cell: str | None = None,
        preprocessing_exc_tuple: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run code as a cell, from inside one too: ``await get_ipython().run_cell_async(code)``."""
        if transformed_cell is None and preprocessing_exc_tuple is None:
            try:
                transformed_cell = call_unprotected(self.transform_cell, raw_cell)
            except Exception:
                preprocessing_exc_tuple = sys.exc_info()
        return await super().run_cell_async(
            raw_cell,
            *args,
            transformed_cell=transformed_cell,
            preprocessing_exc_tuple=preprocessing_exc_tuple,
            **kwargs,
        )

    @cached_property
    def twins(self) -> Twins:
        """The awaitable twins of magics; they and the magics are imported when one is called."""
        from .twins import Twins

        return Twins(self)

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that the kernel runs in."""
        return self._generation != fork_count()

    # Executing

    @enable_ki_protection
    async def run_code(
        self, code_obj: types.CodeType, result: Any = None, *, async_: bool = False
    ) -> bool:
        """Run one compiled statement of a cell; True if it raised or was stopped.

        The error is shown and put into ``result``. Cancelled from outside the request, the
        cancel passes through.
        """
        __tracebackhide__ = "__ipython_bottom__"
        error = await self._error_of(code_obj, async_)
        if error is None:
            return False
        if result is not None:
            result.error_in_exec = error
        request = current_request.get()
        if request is None or not request.finished:  # an abandoned cell has had its say
            self.show(error)
        return True

    async def _error_of(self, code_obj: types.CodeType, async_: bool) -> BaseException | None:
        """What the statement raised, or why it was stopped, with the line where it was."""
        __tracebackhide__ = True  # from a debugger's stack
        request = current_request.get()
        if request is None:
            return await self._error_at_startup(code_obj, async_)
        where: types.TracebackType | None = None
        try:
            with request.open_scope():
                if request.stop_reason is not None:
                    return stop_error(request.stop_reason)
                try:
                    await self._run_unprotected(code_obj, async_)
                except BaseException as raised:
                    where = raised.__traceback__
                    raise
        except BaseException as raised:
            exit_if_forked(self._generation, raised)
            if not isinstance(
                raised, (Exception, KeyboardInterrupt, SystemExit, BaseExceptionGroup)
            ):
                raise
            error = collapse(raised)
            if isinstance(error, KeyboardInterrupt) and request.stop_reason is not None:
                error = stop_error(request.stop_reason)
            return error if error is raised else error.with_traceback(where)
        if request.stop_reason is not None:  # also if it has ended without noticing
            return stop_error(request.stop_reason).with_traceback(where)
        return None

    async def _error_at_startup(self, code_obj: types.CodeType, async_: bool) -> Exception | None:
        try:
            await self._run_unprotected(code_obj, async_)
        except Exception as raised:
            return raised
        return None

    async def _run_unprotected(self, code_obj: types.CodeType, async_: bool) -> None:
        __tracebackhide__ = True
        if async_:
            await await_unprotected(eval(code_obj, self.user_global_ns, self.user_ns))
        else:
            call_unprotected(exec, code_obj, self.user_global_ns, self.user_ns)

    def display_captured(self, content: dict[str, Any], update: bool) -> bool:
        """Whether ``capture_output`` takes this display instead of the frontend."""
        outputs = getattr(self.display_pub, "outputs", None)
        if outputs is None:
            return False
        outputs.append({**content, "update": update})
        return True

    def ask_exit(self) -> None:
        """``exit`` and ``quit``: tell the frontend, and end the process once this is answered."""
        keep = bool(self.keepkernel_on_exit)
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": keep})
        request = current_request.get()
        background = self.kernel.server.background
        if self.owns_process and not keep and request is not None and background is not None:
            request.after_idle(partial(background.start_soon, self._leave, name="exit"))

    @enable_ki_protection
    async def _leave(self) -> None:
        """End the kernel, once clients had the time to read the reply: some look first whether
        the process is alive.
        """
        await trio.sleep(EXIT_DELAY)
        self.kernel.server.stop()

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Have the frontend put ``text`` in the next cell, or in this one."""
        self.payload_manager.write_payload(
            {"source": "set_next_input", "text": text, "replace": replace}
        )

    def system(self, cmd: str) -> None:
        """``!cmd``: its exit status is in ``_exit_code``. Interrupted, it raises that."""
        from .commands import run_in_terminal

        _refuse_background(cmd)
        status = run_in_terminal(self.var_expand(cmd, depth=1))
        self._finish_command(cmd, status)

    system_piped = system

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """``x = !cmd``: what it prints, as lines or as one text."""
        from .commands import get_output

        _refuse_background(cmd)
        text, status = get_output(self.var_expand(cmd, depth=depth + 1))
        if self.system_raise_on_error:
            self._finish_command(cmd, status)
        return SList(text.splitlines()) if split else LSString(text)

    def _finish_command(self, cmd: str, status: int) -> None:
        self.user_ns["_exit_code"] = status
        if self.system_raise_on_error and status != 0:
            raise CalledProcessError(status, cmd)

    # Setting up

    @validate("execution_count")
    def _check_count(self, proposal: Any) -> int:
        """Frontends and notebook files take no other; an integer is all that the trait asks for."""
        count = proposal["value"]
        if isinstance(count, bool) or not 0 <= count <= _LAST_COUNT:
            raise ValueError(f"execution_count is a number from 0 on, not {count!r}")
        return int(count)

    def become_instance(self) -> None:
        """Be what ``get_ipython()`` and ``display()`` find, unless another shell is already."""
        if not InteractiveShell.initialized():
            for cls in type(self)._walk_mro():
                cls._instance = self

    def resign(self) -> None:
        """No longer be it."""
        if InteractiveShell.initialized() and InteractiveShell._instance is self:
            type(self).clear_instance()

    @property
    def debugger_cls(self) -> type:
        """What ``%debug`` and ``%pdb`` start."""
        return CellDebugger

    def transform_ast(self, node: Any) -> Any:
        """Transformers are the user's code."""
        return call_unprotected(super().transform_ast, node)

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

    def get_parent(self) -> dict[str, Any]:
        """The message that this code runs for, as ipykernel's shell has it."""
        parent: dict[str, Any] = self.kernel.get_parent()
        return parent

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Make ``parent`` the parent of what this task and its children send."""
        self.kernel.set_parent([], parent)

    @property
    def parent_header(self) -> dict[str, Any]:
        """The message that this code runs for."""
        return self.get_parent()

    def init_magics(self) -> None:
        """IPython's magics and ours."""
        super().init_magics()
        self.register_magics(KernelMagics)
        kinds = self.magics_manager.magics
        scripts = [name for name, magic in kinds["cell"].items() if _is_script(magic)]
        for (
            name
        ) in scripts:  # not registered: that would import what runs them, which takes a while
            self.magics_manager.register_lazy(name, _SCRIPTS, "cell")
        if not scripts:  # an IPython that has imported its own already
            from .commands import CellScripts

            self.register_magics(CellScripts)

    def run_awaiting_magic(self, name: str, line: str, cell: str | None = None) -> Any:
        """The awaitable twin of a magic. Cells that need it are rewritten to call it."""
        twin = getattr(self.twins, name)
        return twin(line) if cell is None else twin(line, cell)


def _refuse_background(command: str) -> None:
    if command.rstrip().endswith("&"):
        raise OSError("a command in the background has no end: use subprocess.Popen for it")


def _is_script(magic: Any) -> bool:
    """Whether a cell magic is one of IPython's for scripts, not imported yet."""
    return str(getattr(magic, "spec", "")).endswith(":ScriptMagics")


def _refuse(coroutine: Any) -> None:
    coroutine.close()
    refuse_to_await()


InteractiveShellABC.register(ZMQInteractiveShell)
