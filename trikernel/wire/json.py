"""Python values to JSON bytes and back: as fast as orjson, with the standard library's results.

Decoding returns what the standard library's `json.loads` returns, for every document that it
accepts. orjson refuses NaN, infinities and lone surrogates: such documents are decoded again by the
standard library. And orjson silently turns integers beyond 64 bits into floats: so documents with a
long run of digits are decoded by the standard library alone. Encoding never raises: values that
JSON cannot represent are replaced, see `dumps`.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
from array import array
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import attrs
import orjson

__all__ = ["dumps", "loads", "mark_users_code"]

# To find a run of 19 digits, all digits are translated to "0", and 19 zeros are searched for. This
# takes a thirtieth of the time of a regular expression, which would be most of a long text's cost.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_MAX_ITEMS = 100_000  # of an iterable that may have no end
_MAX_DEPTH = 200
_MAX_CUTS = 1000
_FIELDS = 2  # outer levels of a message whose values are counted each by itself: see `_Cleaner`
_SCALARS = (str, int, float)
_HOLDS: tuple[type, ...] = (set, frozenset, deque, array, MappingProxyType, UserDict)
_HOLDS += (type({}.keys()), type({}.values()), type({}.items()))
_RAISED = (Exception, SystemExit, GeneratorExit)  # errors of the user's code; not an interrupt


def loads(data: bytes | memoryview) -> Any:
    """Decode one JSON document in UTF-8, with the same result as the standard library.

    Raises `ValueError` for invalid UTF-8 or JSON, and for a document nested deeper than the
    interpreter can follow.
    """
    if _LONG_NUMBER not in bytes(data).translate(_DIGITS):
        try:
            return orjson.loads(data)
        except ValueError:
            pass
    try:
        return json.loads(str(data, "utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """Encode any value as one JSON document in UTF-8; never raises because of a value.

    NaN and infinities become ``null``; bytes become base64 text (as MIME bundles carry them);
    dates become ISO 8601; numpy's scalars and arrays become the numbers that they hold; sets,
    tuples and other iterables become arrays, unless they make their items on demand and yield more
    than 100,000; keys become text; lone surrogates are escaped; all other values become their
    `repr`. Cycles and nesting beyond 200 levels are cut with ``"..."``.

    This may run the user's code (``__repr__``, ``__iter__``), which may never end, and an interrupt
    in it is raised: see `mark_users_code`.
    """
    try:
        return orjson.dumps(value, _users_code.replace)
    except TypeError as error:
        raised = error.__cause__
    if raised is not None and not isinstance(raised, _RAISED):
        raise raised
    return json.dumps(_users_code.clean(value), separators=(",", ":")).encode()


def mark_users_code(mark: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Wrap the functions in which `dumps` calls the user's code by ``mark``. So a caller that is
    protected from interrupts can have them raised in the user's code.
    """
    _users_code.replace, _users_code.clean = mark(_default), mark(_cleaned)


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        keys = _items_of(value)
        return _safe_repr(value) if keys is None else {key: value[key] for key in keys}
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (date, time)):  # subclasses, pandas' timestamps for example
        return value.isoformat()
    if hasattr(type(value), "tolist") and hasattr(type(value), "dtype"):
        return _held_by(value)
    if isinstance(value, Iterable) and not hasattr(value, "__fspath__"):
        items = _items_of(value)
        return _safe_repr(value) if items is None else items
    return _safe_repr(value)


@attrs.define
class _UsersCode:
    """The functions by which `dumps` calls the user's code: see `mark_users_code`."""

    replace: Callable[[Any], Any]
    clean: Callable[[Any], Any]


def _items_of(value: Iterable[Any]) -> list[Any] | None:
    """The items of an iterable. None if they are too many, and are made on demand, as such an
    iterable may have no end.
    """
    if isinstance(value, _HOLDS):
        return list(value)
    items = list(itertools.islice(value, _MAX_ITEMS + 1))
    return items if len(items) <= _MAX_ITEMS else None


def _held_by(value: Any) -> Any:
    """A numpy scalar or array as Python numbers or lists; dates as text."""
    is_date = value.dtype.kind in "mM"
    held = (value.astype(str) if is_date else value).tolist()
    return _safe_repr(value) if held is value else held


def _safe_repr(value: object) -> str:
    try:
        return str(value) if hasattr(value, "__fspath__") else repr(value)
    except _RAISED:
        return f"<unprintable {type(value).__name__} object>"


def _cleaned(value: Any) -> Any:
    return _Cleaner().clean(value, _MAX_DEPTH)


class _Cleaner:
    """Rebuilds a value of types that the standard library's encoder takes.

    A value that contains itself is cut where it comes again. An object that yields new values
    without an end is cut at a depth. If there were two such objects at each level, that would
    happen almost without an end, so after a thousand cuts every further container is cut. For each
    value in the two outer levels the count begins anew: so a bad value in one field of a message
    does not cut the other fields.
    """

    def __init__(self) -> None:
        self._around: set[int] = set()  # ids of the containers that a value is in
        self._cuts = 0

    def clean(self, value: Any, depth: int) -> Any:
        """The value, rebuilt to that many levels."""
        if depth >= _MAX_DEPTH - _FIELDS:
            self._cuts = 0
        try:
            if value is None or isinstance(value, _SCALARS):
                return _scalar(value)
            too_many = self._cuts > _MAX_CUTS and (type(value) is not dict or value)
            if depth == 0 or id(value) in self._around or too_many:
                self._cuts += 1
                return "..."
            self._around.add(id(value))
            try:
                if isinstance(value, dict):
                    return {_key(key): self.clean(item, depth - 1) for key, item in value.items()}
                if isinstance(value, (list, tuple)):
                    return [self.clean(item, depth - 1) for item in value]
                return self.clean(_natively(value), depth - 1)
            finally:
                self._around.discard(id(value))
        except _RAISED:  # raised by an iterator, a mapping, a number or a class of the user's
            return _safe_repr(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if isinstance(value, bool) else _integer(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(float.__float__(value)) else None
    return value


def _integer(value: int) -> int | str:
    """The integer; as text if it has more digits than the interpreter converts to decimal."""
    plain = int.__int__(value)
    try:
        repr(plain)
    except ValueError:  # sys.set_int_max_str_digits
        return _safe_repr(plain)
    return plain


def _natively(value: Any) -> Any:
    """The value as orjson encodes it (dates, enums); for other types our own replacement."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        return _default(value)


def _key(key: Any) -> str:
    try:
        if isinstance(key, str):
            return str.__str__(key)
        if key is None or isinstance(key, (bool, float)):
            return json.dumps(key)
        return str(_integer(int(key))) if isinstance(key, Integral) else _safe_repr(key)
    except _RAISED:
        return _safe_repr(key)


_users_code = _UsersCode(_default, _cleaned)
