"""The Python kernel: IPython for the language, Trio for the loop that cells run in."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..core import Request, Server, call_unprotected, current_request
from ..errors import AbortedError
from ..kernel import prompt, setting
from ..wire import contents as c
from . import comms, introspect
from .output import CellOutput
from .streams import redirections

if TYPE_CHECKING:
    from .process import OwnProcess
    from .shell import ZMQInteractiveShell

__all__ = ["PythonKernel"]


class _Banner:
    """Text, of the class too; IPython's version is in it, so it is made when it is asked for."""

    def __get__(self, instance: object, owner: object) -> str:
        from .language import BANNER

        return BANNER


class PythonKernel(CellOutput):
    """A kernel for Python with Trio. Cells may use ``await`` and nurseries at the top level."""

    profile: str = setting("default", "the IPython profile whose configuration is read")

    implementation = "trikernel"
    implementation_version = "0.1.0"
    banner = _Banner()
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

    def __init__(self, **settings: Any) -> None:
        self._shell: ZMQInteractiveShell | None = None
        self._process: OwnProcess | None = None
        super().__init__(**settings)

    @property
    def shell(self) -> ZMQInteractiveShell:
        """IPython's shell; made when the kernel starts to be served."""
        if self._shell is None:
            from .language import new_shell

            self._shell = new_shell(self, self._process)
        return self._shell

    @property
    def execution_count(self) -> int:
        """The number of the next cell; it grows with each cell that is kept in the history."""
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

    def bind(self, server: Server) -> None:
        """The kernel is about to be served. Raises `UsageError` for an unknown profile."""
        from .language import OwnProcess

        process = OwnProcess(self.profile) if server.owns_process else None
        super().bind(server)
        self._process, self._shell, self._last_cell = process, None, None
        self.comm_manager = comms.CellCommManager(self)

    async def started(self) -> None:
        """Make the shell, and redirect output and input of cells."""
        comms.install()
        redirections.add(self)
        self.shell.become_instance()
        trio.lowlevel.add_instrument(self.shell.tasks)
        if self._process is not None:
            self._process.start(self.server, self.shell, self._write_captured)

    def unbind(self) -> None:
        """Give everything back, whatever the user's code has done to it."""
        with contextlib.ExitStack() as stack:  # the last one first, and each of them
            stack.callback(super().unbind)
            if self._shell is not None:
                stack.callback(self._leave_shell, self._shell)
            if self._process is not None:
                stack.callback(self._process.stop)
            stack.callback(self._give_streams_back)
            stack.callback(self.comm_manager.forget_all)

    def _give_streams_back(self) -> None:
        if redirections.remove(self):
            comms.uninstall()

    def _leave_shell(self, shell: ZMQInteractiveShell) -> None:
        with contextlib.suppress(KeyError):  # never started
            trio.lowlevel.remove_instrument(shell.tasks)
        shell.resign()
        atexit.unregister(shell.atexit_operations)
        try:
            shell._atexit_once()  # now that the last task has cleaned up
        except Exception:  # a full disk, a broken database
            self.log.exception("the history could not be closed")

    # Verbs

    @prompt
    def begin_execution(self, content: c.ExecuteRequest) -> int:
        """IPython counts, after the cell and only if it is kept in the history."""
        return self.execution_count

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
        shell = self.shell
        shell.forget_error()
        shell.take_payload()  # what a background task has left there
        comms.install()  # again: importing ipykernel's own kernel puts its comms in place
        failed, transformed, request = None, code, current_request.get()
        if not silent:
            self._last_cell = request
        try:
            stripped, seconds = shell.take_timeout(code)
            if seconds is not None and request is not None:
                self.server.interrupts.stop_after(request, seconds)
            transformed = call_unprotected(shell.transform_cell, stripped)
        except (Exception, KeyboardInterrupt):
            failed = sys.exc_info()
        result = await shell.run_cell_async(
            code,
            store_history=store_history,
            silent=silent,
            transformed_cell=transformed,
            preprocessing_exc_tuple=failed,
            cell_id=cell_id,
        )
        if request is not None and request.abandoned:
            return {}
        shell.events.trigger("post_execute")
        if not silent:
            shell.events.trigger("post_run_cell", result)
        self._keep_context(request)
        return self._reply(result, user_expressions or {})

    def _keep_context(self, request: Request | None) -> None:
        """What the cell set in context variables lasts to the next one."""
        if request is not None and request.done is not None:  # it has a context of its own
            self.user_context = contextvars.copy_context()

    def _reply(self, result: Any, user_expressions: dict[str, Any]) -> dict[str, Any]:
        error = next((one for one in self._errors(result) if one is not None), None)
        if isinstance(error, AbortedError):
            return {"status": "aborted"}
        payload = self.shell.take_payload()
        if error is None:
            values = call_unprotected(self.shell.user_expressions, user_expressions)
            return {"status": "ok", "payload": payload, "user_expressions": values}
        content = {"status": "error", **self.shell.rendered(error)}
        return {**content, "payload": payload, "user_expressions": {}}

    def _errors(self, result: Any) -> tuple[BaseException | None, ...]:
        return result.error_before_exec, result.error_in_exec, self.shell.display_error()

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
