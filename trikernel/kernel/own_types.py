"""An author's own message types: a method that is decorated with `message_type` handles the message
type of its name.

A type that is only listed in a class's ``msg_types`` works too. It is queued in the shell lane,
also when it arrives on control.
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
    """Make a method of a `Kernel` subclass the handler of a message type of your own, whose name is
    that of the method.

    ::

        class MyKernel(Kernel):
            @message_type(beside_cells=True)
            def memory_request(self, request):
                return {"status": "ok", "bytes": self.bytes}

    The method may be plain or async. It takes the `Request` and returns the content of the reply;
    a type whose name does not end in ``_request`` gets no reply. Requests are queued behind the
    running cell; one that came on control goes before the cells in the queue. With
    ``beside_cells`` a request that comes on control is handled at once, in a task of its own,
    whatever a cell does. That task is in the service loop, in another thread than the verbs. There
    the method may read and set attributes, send and await. It must not block, nor use objects that
    belong to the other loop (`Kernel.nursery`, events).
    """

    def mark(function: Any) -> Any:
        setattr(function, _MARK, beside_cells)
        return function

    return mark if function is None else mark(function)


def keep_message_types(cls: Any) -> None:
    """Add the decorated methods of a class to the message types that it handles."""
    names = [name for name, value in vars(cls).items() if hasattr(value, _MARK)]
    for kept in ("msg_types", "control_msg_types") if names else ():
        known = getattr(cls, kept)
        setattr(cls, kept, [*known, *(name for name in names if name not in known)])


def declared_row(cls: type, name: str, handler: Any) -> MessageType:
    """The `MessageType` of an author's own type. An override keeps ``beside_cells``."""
    marked = (handler, *(vars(base).get(name) for base in cls.__mro__))
    beside = any(getattr(one, _MARK, False) for one in marked)
    return MessageType(name=name, reply=dict, concurrent=beside, may_wait=beside)
