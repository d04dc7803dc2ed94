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
from collections.abc import Collection, Iterable, Mapping
from datetime import date, time
from numbers import Integral, Real
from typing import Any

import orjson

__all__ = ["dumps", "loads"]

# A run of 19 digits: the bytes are translated and searched by C code that skips, which takes a
# thirtieth of the time of a regular expression. That would be most of what a long text costs.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_MAX_ITEMS = 100_000  # of an iterator
_MAX_DEPTH = 200
_MAX_CUTS = 1000
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
    iterables become arrays; keys become text; lone surrogates are escaped; what is left is
    represented by its `repr`. Cycles and nesting beyond 200 levels are cut with ``"..."``.
    """
    try:
        return orjson.dumps(value, _default)
    except TypeError:
        return json.dumps(_Cleaner().clean(value, _MAX_DEPTH), separators=(",", ":")).encode()


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return dict(value)
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
        if isinstance(value, Collection):
            return list(value)
        items = list(itertools.islice(value, _MAX_ITEMS + 1))  # it may have no end
        return items if len(items) <= _MAX_ITEMS else _safe_repr(value)
    return _safe_repr(value)


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


class _Cleaner:
    """Rebuilds a value out of what the standard library's encoder takes.

    A value that is inside of itself is cut where it comes again. What makes new values without an
    end is cut at a depth; were there two at each level, that would be done for ever, so after a
    thousand cuts nothing is followed any more.
    """

    def __init__(self) -> None:
        self._around: set[int] = set()  # ids of the containers that a value is in
        self._cuts = 0

    def clean(self, value: Any, depth: int) -> Any:
        """The value, with so many levels of what is in it."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return float.__float__(value) if math.isfinite(float.__float__(value)) else None
        if depth == 0 or id(value) in self._around or self._cuts > _MAX_CUTS:
            self._cuts += 1
            return "..."
        self._around.add(id(value))
        try:
            if isinstance(value, Mapping):
                return {_key(key): self.clean(item, depth - 1) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [self.clean(item, depth - 1) for item in value]
            return self.clean(_natively(value), depth - 1)
        except _RAISED:  # an iterator, a mapping or a number of the user's that raises
            return _safe_repr(value)
        finally:
            self._around.discard(id(value))


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
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, float)):
        return json.dumps(key)
    try:
        return str(_integer(int(key))) if isinstance(key, Integral) else _safe_repr(key)
    except _RAISED:
        return _safe_repr(key)
