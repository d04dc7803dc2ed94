"""Interrupts that were raised where Python drops every exception, so that nobody has heard of them.

That is: where the interpreter, or an extension in C, has called Python code and has nobody to hand
an error to. In a notebook such code runs all the time: the callbacks of weak references (asyncio
keeps its tasks by them), the warning for a coroutine that was never awaited, finalizers, callbacks
of ctypes and Cython. A frame does not show who has called it; but Python tells `sys.unraisablehook`
what it drops.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Protocol
from weakref import WeakValueDictionary

from trio.lowlevel import enable_ki_protection

from ..errors import CellStopped

__all__ = ["DroppedInterrupts"]

_INTERRUPTS = (KeyboardInterrupt, CellStopped)


class _Listener(Protocol):
    def raise_again(self) -> bool:
        """Called in the thread in which an interrupt was dropped; False if it is not to come again,
        because the listener has raised none there.
        """


class DroppedInterrupts:
    """From `install` to `restore`, the listener of a thread is told of what was dropped there.

    A hook that somebody else sets meanwhile is left alone. Nothing is printed for an interrupt that
    a listener raises again.
    """

    _listeners: ClassVar[WeakValueDictionary[int, _Listener]] = WeakValueDictionary()
    _active: ClassVar[set[DroppedInterrupts]] = set()

    def __init__(self) -> None:
        self._before: Callable[[Any], object] = sys.__unraisablehook__
        self._hook = self._on_unraisable  # one object, which can be recognised

    @classmethod
    def tell(cls, listener: _Listener, thread: int) -> None:
        """Tell ``listener`` of what is dropped in that thread, as long as it lives."""
        cls._listeners[thread] = listener

    @classmethod
    def are_told(cls) -> bool:
        """Whether the hook is set."""
        return bool(cls._active)

    def install(self) -> None:
        """Set the hook."""
        self._active.add(self)
        self._before, sys.unraisablehook = sys.unraisablehook, self._hook

    def restore(self) -> None:
        """Set the hook from before, unless the present one is somebody else's."""
        self._active.discard(self)
        if sys.unraisablehook is self._hook:
            sys.unraisablehook = self._before

    @enable_ki_protection
    def _on_unraisable(self, unraisable: Any) -> None:
        listener = None
        if self in self._active and issubclass(unraisable.exc_type, _INTERRUPTS):
            listener = self._listeners.get(threading.get_ident())
        if listener is None or not listener.raise_again():
            self._before(unraisable)
