"""IPython's display formatter, which asks nobody who can have nothing to say.

IPython asks a dozen formatters about each object that is shown, which for a number takes longer
than all the rest of showing it. About a plain number, text or container only ``text/plain`` can
say something, unless somebody has registered a printer for just that.
"""

from __future__ import annotations

from typing import Any

from IPython.core import formatters

__all__ = ["DisplayFormatter"]

# Of exactly these types: no method of theirs, and no attribute of an instance, is a representation.
_PLAIN = frozenset(
    {bool, bytes, complex, dict, float, frozenset, int, list, range, set, str, tuple, type(None)}
)
_KEYS = _PLAIN | {object}
_DEFERRED = {(cls.__module__, cls.__name__) for cls in _KEYS}
_TABLES = ("singleton_printers", "type_printers", "deferred_printers")


class DisplayFormatter(formatters.DisplayFormatter):
    """Gives the same as IPython's, and is configured by the same name."""

    _known: list[Any] | None = None
    _singletons: list[Any]
    _printers: list[tuple[Any, Any]]

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> tuple[Any, Any]:
        """``(data, metadata)``: dictionaries by MIME type."""
        if type(obj) in _PLAIN and not include and not exclude and self._is_silent_about(obj):
            data, metadata = self.formatters["text/plain"](obj), None
            if isinstance(data, tuple) and len(data) == 2:
                data, metadata = data
            return _by_type(data), _by_type(metadata)
        formatted: tuple[Any, Any] = super().format(obj, include, exclude)
        return formatted

    def _is_silent_about(self, obj: object) -> bool:
        """Whether no formatter but the one for text has a printer for a plain object."""
        if self._known is None or self._known != list(self.formatters.items()):
            self._learn()
        for types, deferred in self._printers:
            if (types and not _KEYS.isdisjoint(types)) or not _DEFERRED.isdisjoint(deferred):
                return False
        return not any(id(obj) in printers for printers in self._singletons)

    def _learn(self) -> None:
        """Note the tables of every formatter; again, once one of them is replaced."""
        self._known = list(self.formatters.items())
        self.observe(self._forget, ("mimebundle_formatter", "ipython_display_formatter"))
        others = [one for mime_type, one in self._known if mime_type != "text/plain"]
        others += [self.mimebundle_formatter, self.ipython_display_formatter]
        for one in others:
            one.observe(self._forget, _TABLES)
        self._singletons = [one.singleton_printers for one in others]
        self._printers = [(one.type_printers, one.deferred_printers) for one in others]
        own = [one for one in others if type(one).__module__ != formatters.__name__]
        if own or "text/plain" not in self.formatters:
            self._printers = [(_KEYS, ())]  # somebody's own formatter: who knows what it says

    def _forget(self, change: Any) -> None:
        self._known = None


def _by_type(value: Any) -> dict[str, Any]:
    return {} if value is None else {"text/plain": value}
