"""Values as variables of the Debug Adapter Protocol: their text, their type and their parts.

Used for the notebook's variables while nothing is stopped, and for frames of tasks that wait. To
ask an object for its text runs the user's code, which may never return: the caller does this in a
thread of its own.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["FIRST_REFERENCE", "Values", "is_shown"]

FIRST_REFERENCE = 1 << 30
"""References from here on are ours; those below are debugpy's."""
MOST = 300  # parts of one value
LONGEST = 1000  # characters of a text
_SEQUENCES = (list, tuple, deque, set, frozenset)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_HIDDEN = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "_ih", "_oh", "_dh"})
_is_history = re.compile(r"_+$|_i+$|_i?\d+$|_i\d|__\w+__$").match


def is_shown(name: str) -> bool:
    """Whether a global name is the user's, and not one of Python's or IPython's."""
    return name not in _HIDDEN and not _is_history(name)


class Values:
    """Gives references to objects, and lists the parts of what has a reference."""

    def __init__(self) -> None:
        self._next = itertools.count(FIRST_REFERENCE)
        self._kept: dict[int, Any] = {}
        self._text = reprlib.Repr()
        for name in ("maxtuple", "maxlist", "maxset", "maxfrozenset", "maxdeque", "maxdict"):
            setattr(self._text, name, 20)
        self._text.maxstring = self._text.maxother = LONGEST

    def forget(self) -> None:
        """Drop all references, and with them the objects."""
        self._kept = {}

    def names(self, namespace: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The user's variables of a namespace."""
        names = [name for name in tuple(namespace) if isinstance(name, str) and is_shown(name)]
        found = [(name, namespace[name]) for name in names if name in namespace]
        return [self.variable(name, value, name) for name, value in found]

    def keep(self, namespace: Mapping[str, Any]) -> int:
        """A new reference to a namespace, for a scope of a frame."""
        return self._reference(_Namespace(namespace))

    def inside(self, reference: int) -> list[dict[str, Any]]:
        """The parts of what has this reference, `MOST` at most. Raises `KeyError` for an unknown
        one.
        """
        value = self._kept[reference]
        if isinstance(value, _Namespace):
            return self.names(value.names)
        found = [
            self.variable(name, one) for name, one in itertools.islice(_parts(value), MOST + 1)
        ]
        if len(found) > MOST:
            found[-1] = {"name": "...", "value": "", "type": "", "variablesReference": 0}
        return found

    def variable(self, name: str, value: Any, expression: str = "") -> dict[str, Any]:
        """A value as a variable of the protocol."""
        has_parts = not isinstance(value, _PLAIN) and next(_parts(value), None) is not None
        return {
            "name": name,
            "value": self.text(value),
            "type": type(value).__name__,
            "evaluateName": expression or name,
            "variablesReference": self._reference(value) if has_parts else 0,
        }

    def text(self, value: Any) -> str:
        """The representation of a value, cut to `LONGEST` characters."""
        try:
            if type(value) in (list, tuple, set, frozenset, deque, dict, str):
                text = self._text.repr(value)
            else:
                text = repr(value)
        except Exception as error:  # the user's `__repr__` may raise anything
            text = f"<no text: {type(error).__name__}>"
        return text if len(text) <= LONGEST else text[:LONGEST] + "..."

    def _reference(self, value: Any) -> int:
        reference = next(self._next)
        self._kept[reference] = value
        return reference


class _Namespace:
    """Marks a namespace, of which only the user's names are shown."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object: the entries of a dict, the items of a sequence, or else the
    attributes in its own ``__dict__``.
    """
    if isinstance(value, dict):
        for key, one in list(value.items()):
            yield reprlib.repr(key), one
    elif isinstance(value, _SEQUENCES):
        for number, one in enumerate(list(itertools.islice(value, MOST + 1))):
            yield str(number), one
    elif not isinstance(value, type):
        names = getattr(value, "__dict__", None)
        if isinstance(names, dict):
            yield from [(str(name), one) for name, one in list(names.items())]
