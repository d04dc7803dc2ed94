"""Adapts an author's traitlets kernel to a kernel of this package.

In this package "the author" is the kernel object whose class was written for ipykernel. For each
such class an adapter class of the same name is made, a subclass of `trikernel.Kernel` or
`PythonKernel`. The adapter is what is served. It calls the methods that the author's class
overrides, and no others; everything else is done as in any kernel of this package. The author
object owns its adapter, which refers to it weakly.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core import current_request
from ..kernel import ChannelHandle, Kernel, built_in, settings_of
from ..kernel.application import FACTS
from ..kernel.handlers import accepted, is_built_in
from ..wire import REQUESTS, reply_type

if TYPE_CHECKING:
    from ..loops import GuestLoop

__all__ = ["Held", "delegated", "describe", "loop_of", "make_adapter"]

_TOLD = (*FACTS, "kernel_info")
"""Attributes in which an author's class describes its kernel; they are read when needed."""

_VERBS = (
    "do_execute",
    "do_complete",
    "do_inspect",
    "do_history",
    "do_is_complete",
    "do_shutdown",
    "do_apply",
    "do_clear",
)

_CALLED = (
    *_VERBS,
    "start",
    "started",
    "init_metadata",
    "finish_metadata",
    "should_handle",
    "pre_handler_hook",
    "post_handler_hook",
    "show_error",
    "raw_input",
    "getpass",
    *REQUESTS,
)
"""Methods that the adapter calls on the author, if the author's class overrides them.

`send_response` is not among them: ipykernel does not send its own messages through it either.
"""


class _Handlers(dict[str, Any]):
    """Handlers by message type. Handlers that an author's code adds may await asyncio."""

    def __init__(self, adapter: Any, built_in: dict[str, Any]) -> None:
        super().__init__(built_in)
        self._find = weakref.ref(adapter)

    def __setitem__(self, msg_type: str, handler: Any) -> None:
        if callable(handler) and not isinstance(handler, functools.partial):
            handler = self._awaiting(handler)
        super().__setitem__(msg_type, handler)

    def _awaiting(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def call(*args: Any) -> Any:
            return awaited(self._find(), handler(*args))

        return call


def make_adapter(author: Any, base: Any) -> Any:
    """Create the adapter, a subclass of ``base``, for an author.

    Raises `KernelClassError` and `SettingError`, as any kernel of this package does.
    """
    cls: Any = type(author)
    adapter = _adapter_class(cls, base)()
    adapter.find_author = weakref.ref(author)
    adapter.guest_loop = None
    adapter.sender.is_strict = False  # displays are sent unchecked, as ipykernel does
    for name in ("shell_handlers", "control_handlers"):
        setattr(adapter, name, _Handlers(adapter, getattr(adapter, name)))
    return adapter


@functools.cache
def _adapter_class(cls: Any, base: Any) -> Any:
    space: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    space |= {name: _read(name) for name in _TOLD if not isinstance(getattr(cls, name), Held)}
    for name in _CALLED:
        function = getattr(cls, name)
        if not is_built_in(function):
            space[name] = _call(name, function)
    if not is_built_in(cls.set_parent):
        space["should_handle"] = _with_parent(cls.should_handle, cls.set_parent)
    space["start"] = _start
    for name in settings_of(base):
        value = getattr(cls, name)
        if not hasattr(value, "__get__"):  # a plain value, not a trait: the author's default
            space[name] = value
    for table in ("msg_types", "control_msg_types"):
        space[table] = names = list(getattr(cls, table))
        space |= {n: _call(n, getattr(cls, n)) for n in names if n not in REQUESTS}
    return type(base)(cls.__name__, (base,), space)


def _read(name: str) -> Any:
    """A property that reads a fact of the author. If that raises, a warning is logged and it is the
    default of any kernel, because clients wait for the reply with these facts.
    """

    def read(adapter: Any) -> Any:
        try:
            return getattr(adapter.find_author(), name)
        except Exception as error:
            text = f"{type(adapter).__name__}.{name} cannot be told: {describe(error)}"
            adapter.log.warning(text, exc_info=error if adapter.log.isEnabledFor(10) else None)
            return getattr(super(type(adapter), adapter), name)

    return property(read)


def describe(error: BaseException) -> str:
    """An exception in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _call(name: str, function: Callable[..., Any]) -> Any:
    is_step = name in _VERBS or name not in _CALLED or name in REQUESTS

    @functools.wraps(function)
    def call(adapter: Any, *args: Any, **options: Any) -> Any:
        own = getattr(adapter.find_author(), name)
        loop = adapter.guest_loop
        if is_step and loop is not None and loop.is_here:
            return awaited(adapter, loop.call_in_step(own, *args, **options))
        return awaited(adapter, own(*args, **options))

    return call


def _with_parent(function: Callable[..., Any], set_parent: Callable[..., Any]) -> Any:
    """A `should_handle` for a class that overrides `set_parent`: calls that first."""

    @functools.wraps(function)
    def should_handle(adapter: Any, stream: Any, msg: Any, idents: Any) -> Any:
        author = adapter.find_author()
        options = accepted(set_parent, {"channel": stream.name})
        author.set_parent(idents, msg, **options)
        return awaited(adapter, author.should_handle(stream, msg, idents))

    return should_handle


def _start(adapter: Any) -> Any:
    """Make the asyncio loop before the author's `start`, because other threads may use it."""
    loop_of(adapter).keep_turning()
    return awaited(adapter, adapter.find_author().start())


def awaited(adapter: Any, result: Any) -> Any:
    """What an author's function has returned; an awaitable is run in the asyncio loop, so that it
    may await asyncio and Trio.
    """
    if inspect.isawaitable(result):
        from ..loops import TrioAwaitable

        if not isinstance(result, TrioAwaitable):
            return loop_of(adapter).run(result)
    return result


def loop_of(adapter: Any) -> GuestLoop:
    """The kernel's asyncio loop, which is made when it is first needed. To be called in the user
    loop.

    Raises `TrikernelError` while the kernel is not served.
    """
    loop: GuestLoop | None = adapter.guest_loop
    if loop is None or not loop.is_here:
        import asyncio

        from ..loops import GuestLoop

        server = adapter.server
        find = weakref.ref(adapter)

        def start_call(function: Any) -> None:
            kernel = find()
            if kernel is not None:
                kernel.nursery.start_soon(function)

        start = functools.partial(server.background.start_soon, name="the asyncio loop")
        if loop is None or loop.is_bound or loop.is_closed():
            adapter.guest_loop = loop = GuestLoop()
        loop.bind(start, start_call)
        server.application.at_end.callback(loop.end)
        if adapter.owns_process:
            asyncio.set_event_loop(loop)
            if hasattr(adapter, "shell"):  # asyncio.run in a cell unsets the current loop
                adapter.shell.events.register("post_execute", loop.be_current)
    return loop


# Attributes and methods for the author's class that use the adapter


class Held:
    """An attribute that is read and set on the adapter. If the adapter does not allow it to be set,
    the value is kept by the author.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, author: Any, owner: type) -> Any:
        if author is None:
            return self
        own, adapter = vars(author), author.trikernel_adapter
        if self.name in own:
            return own[self.name]
        if self.name in _TOLD:  # the author's property has called `super()`: avoid a recursion
            return getattr(super(type(adapter), adapter), self.name)
        return getattr(adapter, self.name)

    def __set__(self, author: Any, value: Any) -> None:
        try:
            setattr(author.trikernel_adapter, self.name, value)
        except AttributeError:
            vars(author)[self.name] = value


def delegated(name: str) -> Any:
    """A method for the author's base class that calls the adapter's own method. It is called by
    `super()`, or if the author's class does not override it.

    What it returns may be awaited by asyncio tasks, too.
    """
    if name in REQUESTS:
        return _delegated_handler(name)

    def method(author: Any, *args: Any, **options: Any) -> Any:
        adapter = author.trikernel_adapter
        if name == "send_response" and not adapter.sender.is_connected:
            return _send_unserved(author, *args, **options)
        result = getattr(super(type(adapter), adapter), name)(*args, **options)
        return _for_author(result)

    return built_in(functools.update_wrapper(method, getattr(Kernel, name)))


def _send_unserved(author: Any, stream: Any, *args: Any, **options: Any) -> None:
    """`send_response` before the kernel is served: the message is only logged, unless it goes to a
    socket of the author's own.
    """
    if isinstance(stream, ChannelHandle):
        author.log.info("%s sends before it is served: %.200r", type(author).__name__, args)
    else:
        author.session.send(stream, *args, **options)


def _delegated_handler(name: str) -> Any:
    """A handler that can be called as ours (with the request) or as ipykernel's (with stream, ident
    and message): then it sends the reply itself.
    """

    def method(author: Any, *args: Any) -> Any:
        adapter = author.trikernel_adapter
        handler = getattr(super(type(adapter), adapter), name)
        if len(args) == 1:
            return _for_author(handler(*args))
        return _for_author(_handle(adapter, handler, args[0]))

    method.__name__ = name
    method.__doc__ = getattr(Kernel, name).__doc__
    return built_in(method)


async def _handle(adapter: Any, handler: Any, stream: Any) -> None:
    request = current_request.get()
    reply = await handler(request)
    if request is None or reply is None or not request.wants_reply:
        return
    content = getattr(reply, "content", reply)
    adapter.send_response(
        stream if isinstance(stream, ChannelHandle) else adapter.shell_stream,
        reply_type(request.msg_type),
        content,
        metadata=getattr(reply, "metadata", None),
    )


def _for_author(result: Any) -> Any:
    if inspect.iscoroutine(result):
        from ..loops import TrioAwaitable

        return TrioAwaitable(result)
    return result
