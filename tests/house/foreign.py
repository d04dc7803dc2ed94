"""Private names of other libraries that the package touches, as its syntax and classes show them.

Private is what begins with an underscore and is no ``__dunder__``. Found are

- imports of a private module, or of a private name from a public one;
- attributes: of ``self`` where neither the class nor a base of ours defines them, of anything else
  where the module itself does not (so that reaching into another module of ours is found, too);
- the same by name: ``getattr(x, "_y")`` and its like;
- names that a class of ours replaces in a base of another library.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from types import FunctionType
from typing import Any

import attrs

from .source import MODULES, OURS, ClassSource, Module

__all__ = ["Touch", "classes", "is_ours", "names_outside_of_self", "resolve", "touches"]

DOCUMENTED = ("os._exit", "sys._getframe")  # private by their spelling only
_BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "getattr_static"}


@attrs.frozen
class Touch:
    """One place where a private name is touched; ``how`` is the expression."""

    module: str
    line: int
    name: str
    how: str

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.how}"


def touches() -> list[Touch]:
    """All of them, in the whole package."""
    found = [one for module in MODULES for one in _touches_in(module)]
    kept = {one for one in found if not one.how.endswith(DOCUMENTED)}
    return sorted(kept, key=lambda one: (one.module, one.line, one.name))


def is_ours(cls: type) -> bool:
    """Whether trikernel defines that class."""
    return cls.__module__.partition(".")[0] in OURS


def classes(module: Module) -> Iterator[tuple[ClassSource, type | None]]:
    """Every class of a module as it is written, and itself unless a function makes it."""
    imported = importlib.import_module(module.name)
    for source in module.classes():
        found: object = imported
        for part in source.name.split("."):
            found = getattr(found, part, None)
        yield source, found if isinstance(found, type) else None


def _touches_in(module: Module) -> Iterator[Touch]:
    own = _defined(module.tree)
    for node in ast.walk(module.tree):
        for name in names_outside_of_self(node):
            if name not in own:
                yield _touch(module, node, name)
    for source, cls in classes(module):
        tree = _class_node(module, source)
        foreign = _foreign_names(cls) if cls is not None else frozenset()
        inherited = _inherited(cls) if cls is not None else frozenset()
        known = _defined(tree) | inherited
        for name in _defined(tree) & foreign:
            yield Touch(module.name, source.line, name, f"{source.name} replaces {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr) and _is_self(node.value):
                is_known = node.attr in known and not _is_super(node.value)
                if not is_known and node.attr not in inherited:
                    yield _touch(module, node, node.attr)


def names_outside_of_self(node: ast.AST) -> Iterator[str]:
    """The private names that one node touches, those of the object itself aside."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _imported(node)
    elif isinstance(node, ast.Attribute):
        if _is_private(node.attr) and not _is_self(node.value):
            yield node.attr
    elif isinstance(node, ast.Call):
        yield from _named(node)


def _touch(module: Module, node: ast.AST, name: str) -> Touch:
    return Touch(module.name, getattr(node, "lineno", 0), name, ast.unparse(node))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and bool(name.strip("_"))


def _is_self(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in ("self", "cls")) or _is_super(node)


def _is_super(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "super"


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The private names of an import, wherever in it they stand; ours are relative."""
    if isinstance(node, ast.Import):
        parts = [part for alias in node.names for part in alias.name.split(".")]
    elif not node.level and node.module != "__future__":
        parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    else:
        parts = []
    yield from (part for part in parts if _is_private(part))


def _named(node: ast.Call) -> Iterator[str]:
    """The private name that is given to ``getattr`` and its like."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name in _BY_NAME and len(node.args) > 1:
        text = node.args[1]
        if isinstance(text, ast.Constant) and _is_private(str(text.value)):
            yield str(text.value)


def _defined(tree: ast.AST) -> frozenset[str]:
    """What is defined in a part of a module: functions, classes, variables, own attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if _is_self(node.value):
                found.add(node.attr)
        elif isinstance(node, ast.Assign) and "__slots__" in map(ast.unparse, node.targets):
            found |= {str(one.value) for one in ast.walk(node) if isinstance(one, ast.Constant)}
    return frozenset(found)


def _class_node(module: Module, source: ClassSource) -> ast.ClassDef:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.lineno == source.line:
            return node
    raise LookupError(source)


@cache
def _source_of(cls: type) -> frozenset[str]:
    try:
        return _defined(ast.parse(textwrap.dedent(inspect.getsource(cls))))
    except (OSError, TypeError):  # it says another module than it is in (as Trio's do), or is of C
        methods = [one for one in vars(cls).values() if inspect.isfunction(one)]
        return frozenset().union(*map(_source_of_method, methods))


def _source_of_method(method: FunctionType) -> frozenset[str]:
    try:
        return _defined(ast.parse(textwrap.dedent(inspect.getsource(method))))
    except OSError:  # it was made at run time
        return frozenset()


def _inherited(cls: type) -> frozenset[str]:
    """The private names that its bases of ours define."""
    names = [_source_of(base) for base in cls.__mro__[1:] if is_ours(base)]
    return frozenset().union(*names)


def _foreign_names(cls: type) -> frozenset[str]:
    """The private names that its bases of other libraries have."""
    bases = [one for one in cls.__mro__ if not is_ours(one) and one is not object]
    names = {name for base in bases for name in (*base.__dict__, *_source_of(base))}
    return frozenset(name for name in names if _is_private(name))


def resolve(name: str) -> Any:
    """What a dotted name leads to. An attribute of instances only is found in its class's source.

    Raises `LookupError` that says where it ends.
    """
    parts = name.split(".")
    found: Any = None
    for number, part in enumerate(parts):
        if found is None or inspect.ismodule(found):
            try:
                found = importlib.import_module(".".join(parts[: number + 1]))
                continue
            except ModuleNotFoundError:
                if found is None:
                    raise LookupError(f"{name}: there is no module {part!r}") from None
        if hasattr(found, part):
            found = getattr(found, part)
        elif isinstance(found, type) and _has_instance_attribute(found, part):
            found = object
        else:
            raise LookupError(f"{name}: {'.'.join(parts[:number])} has no {part!r}")
    return found


def _has_instance_attribute(cls: type, name: str) -> bool:
    return any(name in _source_of(base) for base in cls.__mro__ if base is not object)
