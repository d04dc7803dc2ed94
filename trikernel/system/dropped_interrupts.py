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


class _Listener(Protocol):
    def interrupt(self) -> None:
        """Called in the thread in which an interrupt was dropped."""


class DroppedInterrupts:
    """From `install` to `restore`, the listener of a thread is told of what was dropped there.

    A hook that somebody else sets meanwhile is left alone. Nothing is printed for an interrupt that
    a listener was told of.
    """

    _listeners: ClassVar[WeakValueDictionary[int, _Listener]] = WeakValueDictionary()

    def __init__(self) -> None:
        self._before: Callable[[Any], object] | None = None
        self._hook = self._on_unraisable  # one object, which can be recognised

    @classmethod
    def tell(cls, listener: _Listener, thread: int) -> None:
        """Have ``listener.interrupt()`` called for that thread, as long as the listener lives."""
        cls._listeners[thread] = listener

    def install(self) -> None:
        """Set the hook."""
        self._before, sys.unraisablehook = sys.unraisablehook, self._hook

    def restore(self) -> None:
        """Set the hook from before, unless the present one is somebody else's."""
        if self._before is not None and sys.unraisablehook is self._hook:
            sys.unraisablehook = self._before

    @enable_ki_protection
    def _on_unraisable(self, unraisable: Any) -> None:
        listener = None
        if issubclass(unraisable.exc_type, (KeyboardInterrupt, CellStopped)):
            listener = self._listeners.get(threading.get_ident())
        if listener is not None:
            listener.interrupt()
        elif self._before is not None:
            self._before(unraisable)
