"""A class about 20 methods and one level of our own inheritance; a module one subject."""

from __future__ import annotations

import pytest

from .foreign import classes, is_ours
from .source import MODULES, ClassSource

INHERITANCE = 3  # classes of ours in a class's MRO, itself among them
METHODS = 22  # that a class defines, beside those that override another library's

FUNCTION = 45  # lines, from `def` to the end
MODULE = 500  # lines


def own_methods(source: ClassSource, cls: type | None) -> frozenset[str]:
    """The methods that a class defines of its own accord: not to override a foreign base's."""
    if cls is None:
        return source.methods
    foreign = [base for base in cls.__mro__ if not is_ours(base) and base is not object]
    return source.methods - {name for base in foreign for name in base.__dict__}


def fail_if(found: list[tuple[int, str]], what: str) -> None:
    if found:
        lines = [f"  {size:4}  {text}" for size, text in sorted(found, reverse=True)]
        pytest.fail("\n".join([f"{what}:", *lines]), pytrace=False)


def test_classes_inherit_little() -> None:
    found = []
    for module in MODULES:
        for source, cls in classes(module):
            chain = [one.__qualname__ for one in cls.__mro__ if is_ours(one)] if cls else []
            if len(chain) > INHERITANCE:
                found.append((len(chain), f"{module.name}.{source.name}: {' < '.join(chain)}"))
    fail_if(found, f"more than {INHERITANCE} classes of ours in an MRO")


def test_classes_have_few_methods() -> None:
    found = []
    for module in MODULES:
        for source, cls in classes(module):
            methods = sorted(own_methods(source, cls))
            if len(methods) > METHODS:
                found.append((len(methods), f"{module.name}.{source.name}: {', '.join(methods)}"))
    fail_if(found, f"more than {METHODS} methods in a class")


def test_functions_are_short() -> None:
    found = []
    for module in MODULES:
        for name, node in module.functions():
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION:
                found.append((lines, f"{module.name}.{name} at line {node.lineno}"))
    fail_if(found, f"functions of more than {FUNCTION} lines")


def test_modules_are_short() -> None:
    found = [(module.lines, module.name) for module in MODULES if module.lines > MODULE]
    fail_if(found, f"modules of more than {MODULE} lines")
