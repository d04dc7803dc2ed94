"""Runs a cell in the same steps as IPython, without the overhead that most cells do not need.

IPython's own functions for this look up forty traits and enter five context managers for a cell
like ``a = 1``, which takes as long as compiling it. Here the steps have the same order: hooks,
history, the cell's file name, its tree, one statement after the other. They call the shell's
methods of the same names, so that an override of one of these takes effect. A cancellation from
outside passes through, where IPython's own functions would catch it and show it as an error.
"""

from __future__ import annotations
import __future__

import ast
import codeop
import inspect
from functools import reduce
from operator import or_
from types import CodeType, TracebackType
from typing import Any

from IPython.core.error import InputRejected
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult
from traitlets import Integer
from trio.lowlevel import disable_ki_protection

from ..core import Request

__all__ = ["ExecutionCount", "run_cell", "run_statement", "run_statements", "why_it_failed"]

_FUTURES = reduce(
    or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


_LAST_COUNT = (1 << 53) - 1  # the largest integer that every reader of JSON keeps


class ExecutionCount(Integer[int, int]):
    """The number of the next cell. Raises `ValueError` for a value that frontends and notebook
    files do not accept; IPython's own trait accepts any integer.
    """

    def validate(self, obj: Any, value: Any) -> int:
        """The value, if it is an integer from 0 to 2 ** 53 - 1."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_COUNT:
            raise ValueError(f"execution_count is a number from 0 on, not {value!r}")
        return value


async def run_cell(
    shell: Any, info: ExecutionInfo, transformed: str | None, failed: Any
) -> ExecutionResult:
    """Run a cell. ``transformed`` is its text as Python; if it could not be transformed, ``failed``
    is the ``sys.exc_info()`` of the error.

    Errors are shown and put into the result. If it is cancelled, the cell has been counted and
    stored in the history, and the cancellation is raised.
    """
    raw, silent = info.raw_cell, info.silent
    result = ExecutionResult(info)
    if not raw or raw.isspace():
        shell.last_execution_succeeded, shell.last_execution_result = True, result
        return result
    store = info.store_history and not silent
    number = result.execution_count = shell.execution_count
    if store:
        shell.execution_count = number + 1
    events = shell.events
    if events.callbacks["pre_execute"]:
        events.trigger("pre_execute")
    if not silent and events.callbacks["pre_run_cell"]:
        events.trigger("pre_run_cell", info)
    cell = raw if failed is not None or transformed is None else transformed
    if "get_ipython().run_line_magic(" in cell and "paste" in cell:
        store = False  # %paste and %cpaste store what they run in the history themselves
    history = shell.history_manager if store else None
    if history is not None:
        history.store_inputs(number, cell, raw)
    if not silent:
        shell.logger.log(cell, raw)
    if failed is None:
        error = await _run_source(shell, result, cell)
    else:
        shell.showtraceback(failed)
        error = failed[1]
    if error is not None:
        result.error_before_exec = error
        shell.last_execution_succeeded, shell.last_execution_result = False, result
    elif history is not None:
        history.store_output(number)
        error = result.error_in_exec
    if history is not None and error is not None:
        history.exceptions[number] = dict(shell.errors.content(error))
    return result


async def _run_source(shell: Any, result: ExecutionResult, cell: str) -> BaseException | None:
    """Compile a cell and run it. Returns the error because of which it was not run, already shown;
    None if it was run.
    """
    # With `shell_futures` the cell shares the `__future__` imports of the other cells.
    compiler = shell.compile if result.info.shell_futures else shell.compiler_class()
    with shell.builtin_trap:
        name = compiler.cache(cell, result.execution_count, raw_code=result.info.raw_cell)
        with shell.display_trap:
            try:
                tree = shell.transform_ast(compiler.ast_parse(cell, filename=name))
            except BaseException as error:
                if not _show_refused(shell, error):
                    raise
                return error
            hook = shell.displayhook
            hook.exec_result = result  # the display hook stores the cell's value in it
            raised = await shell.run_ast_nodes(
                tree.body,
                name,
                interactivity="none" if result.info.silent else shell.ast_node_interactivity,
                compiler=compiler,
                result=result,
            )
            shell.last_execution_succeeded, shell.last_execution_result = not raised, result
            hook.exec_result = None
    return None


def _show_refused(shell: Any, error: BaseException) -> bool:
    """Show why a cell's text cannot be compiled. To be called while the error is being handled.

    Returns False for an error that has another reason, and shows nothing.
    """
    if isinstance(error, shell.custom_exceptions):
        shell.CustomTB(type(error), error, error.__traceback__)
    elif isinstance(error, InputRejected):  # by an AST transformer
        shell.showtraceback()
    elif isinstance(error, IndentationError):
        shell.showindentationerror()
    elif isinstance(error, (OverflowError, SyntaxError, ValueError, TypeError, MemoryError)):
        shell.showsyntaxerror()
    else:
        return False
    return True


async def run_statements(
    shell: Any,
    nodes: list[ast.stmt],
    name: str,
    interactivity: str,
    compiler: Any,
    result: ExecutionResult | None,
) -> bool:
    """Compile and run one statement after the other until one raises. Returns whether one did.

    Raises `ValueError` for an ``interactivity`` that IPython does not know.
    """
    first = _first_shown(nodes, interactivity)
    for index, node in enumerate(nodes):
        mode = "exec" if index < first else "single"
        try:
            code = _compile(shell, compiler, node, name, mode)
        except Exception as error:  # it parses but does not compile: ``return`` outside a function
            if result is not None:
                result.error_before_exec = error
            shell.showtraceback()
            return True
        awaits = bool(code.co_flags & inspect.CO_COROUTINE)
        if await shell.run_code(code, result, async_=awaits):
            return True
    return False


def _first_shown(nodes: list[ast.stmt], interactivity: str) -> int:
    """The index of the first statement whose value is shown."""
    if interactivity == "last_expr_or_assign" and nodes:
        name = _assigned_name(nodes[-1])
        if name is not None:
            nodes.append(ast.fix_missing_locations(ast.Expr(ast.Name(name, ast.Load()))))
        interactivity = "last_expr"
    if interactivity == "last_expr" and nodes:
        interactivity = "last" if isinstance(nodes[-1], ast.Expr) else "none"
    first = {"all": 0, "last": len(nodes) - 1, "none": len(nodes)}.get(interactivity)
    if first is None and nodes:
        raise ValueError(f"Interactivity was {interactivity!r}")
    return first or 0


def _assigned_name(node: ast.stmt) -> str | None:
    """The name that a statement assigns, if it assigns exactly one."""
    target: ast.expr | None = None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        target = node.target
    return target.id if isinstance(target, ast.Name) else None


def _compile(shell: Any, compiler: Any, node: ast.stmt, name: str, mode: str) -> CodeType:
    tree = ast.Interactive([node]) if mode == "single" else ast.Module([node], [])
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0
    if type(compiler).__call__ != codeop.Compile.__call__:
        with compiler.extra_flags(flags):
            own: CodeType = compiler(tree, name, mode)
            return own
    code: CodeType = compile(tree, name, mode, compiler.flags | flags, dont_inherit=True)
    if code.co_flags & _FUTURES:
        compiler.flags |= code.co_flags & _FUTURES
    return code


@disable_ki_protection
async def run_statement(
    code: CodeType, module: dict[str, Any], names: dict[str, Any], async_: bool
) -> StopIteration | None:
    """Run one statement of a cell; `KeyboardInterrupt` may be raised in it. The debugger recognises
    the start of the next statement by the name of this function: see `debugger.tracing`.

    Raises what the statement raises. A `StopIteration` is returned instead, because Python does not
    let it leave a coroutine.
    """
    __tracebackhide__ = True
    if async_:
        await eval(code, module, names)
        return None
    try:
        exec(code, module, names)
    except StopIteration as raised:
        return raised
    return None


def why_it_failed(
    raised: BaseException, request: Request | None
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """What the code of a cell has raised, in the form of `sys.exc_info`. If a `KeyboardInterrupt`
    was raised to stop the request, its reason stands in its place: a deadline, for example.
    """
    is_stop = isinstance(raised, KeyboardInterrupt)
    if is_stop and request is not None and request.stop_reason is not None:
        where = raised.__traceback__
        raised = request.stop_error().with_traceback(where)
    return type(raised), raised, raised.__traceback__
