"""Questions that have one answer, which stands in one module: what gives away another answer.

Each rule looks at the syntax of a module for what nobody writes who asks the one place instead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping

import attrs

from .source import MODULES, Module

__all__ = ["RULES", "Rule", "places"]


@attrs.frozen
class Rule:
    """``found`` says of a node whether it answers the question; ``why`` it is one place's to.

    ``apart_from`` names the layers that ask something else by the same means.
    """

    question: str
    why: str
    found: Callable[[ast.AST], bool]
    apart_from: tuple[str, ...] = ()


def places(rule: Rule) -> Mapping[str, list[str]]:
    """Where a rule finds something: lines with their number, by module."""
    found: dict[str, list[str]] = {}
    for module in MODULES:
        if module.name.split(".")[1:2] and module.name.split(".")[1] in rule.apart_from:
            continue
        lines = sorted(set(_lines(rule, module)))
        if lines:
            text = module.text.splitlines()
            found[module.name] = [f"{line}: {text[line - 1].strip()}" for line in lines]
    return found


def _lines(rule: Rule, module: Module) -> Iterator[int]:
    for node in ast.walk(module.tree):
        if rule.found(node):
            yield getattr(node, "lineno", 1)


def _is_text(node: ast.AST, *values: str) -> bool:
    return isinstance(node, ast.Constant) and node.value in values


def _makes_reply_type(node: ast.AST) -> bool:
    """By the endings of the names: looked for, cut off, put on."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        is_about_text = node.func.attr in ("endswith", "removesuffix", "replace")
        return is_about_text and any(_is_text(one, "_request", "_reply") for one in node.args)
    if isinstance(node, ast.BinOp):
        return _is_text(node.right, "_reply")
    if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
        return _is_text(node.values[-1], "_reply")
    return False


def _makes_topic(node: ast.AST) -> bool:
    """Text that begins with ``kernel.`` and goes on with what is not known yet."""
    if isinstance(node, ast.JoinedStr):
        return bool(node.values) and _begins_topic(node.values[0])
    if isinstance(node, ast.BinOp):
        return _begins_topic(node.left)
    return False


def _begins_topic(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        return isinstance(value, str) and value.startswith("kernel.")
    return False


def _calls_other_loop(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "run_sync_soon"


def _asks_whose_code(node: ast.AST) -> bool:
    """By the name of its module, by its file, or by whether a method is the one of the base."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "startswith":
            return any(_names_package(part) for one in node.args for part in ast.walk(one))
        if node.func.attr == "getattr_static":
            return True
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(one, (ast.Is, ast.IsNot)) for one in node.ops):
            return any(_is_attribute_of_type(side) for side in sides)
        return any(_is_package(side) for side in sides)
    return False


def _names_package(node: ast.AST) -> bool:
    """The package's name or folder, as text or by a name that says so."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.startswith("trikernel")
    if isinstance(node, ast.Name):
        return node.id in ("_OURS", "_MACHINERY", "_PACKAGE", "_ROOT", "__package__")
    return False


def _is_package(node: ast.AST) -> bool:
    return _is_text(node, "trikernel")


def _is_attribute_of_type(node: ast.AST) -> bool:
    """``type(x).name``, or ``x.name.__func__``."""
    if not isinstance(node, ast.Attribute):
        return False
    if node.attr == "__func__":
        return True
    call = node.value
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "type"


def _publishes_state(node: ast.AST) -> bool:
    """A call that is told ``busy`` or ``idle``; who compares with them only reads."""
    if not isinstance(node, ast.Call):
        return False
    values = [*node.args, *(one.value for one in node.keywords)]
    return any(_is_text(one, "busy", "idle") for one in values)


RULES = (
    Rule(
        "which type has the reply to a request",
        "the message table knows; a type that it does not know follows the same rule",
        _makes_reply_type,
        apart_from=("conformance",),  # which checks kernels, and takes no kernel's word for it
    ),
    Rule(
        "under which topic a message goes out",
        "frontends subscribe to what they were told: a topic in two spellings is lost output",
        _makes_topic,
    ),
    Rule(
        "how a function gets called in another loop",
        "run_sync_soon raises when that loop has ended, and everybody has to think of that",
        _calls_other_loop,
    ),
    Rule(
        "is this the author's code, or ours",
        "protection, tracebacks and hooks depend on it: two answers, and one of them is wrong",
        _asks_whose_code,
        apart_from=("testing", "cli"),  # which ask whether a test imports the kit
    ),
    Rule(
        "when a kernel says that it is busy and idle",
        "exactly one of each for a request, whatever happens: only one place can see to that",
        _publishes_state,
        apart_from=("client", "conformance"),  # which hear it
    ),
)
