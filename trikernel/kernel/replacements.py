"""Replaces objects of the process while kernels are served, and puts the originals back.

`Replacements` replaces an attribute, a key, or the code of a function, and puts the original back.
`Served` does that for as long as at least one kernel of a kind is served, and tells the functions
that are put in place which kernel the calling code runs for. The originals are put back when the
last of these kernels ends, whatever the order in which kernels end. If other code has replaced an
object again meanwhile, that stays. This module does not know what is replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from contextvars import ContextVar
from types import FunctionType
from typing import Any

from ..core import current_request
from ..system import on_fork

__all__ = ["Replacements", "Served", "current_kernel"]

_MISSING: Any = object()

current_kernel: ContextVar[Callable[[], Any]] = ContextVar("current_kernel", default=lambda: None)
"""A weak reference to the kernel whose task this is, whether the task belongs to a request or not.
"""


class Replacements:
    """Attributes and keys that are replaced, until `undo` puts them back, the last one first."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def replace(self, owner: Any, name: str, value: Any) -> Any:
        """Set an attribute or key; returns what was there before. `undo` puts that back, unless
        other code has replaced ``value`` meanwhile.
        """
        before = _get(owner, name)

        def put_back() -> None:
            if _get(owner, name) is value:
                _put(owner, name, before)

        self._undo.callback(put_back)
        _put(owner, name, value)
        return before

    def replace_code(self, function: FunctionType, replacement: FunctionType) -> FunctionType:
        """Give ``function`` the code of ``replacement``: the object stays the same, so this also
        affects code that has imported it.

        The code runs with the globals of ``function``. Returns a function that does what
        ``function`` did before.
        """
        before, code = function.__code__, replacement.__code__
        original = FunctionType(
            before, function.__globals__, function.__name__, function.__defaults__
        )
        original.__kwdefaults__ = function.__kwdefaults__
        signature = inspect.signature(function)

        def put_back() -> None:
            if function.__code__ is code:
                function.__code__ = before
                del vars(function)["__signature__"]

        self._undo.callback(put_back)
        function.__code__ = code
        vars(function)["__signature__"] = signature
        return original

    def keep(self, owner: Any, *names: str) -> None:
        """Have `undo` put these attributes or keys back as they are now, whoever has set them."""
        for name in names:
            self._undo.callback(_put, owner, name, _get(owner, name))

    def callback(self, function: Callable[[], object]) -> None:
        """Have `undo` call this function, in the reverse order of all calls."""
        self._undo.callback(function)

    def undo(self) -> None:
        """Put everything back. If one of the calls raises, the error is raised after all others
        were made.
        """
        self._undo.close()


def _get(owner: Any, name: str) -> Any:
    """The object's own attribute (not one of its class), or a key; `_MISSING` if there is none."""
    return (owner if isinstance(owner, MutableMapping) else vars(owner)).get(name, _MISSING)


def _put(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, MutableMapping):
        if value is _MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is not _MISSING:
        setattr(owner, name, value)
    elif name in vars(owner):
        delattr(owner, name)


class Served:
    """The kernels of one kind that are served in this process, and what they replace meanwhile.

    ``replace`` is called when the first one is added. In a forked child everything is put back, and
    then ``in_child`` is called with whether a cell has forked it.
    """

    def __init__(
        self,
        replace: Callable[[Replacements], object],
        in_child: Callable[[bool], object] = lambda is_cell: None,
    ) -> None:
        self._replace, self._in_child = replace, in_child
        self._kernels: list[Any] = []
        self._replaced = Replacements()
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: no kernel is served there."""
        if self._kernels:
            is_cell = self.kernel() is not None
            self._kernels.clear()
            self._replaced.undo()
            self._in_child(is_cell)

    @property
    def latest(self) -> Any:
        """The kernel that was added last, or None."""
        return self._kernels[-1] if self._kernels else None

    def kernel(self) -> Any:
        """The kernel that the calling code runs for, or None.

        Code that belongs to no request counts as that of the latest kernel, if the process is that
        kernel's own.
        """
        request = current_request.get()
        if request is not None:
            called = request.kernel
            for kernel in self._kernels:
                if kernel is called:
                    return kernel
        last = self._kernels[-1] if self._kernels else None
        return last if last is not None and last.owns_process else None

    def kernel_of_task(self) -> Any:
        """As `kernel`, but also finds the kernel of a task that belongs to no request and that a
        kernel without a process of its own has started.
        """
        return self.kernel() or self._find(current_kernel.get()())

    def _find(self, wanted: Any) -> Any:
        return next((one for one in self._kernels if one is wanted), None)

    def add(self, kernel: Any) -> bool:
        """Add a kernel that is served now. Returns False if it was there already."""
        if self._find(kernel) is not None:
            return False
        if not self._kernels:
            self._replace(self._replaced)
        self._kernels.append(kernel)
        return True

    def remove(self, kernel: Any) -> bool:
        """Remove a kernel; with the last one everything is put back. Returns False if it was not
        there.
        """
        if self._find(kernel) is None:
            return False
        self._kernels.remove(kernel)
        if not self._kernels:
            self._replaced.undo()
        return True
