"""Who holds whom among our own objects, as the garbage collector sees it.

A *knot* is a strongly connected component of instances of classes that trikernel defines (a
subclass of one counts: an author's kernel is ours too). In a tree of owners each knot is a single
object. An edge goes from one instance to another that it holds: as an attribute or slot, in a
container, or by something that can be called: a bound method, a partial, a function's closure and
defaults. So a callback counts, whatever it is called.

What is no edge:

- weak references: who holds one owns nothing, and survives what it points to;
- modules, classes, a function's globals: everybody may know these;
- frames, coroutines, generators, tracebacks: they end, and hold what a call uses while it runs;
- Trio's objects (tasks, nurseries, cancel scopes, events, locks, tokens): they are the loop's, and
  through a task they lead to everything;
- objects of other libraries, beyond the first: one of ours that holds a `threading.Thread`, which
  holds a bound method of ours, does hold that; the same for an ``EventManager`` of IPython's with
  our hooks in it, or a logger with a handler of ours. But from there it goes no further into the
  library: nearly every object of IPython's knows its shell, which is ours by its subclass, and
  how IPython's parts know each other is not for us to cut. What IPython's base classes hold in
  *our* instances (``shell`` and ``parent`` of our display hook, say) counts: we chose to inherit.
"""

from __future__ import annotations

import functools
import gc
import types
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from .serving import open_served
from .source import OURS, components

__all__ = ["Knot", "knots", "served_knots"]

_CALLABLES = (types.FunctionType, types.MethodType, functools.partial, types.BuiltinMethodType)
_NEVER = (
    type,
    types.ModuleType,
    types.FrameType,
    types.CodeType,
    types.CoroutineType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    types.TracebackType,
    weakref.ref,
    weakref.WeakSet,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
)
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
_NOT_THROUGH = ("trio", "outcome", "zmq")


@attrs.frozen
class Knot:
    """Objects that all hold each other. ``edges`` are those within it, each with its place."""

    members: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]

    def __len__(self) -> int:
        return len(self.members)

    def __str__(self) -> str:
        counted = Counter(self.members)
        names = ", ".join(
            f"{times} x {name}" if times > 1 else name for name, times in sorted(counted.items())
        )
        lines = [f"{len(self)} objects hold each other: {names}"]
        edges = Counter(self.edges)
        width = max((len(f"{one}.{place}") for one, place, _ in edges), default=0)
        for (holder, place, held), times in sorted(edges.items()):
            often = f"  ({times} times)" if times > 1 else ""
            lines.append(f"  {f'{holder}.{place}':{width}}  ->  {held}{often}")
        return "\n".join(lines)


def knots(roots: Iterable[object]) -> list[Knot]:
    """The knots among our objects that can be reached from ``roots``, the largest first."""
    gc.collect()
    found: dict[int, Any] = {}  # kept alive by this, so that no id is used twice
    edges: dict[int, dict[int, str]] = {}
    waiting = [root for root in roots if _is_ours(root)]
    while waiting:
        node = waiting.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        edges[id(node)] = {}
        for place, target in _held(node):
            edges[id(node)].setdefault(id(target), place)
            waiting.append(target)
    graph = {str(node): [str(target) for target in targets] for node, targets in edges.items()}
    return [_knot([int(name) for name in names], found, edges) for names in components(graph)]


async def served_knots(name: str, within_cell: bool = False) -> list[Knot]:
    """The knots of a kernel that is served in memory and has run a cell, or is within one."""
    async with open_served(name) as served:
        await served.execute()
        if within_cell:
            await served.begin_pause()
        return knots([served.kernel, served.server, served.transport, served.client])


def _knot(
    names: list[int], found: Mapping[int, Any], edges: Mapping[int, Mapping[int, str]]
) -> Knot:
    within = set(names)
    return Knot(
        tuple(_name(found[name]) for name in names),
        tuple(
            (_name(found[name]), place, _name(found[target]))
            for name in names
            for target, place in edges[name].items()
            if target in within and target != name
        ),
    )


def _name(instance: object) -> str:
    return type(instance).__qualname__


def _is_ours(value: object) -> bool:
    if isinstance(value, type):
        return False
    return any(cls.__module__.partition(".")[0] in OURS for cls in type(value).__mro__)


def _held(node: Any) -> Iterator[tuple[str, Any]]:
    """The objects of ours that this one holds, each with the place where it does."""
    seen = {id(node)}
    waiting = [(place, value, False) for place, value in _attributes(node)]
    while waiting:
        place, value, within_foreign = waiting.pop()
        if id(value) in seen or isinstance(value, (*_PLAIN, *_NEVER)):
            continue
        seen.add(id(value))
        if _is_ours(value):
            yield place, value
        elif isinstance(value, _CALLABLES) or _is_container(value):
            waiting += [(f"{place}{how}", one, within_foreign) for how, one in _parts(value)]
        elif not within_foreign and _root_module(value) not in _NOT_THROUGH:
            label = f"{place}<{type(value).__name__}>"
            waiting += [(f"{label}.{how}", one, True) for how, one in _attributes(value)]


def _attributes(node: object) -> Iterator[tuple[str, object]]:
    """What an instance holds: its attributes and slots by name, and whatever else it refers to."""
    named: set[int] = set()
    for cls in type(node).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{cls.__name__.lstrip('_')}{slot}" if slot.startswith("__") else slot
            descriptor = cls.__dict__.get(name)
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    value = descriptor.__get__(node)
                except AttributeError:  # not set
                    continue
                named.add(id(value))
                yield slot, value
    own = getattr(node, "__dict__", None)
    if isinstance(own, dict):
        named.add(id(own))
        for name, value in own.items():
            named.add(id(value))
            yield str(name), value
    for value in gc.get_referents(node):
        if id(value) not in named:
            yield "*", value


def _is_container(value: object) -> bool:
    """Containers of the language and of the standard library, a context's insides among them."""
    if isinstance(value, (dict, list, tuple, set, frozenset, types.CellType)):
        return _root_module(value) in ("builtins", "collections")
    return type(value).__name__ in ("Context", "hamt", "hamt_bitmap_node", "hamt_array_node",
                                    "hamt_collision_node", "deque", "mappingproxy", "staticmethod",
                                    "dict_items", "count", "lru_cache_wrapper")  # fmt: skip


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, types.FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            yield f"<closure {value.__name__}: {name}>", cell
        for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            yield f"<default of {value.__name__}>", default
        if "__wrapped__" in value.__dict__:
            yield "<wrapped>", value.__dict__["__wrapped__"]
    elif isinstance(value, types.MethodType):
        yield f"<method {value.__func__.__name__}>", value.__self__
        yield "", value.__func__
    elif isinstance(value, functools.partial):
        yield "<partial>", value.func
        for one in (*value.args, *value.keywords.values()):
            yield "<argument of a partial>", one
    elif isinstance(value, types.BuiltinMethodType):
        yield f"<method {value.__name__}>", value.__self__
    elif isinstance(value, dict):
        for key, one in tuple(value.items()):
            yield f"[{key!r}]" if isinstance(key, str) else "[...]", one
            yield "[a key]", key
    elif isinstance(value, types.CellType):
        for one in gc.get_referents(value):
            yield "", one
    else:
        for one in gc.get_referents(value):
            yield "[...]", one


def _root_module(value: object) -> str:
    return type(value).__module__.partition(".")[0]
