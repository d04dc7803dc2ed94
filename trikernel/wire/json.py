"""Python values to JSON bytes and back: orjson's speed with the standard library's answers.

Decoding gives what `json.loads` gives, for every document that it accepts: orjson refuses
NaN, infinities and lone surrogates (those documents are decoded again by the standard
library) and silently turns integers beyond 64 bits into floats (documents with a long run of
digits go to the standard library at once). Encoding never raises: what JSON cannot say is
replaced, see `dumps`.
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

# A run of 19 digits: the bytes are translated and searched by C code that skips, which takes a
# thirtieth of the time of a regular expression. That would be most of what a long text costs.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_MAX_ITEMS = 100_000  # of what may make them as they are asked for
_MAX_DEPTH = 200
_MAX_CUTS = 1000
_FIELDS = 2  # levels of a message that have nothing to do with each other: to the types of data
_SCALARS = (str, int, float)
_HOLDS: tuple[type, ...] = (set, frozenset, deque, array, MappingProxyType, UserDict)
_HOLDS += (type({}.keys()), type({}.values()), type({}.items()))
_RAISED = (Exception, SystemExit, GeneratorExit)  # of somebody else's code; not an interrupt


def loads(data: bytes | memoryview) -> Any:
    """Decode one UTF-8 JSON document, to what the standard library makes of it.

    Raises `ValueError` for what is neither valid UTF-8 nor JSON, and for a document nested
    deeper than the interpreter can follow.
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
    """Encode any value as one JSON document in UTF-8; never raises for the value's sake.

    NaN and infinities become ``null``; bytes become base64 text (as MIME bundles carry them);
    dates become ISO 8601; numpy's scalars and arrays become what they hold; sets, tuples and other
    iterables become arrays, if they hold what they yield, or yield no more than 100,000 items; keys
    become text; lone surrogates are escaped; what is left is represented by its `repr`. Cycles and
    nesting beyond 200 levels are cut with ``"..."``.

    The user's code that runs for that may have no end: see `mark_users_code`.
    """
    try:
        return orjson.dumps(value, _users_code.replace)
    except TypeError as error:
        raised = error.__cause__
    if raised is not None and not isinstance(raised, _RAISED):
        raise raised
    return json.dumps(_users_code.clean(value), separators=(",", ":")).encode()


def mark_users_code(mark: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Have the functions in which `dumps` calls the user's code marked as such: for whoever
    protects his own code, which `dumps` is called in, from interrupts.
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
    """What `dumps` calls, and what that calls may be the user's."""

    replace: Callable[[Any], Any]
    clean: Callable[[Any], Any]


def _items_of(value: Iterable[Any]) -> list[Any] | None:
    """What it yields; None for too much, unless it is there already: it may have no end."""
    if isinstance(value, _HOLDS):
        return list(value)
    items = list(itertools.islice(value, _MAX_ITEMS + 1))
    return items if len(items) <= _MAX_ITEMS else None


def _held_by(value: Any) -> Any:
    """What a scalar or an array of numpy's holds; its dates are text already."""
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
    """Rebuilds a value out of what the standard library's encoder takes.

    A value that is inside of itself is cut where it comes again. What makes new values without an
    end is cut at a depth; were there two at each level, that would be done for ever, so after a
    thousand cuts nothing is followed any more. What is near the top begins to count anew: a
    message's fields, and what is in them by name, have nothing to do with each other.
    """

    def __init__(self) -> None:
        self._around: set[int] = set()  # ids of the containers that a value is in
        self._cuts = 0

    def clean(self, value: Any, depth: int) -> Any:
        """The value, with so many levels of what is in it."""
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
        except _RAISED:  # an iterator, a mapping, a number or a class of the user's that raises
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
    """The integer, if the interpreter is willing to write it in decimal."""
    plain = int.__int__(value)
    try:
        repr(plain)
    except ValueError:  # sys.set_int_max_str_digits
        return _safe_repr(plain)
    return plain


def _natively(value: Any) -> Any:
    """What orjson knows by itself (dates, enums), else our own replacement."""
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
