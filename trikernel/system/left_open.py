"""Cancel scopes and nurseries that the user's code has entered and not left.

What is wanted. In a notebook people call ``await trio.open_nursery().__aenter__()`` or
``scope.__enter__()``, and go on in the next cell. For Trio the task that ran the cell then stands
inside that scope for good: the scopes around it cannot be left any more ("cancel scope stack
corrupted"), and when the task ends, its nursery fails too. The task has to get back to where it
was before the user's code, and the person has to read what stayed open.

What does not work. Leaving our own scope only makes Trio mark the inner ones as abandoned: their
tasks are cancelled, but nobody waits for them, and the task ends with an error of its own. A new
task for each cell moves that error somewhere else. There is no public way to ask which scopes a
task is in.

What is done. From the innermost one outwards each scope is left as its ``with`` block would have
left it: a nursery is cancelled and its tasks are waited for. Where a generator stands in the
middle of the block, the generator is closed, so that its ``finally`` blocks run first.

What remains. It reads private names of Trio, listed in `PRIVATE_NAMES`. Under a Trio without them
nothing is found, and Trio's own errors come. A child task that shields itself is waited for, as at
the end of any nursery.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from types import AsyncGeneratorType, GeneratorType, MethodType
from typing import Any

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from . import private_names

__all__ = ["PRIVATE_NAMES", "LeftOpen", "close_what_was_left_open", "is_anything_left_open"]

PRIVATE_NAMES = {row.name: row.why for row in private_names.PRIVATE_NAMES if __name__ in row.where}
"""The private names of Trio that are used here, and what for."""


@attrs.frozen
class LeftOpen:
    """One thing that was left open and is closed now.

    ``kind`` is ``"nursery"`` or ``"cancel scope"``. ``tasks`` is how many tasks a nursery had.
    ``error`` is what was raised as it was closed, by those tasks for example.
    """

    kind: str
    tasks: int = 0
    error: BaseException | None = None


def is_anything_left_open(scope: trio.CancelScope) -> bool:
    """Whether this task is inside of a scope or nursery that was entered inside of ``scope``."""
    if not _names_exist():
        return False
    task: Any = trio.lowlevel.current_task()
    ours: Any = scope._cancel_status
    if ours is None or not ours.encloses(task._cancel_status):
        return False
    return task._cancel_status is not ours or bool(
        task._child_nurseries and _is_inside(task._child_nurseries[-1], ours)
    )


@enable_ki_protection
async def close_what_was_left_open(scope: trio.CancelScope) -> list[LeftOpen]:
    """Leave all scopes that this task has entered inside of ``scope``, the innermost one first.
    Returns what was left, in that order.

    Call it inside of ``with scope:``, after the user's code has returned or raised. Nurseries are
    cancelled, and their tasks waited for. Raises nothing: what is raised meanwhile is in the
    result. A cancel of ``scope``, or from outside, comes again at the caller's next checkpoint. A
    `trio.Cancelled` that the user's code has ended with may be one of a scope that is left here.
    """
    closed = []
    while is_anything_left_open(scope):
        task, ours = _task(), scope._cancel_status
        if task._cancel_status is not ours:
            closed.append(await _leave(task._cancel_status._scope))
        else:  # a nursery whose scope was left, but whose tasks were not waited for
            closed.append(await _leave(task._child_nurseries[-1].cancel_scope))
    return closed


async def _leave(scope: Any) -> LeftOpen:
    """Leave ``scope``, the innermost one of this task: by closing the generator that is inside of
    it, by the end of its nursery, or else by the scope itself.
    """
    holders = list(_holders(scope))
    nursery = next((one for one in holders if isinstance(one, trio.Nursery)), None)
    kind, tasks = "cancel scope", 0
    if nursery is not None:
        kind, tasks = "nursery", len(nursery.child_tasks)
        scope.cancel()
    errors = [await _close_generator(one) for one in holders if isinstance(one, _GENERATORS)]
    if nursery is not None and nursery in _task()._child_nurseries:
        errors.append(await _close_nursery(nursery))
    if scope._cancel_status is not None:
        errors.append(_close_scope(scope, None))
    error = next((one for one in errors if one is not None), None)
    return LeftOpen(kind, tasks, error)


_GENERATORS = (AsyncGeneratorType, GeneratorType)


async def _close_generator(generator: Any) -> BaseException | None:
    """Close a generator that stands in the middle of the block; returns what it raised."""
    try:
        if isinstance(generator, AsyncGeneratorType):
            await generator.aclose()
        else:
            generator.close()
    # A `trio.Cancelled` belongs to a scope that is left here, or comes again at a later checkpoint.
    except BaseException as raised:
        return _without_closing(raised)
    return None


async def _close_nursery(nursery: Any) -> BaseException | None:
    """Wait for the tasks of a cancelled nursery, and leave it; returns what its tasks raised."""
    nurseries = _task()._child_nurseries
    nurseries.remove(nursery)  # Trio removes the last one, and asserts that it is this nursery
    nurseries.append(nursery)
    error: BaseException | None = None
    try:
        error = await nursery._nested_child_finished(None)
    # `_close_scope` removes the nursery's own cancel; one of an outer scope comes again.
    except BaseException as raised:
        error = raised
    if nursery in nurseries:
        nurseries.remove(nursery)
    # If somebody calls its __aexit__ later, Trio would remove another nursery in place of this one.
    nursery._nested_child_finished = _finished_already
    return _close_scope(nursery.cancel_scope, error)


async def _finished_already(raised: BaseException | None) -> BaseException | None:
    return raised


def _close_scope(scope: Any, error: BaseException | None) -> BaseException | None:
    if scope._cancel_status is None:
        return _without_closing(error)
    return _without_closing(scope._close(error))


def _without_closing(error: BaseException | None) -> BaseException | None:
    """The error without `trio.Cancelled` and `GeneratorExit`, which only say that it was closed."""
    closing = (trio.Cancelled, GeneratorExit)
    if isinstance(error, BaseExceptionGroup):
        return error.split(closing)[1]
    return None if isinstance(error, closing) else error


def _holders(scope: trio.CancelScope) -> Iterator[Any]:
    """The nursery of ``scope``, and the generators that stand in the middle of its ``with`` block.

    Looks only at the types of all objects: asked for an attribute, proxies of other libraries
    would run code.
    """
    everything = gc.get_objects()
    managers = [one for one in everything if _is_nursery_manager(type(one))]
    blocks = [scope, *(one for one in managers if any(own is scope for own in vars(one).values()))]
    for one in everything:
        if type(one) is trio.Nursery:
            if one.cancel_scope is scope:
                yield one
        elif type(one) in _GENERATORS and _is_suspended(one):
            held = gc.get_referents(one)
            if any(_is_in_block(held, block) for block in blocks):
                yield one


def _is_nursery_manager(cls: type) -> bool:
    """Whether it is Trio's, which has no public name, with attributes that can be listed."""
    is_trios = cls.__name__ == "NurseryManager" and cls.__module__.startswith("trio.")
    return is_trios and cls.__dictoffset__ != 0


def _is_in_block(held: list[Any], manager: Any) -> bool:
    """Whether a generator that refers to ``held`` stands in a ``with`` block of ``manager``.

    It then refers to what ends the block: the bound method ``__exit__`` or ``__aexit__``, from
    Python 3.14 on the function and the manager.
    """
    ends = [getattr(type(manager), name, None) for name in ("__exit__", "__aexit__")]
    for one in held:
        if type(one) is MethodType and one.__self__ is manager and one.__func__ in ends:
            return True
    return any(one is manager for one in held) and any(
        one is end for one in held for end in ends if end is not None
    )


def _is_suspended(generator: Any) -> bool:
    if isinstance(generator, AsyncGeneratorType):
        return not generator.ag_running and generator.ag_frame is not None
    return bool(generator.gi_suspended)


def _is_inside(nursery: Any, ours: Any) -> bool:
    """Whether a nursery of this task was opened inside of our scope."""
    status = nursery.cancel_scope._cancel_status
    return status is None or not status.encloses(ours)


def _task() -> Any:
    return trio.lowlevel.current_task()


@cache
def _names_exist() -> bool:
    """Whether this Trio has all of `PRIVATE_NAMES`."""
    import trio._core._run as run

    try:
        for name in PRIVATE_NAMES:
            attrgetter(name.removeprefix(run.__name__ + "."))(run)
    except AttributeError:
        return False
    return True
