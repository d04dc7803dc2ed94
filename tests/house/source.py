"""The package as source: its modules, functions and classes, read once and never imported."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import attrs

__all__ = [
    "MODULES",
    "OURS",
    "PACKAGE",
    "ROOT",
    "ClassSource",
    "Module",
    "components",
    "import_graph",
]

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "trikernel"
OURS = ("trikernel", "ipykernel")  # where our classes say that they are from

Function = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.frozen
class ClassSource:
    """A class as it stands in its module; ``methods`` are the names that it defines by ``def``."""

    name: str
    line: int
    methods: frozenset[str]


@attrs.frozen(eq=False)
class Module:
    """One file. ``name`` is what it is imported as."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def comment_lines(self) -> int:
        """Lines that hold nothing but a comment, or end in one."""
        with self.path.open("rb") as file:
            return sum(one.type == tokenize.COMMENT for one in tokenize.tokenize(file.readline))

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its name in the module, those within functions too."""
        yield from _functions(self.tree, "")

    def classes(self) -> Iterator[ClassSource]:
        """Every class, those within classes and functions too, by its qualified name."""
        yield from _classes(self.tree, "")

    def docstrings(self) -> Iterator[str]:
        """Of the module, its classes and its functions."""
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(self.tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield text


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _classes(node: ast.AST, prefix: str) -> Iterator[ClassSource]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            methods = frozenset(_method_names(child.body))
            yield ClassSource(prefix + child.name, child.lineno, methods)
            yield from _classes(child, f"{prefix}{child.name}.")
        elif isinstance(child, Function):
            yield from _classes(child, f"{prefix}{child.name}.<locals>.")
        else:
            yield from _classes(child, prefix)


def _method_names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Also those under an ``if``: a method of one platform is one."""
    for node in body:
        if isinstance(node, Function):
            yield node.name
        elif isinstance(node, ast.If):
            yield from _method_names([*node.body, *node.orelse])


def _read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    text = path.read_text("utf-8")
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, text, ast.parse(text))


MODULES = [_read(path) for path in sorted(PACKAGE.rglob("*.py"))]


@cache
def import_graph() -> Mapping[str, frozenset[str]]:
    """Which module of ours imports which, wherever in it the import stands."""
    names = {module.name for module in MODULES}
    return {
        module.name: frozenset(
            name for name in _imported(module, names) if name in names and name != module.name
        )
        for module in MODULES
    }


def _imported(module: Module, names: set[str]) -> Iterator[str]:
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package.pop()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:  # a module of the package, or something in it
                is_module = ".".join([*parts, alias.name]) in names
                yield ".".join([*parts, alias.name] if is_module else parts)


def components(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected components of a graph, the largest first (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for root in graph:
        if root in index:
            continue
        trail = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while trail:
            node, targets = trail[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    trail.append((target, iter(graph[target])))
                    break
                if target in stack:
                    low[node] = min(low[node], index[target])
            else:
                trail.pop()
                if trail:
                    low[trail[-1][0]] = min(low[trail[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    found.append(stack[at:])
                    del stack[at:]
    return sorted(found, key=len, reverse=True)
