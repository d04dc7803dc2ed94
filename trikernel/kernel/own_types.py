"""Message types of an author's own: a method, marked by `message_type`, is the handler of its name.

A type in a class's ``msg_types`` without the mark works too; it waits for its turn on the shell
lane, also when it arrives on control.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..wire import MessageType

__all__ = ["declared_row", "keep_message_types", "message_type"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "_trikernel_message_type"


@overload
def message_type(function: F, /) -> F: ...
@overload
def message_type(*, beside_cells: bool = False) -> Callable[[F], F]: ...
def message_type(function: Any = None, /, *, beside_cells: bool = False) -> Any:
    """Make a method of a `Kernel` subclass the handler of a message type of your own, its name.

    ::

        class MyKernel(Kernel):
            @message_type(beside_cells=True)
            def memory_request(self, request):
                return {"status": "ok", "bytes": self.bytes}

    The method may be plain or async. It takes the `Request` and returns the content of the reply;
    a type whose name does not end in ``_request`` gets no reply. It is handled in its turn, after
    the running cell and before those that wait if it came on control. ``beside_cells``: if it
    comes on control it is handled at once, in a task of its own, whatever a cell does. It runs in
    the service loop then, in another thread than verbs: it may read and set attributes, send and
    await, and must not block, nor use what belongs to the other loop (`Kernel.nursery`, events).
    """

    def mark(function: Any) -> Any:
        setattr(function, _MARK, beside_cells)
        return function

    return mark if function is None else mark(function)


def keep_message_types(cls: Any) -> None:
    """Add the marked methods of a class to the types that it handles."""
    names = [name for name, value in vars(cls).items() if hasattr(value, _MARK)]
    for kept in ("msg_types", "control_msg_types") if names else ():
        known = getattr(cls, kept)
        setattr(cls, kept, [*known, *(name for name in names if name not in known)])


def declared_row(cls: type, name: str, handler: Any) -> MessageType:
    """The row of a type of an author's own; what a subclass replaces keeps its mark."""
    marked = (handler, *(vars(base).get(name) for base in cls.__mro__))
    beside = any(getattr(one, _MARK, False) for one in marked)
    return MessageType(name=name, reply=dict, concurrent=beside, may_wait=beside)
