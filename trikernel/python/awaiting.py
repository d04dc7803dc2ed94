"""IPython's ``%time``, ``%timeit``, ``%%capture`` and ``%run``, where the code in them awaits.

IPython runs such code in a function that is not async, where ``await`` is a syntax error. A
call of one of them whose code awaits is rewritten to await a twin of ours; every other call
stays IPython's. ``%run`` is looked at when it runs, because only then its file is read.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any, NoReturn

from IPython.core.compilerop import CachingCompiler
from IPython.core.error import UsageError

__all__ = [
    "AwaitingCompiler",
    "AwaitingTransformer",
    "awaits",
    "compile_awaiting",
    "refuse_to_await",
]

_TWINS = {"time", "timeit", "capture", "run"}
_CALLS = {"run_line_magic": 2, "run_cell_magic": 3}  # and how many arguments they have


class AwaitingTransformer(ast.NodeTransformer):
    """Rewrites the calls; none while ``%autoawait`` is off."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``get_ipython().run_line_magic('time', 'await f()')`` and its like."""
        self.generic_visit(node)
        arguments = _magic_call(node) if self._shell.autoawait else None
        if arguments is None or not self._has_twin(*arguments):
            return node
        assert isinstance(node.func, ast.Attribute)
        twin = ast.Attribute(node.func.value, "run_awaiting_magic", ast.Load())
        call = ast.Await(ast.Call(twin, node.args, []))
        return ast.fix_missing_locations(ast.copy_location(call, node))

    def _stay(self, node: ast.AST) -> ast.AST:
        """No ``await`` can stand in here."""
        return node

    visit_FunctionDef = visit_Lambda = visit_ClassDef = visit_GeneratorExp = _stay

    def _has_twin(self, kind: str, name: str, line: str, cell: str | None) -> bool:
        if name not in _TWINS:
            return False
        from IPython.core.magics import ExecutionMagics  # not at the start: it takes a while

        magic = self._shell.magics_manager.magics[kind].get(name)
        if not isinstance(getattr(magic, "__self__", None), ExecutionMagics):
            return False  # somebody's own of that name
        if name == "run":
            return True
        try:
            parts = self._shell.twins.code_of(name, line, cell)
            return any(awaits(self._shell, self._shell.transform_cell(part)) for part in parts)
        except Exception:  # IPython's own says what is wrong with it
            return False


class AwaitingCompiler(CachingCompiler):
    """Rewrites where IPython parses, and looks only at code that calls a magic."""

    rewrite: AwaitingTransformer | None = None

    def ast_parse(self, source: str, *args: Any, **kwargs: Any) -> ast.AST:
        """The tree of a cell."""
        tree: ast.AST = super().ast_parse(source, *args, **kwargs)
        if self.rewrite is not None and any(call in source for call in _CALLS):
            tree = self.rewrite.visit(tree)
        return tree


def _magic_call(node: ast.Call) -> tuple[str, str, str, str | None] | None:
    """The kind, the name, the line and the cell of a magic's call; None for any other call."""
    count = _CALLS.get(node.func.attr) if isinstance(node.func, ast.Attribute) else None
    texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
    if count is None or len(texts) != count or len(node.args) != count or node.keywords:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    name, line, cell = (*texts, None)[:3]
    return "line" if cell is None else "cell", str(name), str(line), cell  # type: ignore[return-value]


def compile_awaiting(shell: Any, tree: ast.Module | ast.Expression, name: str) -> Any:
    """A code object of a cell, which may await: then its value is a coroutine."""
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(tree, name, mode, flags=flags, dont_inherit=True)


def awaits(shell: Any, source: str) -> bool:
    """Whether Python code awaits at its top level, or calls a magic that has to."""
    tree = shell.compile.rewrite.visit(ast.parse(source))
    return bool(compile_awaiting(shell, tree, "<cell>").co_flags & inspect.CO_COROUTINE)


def refuse_to_await() -> NoReturn:
    """Say what to do where nothing can be awaited, because the caller is not async."""
    raise UsageError(
        "this code awaits, and run_cell() cannot: use `await get_ipython().run_cell_async(...)`"
    )
