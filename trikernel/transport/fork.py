"""What a forked child must forget: locks that another thread held, sockets, loops.

A child shares the parent's sockets and its epoll. It must never touch them: whoever holds such
things registers here, and lets go of them in the child.
"""

from __future__ import annotations

import os
import sys
import traceback
import weakref
from typing import Protocol

__all__ = ["Generation", "exit_if_forked", "forget_in_child"]


class _Forgets(Protocol):
    def forget(self) -> None:
        """Called in a forked child, before anything else of it runs."""


_holders: weakref.WeakSet[_Forgets] = weakref.WeakSet()


def forget_in_child(holder: _Forgets) -> None:
    """Have ``holder.forget()`` called in every forked child, as long as it lives."""
    _holders.add(holder)


class Generation:
    """How many forks lie between this process and the first one; asking costs no system call."""

    current = 0


def exit_if_forked(generation: int, error: BaseException | None = None) -> None:
    """End this process if it was forked since: a child that ran out of its cell.

    ``generation`` is `Generation.current` of before. The child must not go on into the
    kernel's loop, which is its parent's. An error is written to the real stderr, and makes the
    exit code 1; a `SystemExit` says the code itself.
    """
    if Generation.current == generation:
        return
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.__stderr__)
    elif error is not None:
        traceback.print_exception(error, file=sys.__stderr__)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _forget_everything() -> None:
    Generation.current += 1
    for holder in tuple(_holders):
        holder.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_everything)
