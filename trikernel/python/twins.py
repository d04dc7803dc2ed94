"""The awaitable twins of IPython's magics: see `awaiting`, which has them called.

They take the same options and print what IPython's print. A cancelled one prints nothing more.
"""

from __future__ import annotations

import ast
import gc
import inspect
import sys
import time
import timeit
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class
from IPython.core.magics.execution import TimeitResult, _format_time
from IPython.utils.text import DollarFormatter
from IPython.utils.timing import clock, clock2
from trio.lowlevel import enable_ki_protection

from ..core import await_unprotected, call_unprotected, current_request
from .awaiting import compile_awaiting, refuse_to_await
from .capture import capturing
from .scripts import RUN_OPTIONS, find_awaiting_file

__all__ = ["Twins"]

_SHORT = 0.2  # seconds that a measurement should take at least
_MEASURE = """\
async def __measure__(__count__, __clock__):
    SETUP
    __begin__ = __clock__()
    for __number__ in range(__count__):
        BODY
    return __clock__() - __begin__
"""


@magics_class
class Twins(Magics):
    """Each is called with the magic's line and cell. Not registered: `Magics` reads options."""

    def code_of(self, name: str, line: str, cell: str | None) -> list[str]:
        """The pieces of code that a magic would run."""
        if name == "time":
            return [cell or _time_options(line)[1]]
        if name == "timeit":
            return [self._timeit_options(line)[1], cell or ""]
        return [cell or ""]

    @enable_ki_protection
    async def time(self, line: str, cell: str | None = None) -> Any:
        """Run the code and print the times it took; its value."""
        quiet, statement = _time_options(line)
        if statement and cell:
            raise UsageError("Can't use statement directly after '%%time'!")
        source = cell or statement
        parts = self._compile(source)
        wall, cpu = time.perf_counter(), clock2()
        try:
            value = await self._run(parts)
        except Exception:
            _print_times(wall, cpu)
            if not quiet:
                raise
            return None
        _print_times(wall, cpu)
        return None if DisplayHook.semicolon_at_end_of_expression(source) else value

    @enable_ki_protection
    async def timeit(self, line: str, cell: str | None = None) -> Any:
        """Run the code many times and print how long one run takes."""
        options, statement = self._timeit_options(line)
        setup, body = ("", statement) if cell is None else (statement, cell)
        measure = self._measurement(setup, body, _timer(options))
        number = int(getattr(options, "n", 0))
        if number == 0:
            number = 1
            while await measure(number) < _SHORT and number < 10**9:
                number *= 10
        repeat = int(getattr(options, "r", 7))
        runs = [await measure(number) for _ in range(repeat)]
        best, worst = min(runs) / number, max(runs) / number
        precision = int(getattr(options, "p", 3))
        result = TimeitResult(number, repeat, best, worst, runs, 0, precision)
        if "q" not in options:
            if worst > 4 * best > 0 and worst > 1e-6:
                print(f"The slowest run took {worst / best:.2f} times longer than the fastest.")
            print(result)
        if "v" in options:
            self.shell.user_ns[options.v] = result
        return result if "o" in options else None

    @enable_ki_protection
    async def capture(self, line: str, cell: str) -> None:
        """Run the cell and keep its output; of tasks that print meanwhile, only its own."""
        wanted = self.shell.find_cell_magic("capture").parser.parse_argstring(line)
        silenced = DisplayHook.semicolon_at_end_of_expression(cell)
        self.shell.user_ns.pop(wanted.output, None)
        with capturing(
            stdout=not wanted.no_stdout, stderr=not wanted.no_stderr, display=not wanted.no_display
        ) as capture:
            self.shell.kernel.server.outbox.close_text()  # so that each text is looked at
            try:
                value = await self._run(self._compile(cell))
                if value is not None and not silenced:
                    format_value = self.shell.display_formatter.format
                    data, metadata = call_unprotected(format_value, value)
                    capture.take_display({"data": data, "metadata": metadata})
                self.shell.events.trigger("post_execute")
            finally:
                if wanted.output and not silenced:
                    self.shell.user_ns[wanted.output] = capture.as_captured()

    @enable_ki_protection
    async def run(self, line: str) -> None:
        """Run a file that awaits at its top level; any other one is IPython's to run."""
        expanded = call_unprotected(_expand, line, self.shell.user_ns)
        options, words = self.parse_options(expanded, RUN_OPTIONS, mode="list", list_all=1)
        module = "m" in options
        file = find_awaiting_file(self.shell, options["m"][:1] if module else words)
        if file is None:
            call_unprotected(self.shell.find_line_magic("run"), expanded)
            return
        self.check_may_await()
        await file.run(self.shell, words[1:], options)

    def check_may_await(self) -> None:
        """Raise `UsageError` inside `run_cell`, which is not async."""
        if self.shell.runs_synchronously:
            refuse_to_await()

    def _compile(self, source: str) -> list[CodeType]:
        """The code of a cell in the user's namespace; a last expression is a part of its own."""
        shell, request = self.shell, current_request.get()
        tree = shell.transform_ast(shell.compile.ast_parse(shell.transform_cell(source)))
        number = request.number if request is not None else None
        name = shell.compile.cache(source, number or shell.execution_count, raw_code=source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        parts = [compile_awaiting(shell, tree, name)]
        if last is not None:
            parts.append(compile_awaiting(shell, ast.Expression(last.value), name))
        return parts

    async def _run(self, parts: list[CodeType]) -> Any:
        """Run what `_compile` made; the value of a last expression."""
        self.check_may_await()
        value = None
        for part in parts:
            value = call_unprotected(eval, part, self.shell.user_global_ns, self.shell.user_ns)
            if part.co_flags & inspect.CO_COROUTINE:
                value = await await_unprotected(value)
        return value if len(parts) == 2 else None

    def _measurement(
        self, setup: str, body: str, timer: Callable[[], float]
    ) -> Callable[[int], Awaitable[float]]:
        """An async function: seconds that so many runs of the code take."""
        template = ast.parse(_MEASURE)
        function = template.body[0]
        assert isinstance(function, ast.AsyncFunctionDef)
        loop = function.body[2]
        assert isinstance(loop, ast.For)
        loop.body = self._statements(body)
        function.body[:1] = self._statements(setup)
        name = self.shell.compile.cache(body, self.shell.execution_count, raw_code=body)
        namespace: dict[str, Any] = {}
        code = self.shell.compile(ast.fix_missing_locations(template), name, "exec")
        exec(code, self.shell.user_ns, namespace)

        async def measure(count: int) -> float:
            self.check_may_await()
            collecting = gc.isenabled()
            gc.disable()
            try:
                measured = namespace["__measure__"](count, timer)
                return float(await await_unprotected(measured))
            finally:
                if collecting:
                    gc.enable()

        return measure

    def _statements(self, source: str) -> list[ast.stmt]:
        tree = self.shell.compile.ast_parse(self.shell.transform_cell(source))
        return self.shell.transform_ast(tree).body or [ast.Pass()]

    def _timeit_options(self, line: str) -> tuple[Any, str]:
        found: tuple[Any, str] = self.parse_options(
            line, "n:r:tcp:qov:", posix=False, strict=False, preserve_non_opts=True
        )
        return found


def _time_options(line: str) -> tuple[bool, str]:
    """Whether errors are not to be raised, and the statement."""
    option = "--no-raise-error"
    return line.strip().startswith(option), line.strip().removeprefix(option).strip()


def _print_times(wall: float, cpu: tuple[float, float]) -> None:
    user, system = (after - before for before, after in zip(cpu, clock2(), strict=True))
    total = f"total: {_format_time(user + system)}"
    if sys.platform != "win32":
        total = f"user {_format_time(user)}, sys: {_format_time(system)}, {total}"
    print(f"CPU times: {total}\nWall time: {_format_time(time.perf_counter() - wall)}")


def _timer(options: Any) -> Callable[[], float]:
    if "t" in options:
        return time.time
    return clock if "c" in options else timeit.default_timer


def _expand(line: str, namespace: dict[str, Any]) -> str:
    """``$name`` and ``{expression}`` of the user's names; as it stands if that fails."""
    try:
        return str(DollarFormatter().vformat(line, (), dict(namespace)))
    except Exception:
        return line
