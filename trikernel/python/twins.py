"""The awaitable twins of IPython's magics: see `awaiting`, which calls them.

They take the same options and print the same words. A cancelled one prints nothing more.
"""

from __future__ import annotations

import ast
import inspect
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class
from IPython.core.magics.execution import TimeitResult
from IPython.utils.timing import clock, clock2
from trio.lowlevel import enable_ki_protection

from ..core import await_unprotected, call_unprotected, current_request
from .awaiting import compile_awaiting
from .capture import capturing
from .scripts import RUN_OPTIONS, file_awaits, find_file, run_file

__all__ = ["Twins"]

_SHORT = 0.2  # seconds that a measurement should take at least


@magics_class
class Twins(Magics):
    """Each is called with the magic's line and cell."""

    def code_of(self, name: str, line: str, cell: str | None) -> list[str]:
        """The pieces of code that a magic would run."""
        if name == "time":
            return [cell or self._time_options(line)[1]]
        if name == "timeit":
            return [self._timeit_options(line)[1], cell or ""]
        return [cell or ""]

    @enable_ki_protection
    async def time(self, line: str, cell: str | None = None) -> Any:
        """Run the code and print the times it took; its value."""
        quiet, statement = self._time_options(line)
        if statement and cell:
            raise UsageError("Can't use statement directly after '%%time'!")
        source = cell or statement
        wall, cpu = time.perf_counter(), clock2()
        try:
            value = await self._run(source)
        except Exception:
            self._print_times(wall, cpu)
            if not quiet:
                raise
            return None
        self._print_times(wall, cpu)
        return None if DisplayHook.semicolon_at_end_of_expression(source) else value

    @enable_ki_protection
    async def timeit(self, line: str, cell: str | None = None) -> Any:
        """Run the code many times and print how long one run takes."""
        options, statement = self._timeit_options(line)
        setup, body = ("", statement) if cell is None else (statement, cell)
        measure = self._measurement(setup, body, _timer(options))
        number = int(getattr(options, "n", 0))
        repeat = int(getattr(options, "r", 7))
        if number == 0:
            number = 1
            while await measure(number) < _SHORT and number < 10**9:
                number *= 10
        runs = [await measure(number) for _ in range(repeat)]
        result = TimeitResult(
            number,
            repeat,
            min(runs) / number,
            max(runs) / number,
            runs,
            0,
            int(getattr(options, "p", 3)),
        )
        if "q" not in options:
            print(result)
        if "v" in options:
            self.shell.user_ns[options.v] = result
        return result if "o" in options else None

    @enable_ki_protection
    async def capture(self, line: str, cell: str) -> None:
        """Run the cell and keep its output; of tasks that print meanwhile, only its own."""
        magic = self.shell.find_cell_magic("capture")
        wanted = magic.parser.parse_argstring(line)
        with capturing(
            stdout=not wanted.no_stdout, stderr=not wanted.no_stderr, display=not wanted.no_display
        ) as capture:
            self.shell.kernel.server.outbox.close_text()  # so that each text is looked at
            value = await self._run(cell)
            silenced = DisplayHook.semicolon_at_end_of_expression(cell)
            if value is not None and not silenced:
                data, metadata = self.shell.display_formatter.format(value)
                capture.take_display({"data": data, "metadata": metadata})
        if silenced:
            self.shell.user_ns.pop(wanted.output, None)
        elif wanted.output:
            self.shell.user_ns[wanted.output] = capture.as_captured()

    @enable_ki_protection
    async def run(self, line: str) -> None:
        """Run a file that awaits at its top level; any other one as IPython does."""
        options, words = self.parse_options(
            self.shell.var_expand(line), RUN_OPTIONS, mode="list", list_all=1
        )
        path = find_file(words)
        if path is None or "m" in options or not file_awaits(self.shell, path):
            call_unprotected(self.shell.run_line_magic, "run", line)
            return
        await run_file(self.shell, path, words[1:], options)

    async def _run(self, source: str) -> Any:
        """Run code of a cell in the user's namespace; the value of a last expression."""
        shell = self.shell
        tree = shell.transform_ast(shell.compile.ast_parse(shell.transform_cell(source)))
        request = current_request.get()
        number = request.number if request is not None else None
        name = shell.compile.cache(source, number or shell.execution_count, raw_code=source)
        parts: list[ast.Module | ast.Expression] = [tree]
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = tree.body.pop()
            parts.append(ast.Expression(last.value))
        value = None
        for part in parts:
            code = compile_awaiting(shell, part, name)
            value = call_unprotected(eval, code, shell.user_global_ns, shell.user_ns)
            if code.co_flags & inspect.CO_COROUTINE:
                value = await await_unprotected(value)
        return value if len(parts) == 2 else None

    def _measurement(self, setup: str, body: str, timer: Callable[[], float]) -> Any:
        """An async function: seconds that so many runs of the code take."""
        template = ast.parse(
            "async def measure(times, timer):\n"
            "    SETUP\n"
            "    begin = timer()\n"
            "    for _ in range(times):\n"
            "        BODY\n"
            "    return timer() - begin"
        )
        function = template.body[0]
        assert isinstance(function, ast.AsyncFunctionDef)
        loop = function.body[2]
        assert isinstance(loop, ast.For)
        loop.body = self._statements(body)
        function.body[:1] = self._statements(setup)
        namespace: dict[str, Any] = {}
        code = self.shell.compile(ast.fix_missing_locations(template), "<timeit>", "exec")
        exec(code, self.shell.user_ns, namespace)

        async def measure(times: int) -> float:
            return float(await await_unprotected(namespace["measure"](times, timer)))

        return measure

    def _statements(self, source: str) -> list[ast.stmt]:
        tree = self.shell.compile.ast_parse(self.shell.transform_cell(source))
        return self.shell.transform_ast(tree).body or [ast.Pass()]

    def _time_options(self, line: str) -> tuple[bool, str]:
        quiet = line.strip().startswith("--no-raise-error")
        return quiet, line.strip().removeprefix("--no-raise-error").strip()

    def _timeit_options(self, line: str) -> tuple[Any, str]:
        found: tuple[Any, str] = self.parse_options(
            line, "n:r:tcp:qov:", posix=False, strict=False, preserve_non_opts=True
        )
        return found

    def _print_times(self, wall: float, cpu: tuple[float, float]) -> None:
        from IPython.core.magics.execution import _format_time

        user, system = (after - before for before, after in zip(cpu, clock2(), strict=True))
        total = f"total: {_format_time(user + system)}"
        if sys.platform != "win32":
            total = f"user {_format_time(user)}, sys: {_format_time(system)}, {total}"
        print(f"CPU times: {total}\nWall time: {_format_time(time.perf_counter() - wall)}")


def _timer(options: Any) -> Callable[[], float]:
    if "t" in options:
        return time.time
    return clock if "c" in options else timeit.default_timer
