"""``%time``, ``%timeit``, ``%%capture`` and ``%run`` of code that awaits; ``%%timeline`` and
``%%asyncio``.

IPython runs the code of a magic in a function that is not async, where ``await`` is a syntax error.
So when a cell is parsed, the call of such a magic whose code awaits is rewritten into an ``await``
of a method of `AsyncMagics`. The method takes the same options as IPython's magic and prints the
same; when it is cancelled it prints no times and no result. All other calls still go to IPython's
magics. Each call of ``%run`` is rewritten, because its file is read only when the magic runs.
"""

from __future__ import annotations

import ast
import gc
import inspect
import os
import sys
import time
import timeit
from collections.abc import Awaitable, Callable
from functools import partial
from types import CodeType
from typing import Any, NoReturn

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.magic import Magics, magics_class
from IPython.utils.capture import CapturedIO
from IPython.utils.text import DollarFormatter
from IPython.utils.timing import clock, clock2
from trio.lowlevel import enable_ki_protection

from ..core import await_unprotected, call_unprotected, current_request
from ..kernel.streams import Capture, capturing
from . import cell_names
from .async_run import find_awaiting_file
from .cell_names import murmur2

__all__ = [
    "AsyncMagics",
    "AwaitingCompiler",
    "refuse_to_run",
    "rewrite",
]

_NAMES = {"time", "timeit", "capture", "run", "timeline", "asyncio"}
_CALLS = {"run_line_magic": 2, "run_cell_magic": 3}  # method: number of its arguments
_RUN_OPTIONS = "nidtN:b:pD:l:rs:T:em:G"  # the options of IPython's %run
_TIMELINE = "trikernel.python.timeline_magics"
_SHORT = 0.2  # seconds that a measurement should take at least
_MEASURE = """\
async def __measure__(__count__, __clock__):
    SETUP
    __begin__ = __clock__()
    for __number__ in range(__count__):
        BODY
    return __clock__() - __begin__
"""


# Rewriting


class AwaitingCompiler(CachingCompiler):
    """IPython's compiler, which also notes in ``calls_magic`` whether the code that was parsed last
    may call a magic: only the tree of such code is searched for calls to rewrite.

    Cells have the same file names as in ipykernel.
    """

    calls_magic = False

    def __init__(self) -> None:
        super().__init__()
        self._folder = cell_names.cell_folder() + os.sep

    def ast_parse(self, source: str, *args: Any, **kwargs: Any) -> ast.AST:
        """The tree of a cell."""
        self.calls_magic = "_magic(" in source
        tree: ast.AST = super().ast_parse(source, *args, **kwargs)
        return tree

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """The file name that a cell is compiled under."""
        given = os.environ.get(cell_names.VARIABLE)
        return given or f"{self._folder}{murmur2(raw_code, cell_names.HASH_SEED)}.py"


class AwaitingTransformer(ast.NodeTransformer):
    """Rewrites the calls of magics for which ``must_await(kind, name, line, cell)`` is true."""

    def __init__(self, must_await: Callable[[str, str, str, str | None], bool]) -> None:
        self._must_await = must_await

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Rewrite a call such as ``get_ipython().run_line_magic('time', 'await f()')``."""
        self.generic_visit(node)
        arguments = _magic_call(node)
        if arguments is None or not self._must_await(*arguments):
            return node
        assert isinstance(node.func, ast.Attribute)
        awaited = ast.Attribute(node.func.value, "run_async_magic", ast.Load())
        call = ast.Await(ast.Call(awaited, node.args, []))
        return ast.fix_missing_locations(ast.copy_location(call, node))

    def _stay(self, node: ast.AST) -> ast.AST:
        """Leave out what is inside: an ``await`` would be a syntax error there."""
        return node

    visit_FunctionDef = visit_Lambda = visit_ClassDef = visit_GeneratorExp = _stay


def rewrite(shell: Any, tree: Any) -> Any:
    """The tree of a cell in which the calls of magics whose code awaits are awaited themselves."""
    return AwaitingTransformer(partial(_must_await, shell)).visit(tree)


def _must_await(shell: Any, kind: str, name: str, line: str, cell: str | None) -> bool:
    if name not in _NAMES:
        return False
    from IPython.core.magics import ExecutionMagics  # imported late, because it takes a while

    magic = shell.magics_manager.magics[kind].get(name)
    if name == "timeline":
        return kind == "cell" and type(getattr(magic, "__self__", None)).__module__ == _TIMELINE
    if name == "asyncio":
        return kind == "cell" and type(getattr(magic, "__self__", None)).__name__ == "LoopMagics"
    if not isinstance(getattr(magic, "__self__", None), ExecutionMagics):
        return False  # a magic of this name that is not IPython's
    if name == "run":
        return True
    try:
        parts = shell.async_magics.code_of(name, line, cell)
        return any(awaits(shell, shell.transform_cell(part)) for part in parts)
    except Exception:  # IPython's magic reports what is wrong with this line or code
        return False


def _magic_call(node: ast.Call) -> tuple[str, str, str, str | None] | None:
    """The kind (line or cell), name, line and cell if this calls a magic; None for other calls."""
    count = _CALLS.get(node.func.attr) if isinstance(node.func, ast.Attribute) else None
    texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
    if count is None or len(texts) != count or len(node.args) != count or node.keywords:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    name, line, cell = (*texts, None)[:3]
    return "line" if cell is None else "cell", str(name), str(line), cell  # type: ignore[return-value]


def compile_awaiting(shell: Any, tree: ast.Module | ast.Expression, name: str) -> Any:
    """Compile a cell that may await; if it does, evaluating the code object makes a coroutine."""
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(tree, name, mode, flags=flags, dont_inherit=True)


def awaits(shell: Any, source: str) -> bool:
    """Whether Python code awaits at its top level, or calls a magic that has to be awaited."""
    tree = rewrite(shell, ast.parse(source))
    return bool(compile_awaiting(shell, tree, "<cell>").co_flags & inspect.CO_COROUTINE)


def refuse_to_await() -> NoReturn:
    """Raise `UsageError`: the caller is not async, so the code cannot be awaited here."""
    raise UsageError(
        "this code awaits, and run_cell() cannot: use `await get_ipython().run_cell_async(...)`"
    )


def refuse_to_run(coroutine: Any) -> NoReturn:
    """Stands in for IPython's loop runners, which would start a new loop for the coroutine. Raises
    `UsageError`.
    """
    coroutine.close()
    refuse_to_await()


# The magics


@magics_class
class AsyncMagics(Magics):
    """The async versions of the magics, called with the magic's line and cell.

    They are not registered as magics; the base class is there to parse options.
    """

    def code_of(self, name: str, line: str, cell: str | None) -> list[str]:
        """The pieces of code that a magic would run."""
        if name == "time":
            return [cell or _time_options(line)[1]]
        if name == "timeit":
            return [self._timeit_options(line)[1], cell or ""]
        return [cell or ""]

    @enable_ki_protection
    async def time(self, line: str, cell: str | None = None) -> Any:
        """Run the code and print how long it took. Returns the value of its last expression."""
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
        from IPython.core.magics.execution import TimeitResult

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
        """Run the cell and keep its output, without that of other tasks that print meanwhile."""
        wanted = self.shell.find_cell_magic("capture").parser.parse_argstring(line)
        silenced = DisplayHook.semicolon_at_end_of_expression(cell)
        self.shell.user_ns.pop(wanted.output, None)
        with capturing(
            stdout=not wanted.no_stdout, stderr=not wanted.no_stderr, display=not wanted.no_display
        ) as capture:
            try:
                value = await self._run(self._compile(cell))
                if value is not None and not silenced:
                    format_value = self.shell.display_formatter.format
                    data, metadata = call_unprotected(format_value, value)
                    capture.take_display({"data": data, "metadata": metadata})
                self.shell.events.trigger("post_execute")
            finally:
                if wanted.output and not silenced:
                    self.shell.user_ns[wanted.output] = _as_captured(capture)

    @enable_ki_protection
    async def timeline(self, line: str, cell: str) -> Any:
        """Run the cell and show what the tasks did meanwhile, also if the cell fails or is
        cancelled. Returns the value of its last expression.
        """
        from .timeline_magics import recorded

        parts = self._compile(cell, below=1)
        with recorded(self.shell, line):
            value = await self._run(parts)
        return None if DisplayHook.semicolon_at_end_of_expression(cell) else value

    @enable_ki_protection
    async def run(self, line: str) -> None:
        """Run a file that awaits at its top level; any other file is run by IPython's ``%run``."""
        expanded = call_unprotected(_expand, line, self.shell.user_ns)
        options, words = self.parse_options(expanded, _RUN_OPTIONS, mode="list", list_all=1)
        module = "m" in options
        words_of_file = options["m"][:1] if module else words
        file = find_awaiting_file(self.shell, words_of_file, partial(awaits, self.shell))
        if file is None:
            call_unprotected(self.shell.find_line_magic("run"), expanded)
            return
        self.check_may_await()
        await file.run(self.shell, words[1:], options)

    @enable_ki_protection
    async def asyncio(self, line: str, cell: str) -> Any:
        """Run the cell in the asyncio loop that all cells share. Returns its last expression's
        value.
        """
        if line.strip():
            raise UsageError("%%asyncio takes no argument")
        parts = self._compile("\n" + cell)  # the empty line stands for the line of the magic
        value = await self.shell.loops.asyncio.run(self._run(parts))
        return None if DisplayHook.semicolon_at_end_of_expression(cell) else value

    def check_may_await(self) -> None:
        """Raise `UsageError` inside `run_cell`, which is not async."""
        if self.shell.runs_synchronously:
            refuse_to_await()

    def _compile(self, source: str, below: int = 0) -> list[CodeType]:
        """Compile a cell; if its last statement is an expression, that is a separate part.

        ``below`` is how many lines stand above the code in the notebook: line numbers start there.
        """
        shell, request = self.shell, current_request.get()
        tree = shell.transform_ast(shell.compile.ast_parse(shell.transform_cell(source)))
        ast.increment_lineno(tree, below)
        source = "\n" * below + source
        number = request.number if request is not None else None
        name = shell.compile.cache(source, number or shell.execution_count, raw_code=source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        parts = [compile_awaiting(shell, tree, name)]
        if last is not None:
            parts.append(compile_awaiting(shell, ast.Expression(last.value), name))
        return parts

    async def _run(self, parts: list[CodeType]) -> Any:
        """Run what `_compile` returned. Returns the value of the last expression, if any."""
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
        """An async function that runs the code a number of times and returns the seconds taken."""
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
    """Whether ``--no-raise-error`` was given, and the rest of the line: the statement."""
    option = "--no-raise-error"
    return line.strip().startswith(option), line.strip().removeprefix(option).strip()


def _print_times(wall: float, cpu: tuple[float, float]) -> None:
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


def _expand(line: str, namespace: dict[str, Any]) -> str:
    """Replace ``$name`` and ``{expression}`` by the user's values; unchanged if that fails."""
    try:
        return str(DollarFormatter().vformat(line, (), dict(namespace)))
    except Exception:
        return line


def _as_captured(capture: Capture) -> CapturedIO:
    """The object that ``%%capture NAME`` stores under NAME."""
    streams = capture.streams
    return CapturedIO(streams.get("stdout"), streams.get("stderr"), capture.outputs)
