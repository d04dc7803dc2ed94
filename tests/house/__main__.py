"""Counts the house: ``python -m tests.house``, one row of a table for each figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import trio

from trikernel import Kernel
from trikernel.python import PythonKernel
from trikernel.system.private_names import PRIVATE_NAMES

from .foreign import classes, is_ours
from .knots import served_knots
from .one_place import RULES, places
from .path import count_path
from .serving import KERNELS
from .source import MODULES, components, import_graph

LONG = 30  # lines of a function that is counted as long


def source_counts() -> Iterator[tuple[str, object]]:
    """What the files say."""
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for module in MODULES
        for _, node in module.functions()
    ]
    total = sum(module.lines for module in MODULES)
    long = sum(length > LONG for length in lengths)
    words = [len(text.split()) for module in MODULES for text in module.docstrings()]
    comments = sum(module.comment_lines for module in MODULES)
    yield "modules", len(MODULES)
    yield "lines", total
    yield "median module, lines", round(statistics.median(one.lines for one in MODULES))
    yield "largest module, lines", max(module.lines for module in MODULES)
    yield f"functions over {LONG} lines", f"{100 * long / len(lengths):.1f} %"
    yield "longest function, lines", max(lengths)
    yield "largest import cycle, modules", len(components(import_graph())[0])
    yield "comments per 1000 lines", round(1000 * comments / total)
    yield "docstring, median words", round(statistics.median(words))
    yield "private names of other libraries", len(PRIVATE_NAMES)
    for rule in RULES:
        yield f"modules that say {rule.question}", len(places(rule))


def class_counts() -> Iterator[tuple[str, object]]:
    """What the classes say."""
    chains = [
        (sum(is_ours(one) for one in cls.__mro__), source.name)
        for module in MODULES
        for source, cls in classes(module)
        if cls is not None
    ]
    length, name = max(chains)
    yield "longest chain of our own classes", f"{length} ({name})"
    for cls in (Kernel, PythonKernel):
        own = [one for one in cls.__mro__ if is_ours(one)]
        yield f"members of {cls.__name__}", len(members(cls))
        yield f"classes of ours that {cls.__name__} is made of", len(own)


def members(cls: type) -> set[str]:
    """Methods and properties, private ones too, that the classes of ours define."""
    return {
        name
        for base in cls.__mro__
        if is_ours(base)
        for name, value in vars(base).items()
        if callable(value) or isinstance(value, (property, classmethod, staticmethod))
        if not name.startswith("__")
    }


async def served_counts() -> list[tuple[str, object]]:
    """What a served kernel says."""
    rows: list[tuple[str, object]] = []
    for name in KERNELS:
        counted = await count_path(name)
        rows += [
            (f"frames of an execute, {name}", counted.frames),
            (f"functions of an execute, {name}", counted.functions),
            (f"modules of an execute, {name}", len(counted.modules)),
            (f"changes of module of an execute, {name}", counted.changes),
        ]
        for moment in ("idle", "within a cell"):
            sizes = [len(knot) for knot in await served_knots(name, moment != "idle")]
            shown = ", ".join(map(str, [size for size in sizes if size > 1] or [1]))
            rows.append((f"knots of a {name}, {moment}, objects", shown))
    return rows


if __name__ == "__main__":
    table = [*source_counts(), *class_counts(), *trio.run(served_counts)]
    width = max(len(title) for title, _ in table)
    for title, value in table:
        print(f"{title:{width}}  {value}")
