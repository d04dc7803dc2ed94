"""Calls an author's hooks, plain or async, and names the hook in an error that it raises."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from ..core import is_cancel, run_unprotected
from .served import ServedKernel

__all__ = ["is_of_hook", "name_of", "run_hook", "run_protected_hook", "telling_if_it_lasts"]

LONG = 10  # seconds after which a hook that clients wait for is mentioned in the log


def name_of(kernel: object, member: str) -> str:
    """The name of a member with its class, such as ``NodeKernel.do_complete``."""
    return f"{type(kernel).__name__}.{member}"


async def run_hook(kernel: ServedKernel, name: str, *args: Any) -> Any:
    """Call a hook, which may be async, as the author's code, in which `KeyboardInterrupt` may be
    raised. Returns what it returns.

    What it raises passes through, with a note that names the hook.
    """
    try:
        return await run_unprotected(getattr(kernel, name), *args)
    except BaseException as raised:
        _note(kernel, name, raised)
        raise


async def run_protected_hook(kernel: ServedKernel, name: str) -> None:
    """As `run_hook`, but protected: no `KeyboardInterrupt` is raised in the hook."""
    try:
        result = getattr(kernel, name)()
        if inspect.isawaitable(result):
            await result
    except BaseException as raised:
        _note(kernel, name, raised)
        raise


@contextmanager
def telling_if_it_lasts(kernel: ServedKernel, name: str, nursery: trio.Nursery) -> Iterator[None]:
    """Log a warning if a hook of the start, in the block, takes longer than `LONG` seconds: clients
    get no answer before it returns, and no message says why.
    """
    scope = trio.CancelScope()

    async def tell() -> None:
        with scope:
            await trio.sleep(LONG)
            text = "%s has not returned for %d seconds: nothing is answered before it has"
            kernel.log.warning(text, name_of(kernel, name), LONG)

    nursery.start_soon(tell, name=f"{name} watch")
    try:
        yield
    finally:
        scope.cancel()


def is_of_hook(kernel: ServedKernel, names: Sequence[str], raised: BaseException) -> bool:
    """Whether one of these hooks has raised the exception, according to its notes."""
    notes = getattr(raised, "__notes__", ())
    return any(_note_of(kernel, name) in notes for name in names)


def _note(kernel: ServedKernel, name: str, raised: BaseException) -> None:
    if not is_cancel(raised):
        raised.add_note(_note_of(kernel, name))


def _note_of(kernel: ServedKernel, name: str) -> str:
    return f"in {name_of(kernel, name)}"
