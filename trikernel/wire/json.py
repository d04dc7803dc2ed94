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
    dates become ISO 8601; sets, tuples and other iterables become arrays; keys become text;
    lone surrogates are escaped; what is left is represented by its `repr`. Cycles and
    nesting beyond 200 levels are cut with ``"..."``.
    """
    try:
        return orjson.dumps(value, _default)
    except TypeError:
        return json.dumps(_clean(value, _MAX_DEPTH), separators=(",", ":")).encode()


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Iterable) and not hasattr(value, "__fspath__"):
        if isinstance(value, Collection):
            return list(value)
        items = list(itertools.islice(value, _MAX_ITEMS + 1))  # it may have no end
        return items if len(items) <= _MAX_ITEMS else _safe_repr(value)
    return _safe_repr(value)


def _safe_repr(value: object) -> str:
    try:
        return str(value) if hasattr(value, "__fspath__") else repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__} object>"


def _clean(value: Any, depth: int) -> Any:
    """Rebuild ``value`` out of what the standard library's encoder takes."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth == 0:
        return "..."
    try:
        if isinstance(value, Mapping):
            return {_key(key): _clean(item, depth - 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [_clean(item, depth - 1) for item in value]
        return _clean(_natively(value), depth - 1)
    except Exception:  # an iterator, a mapping or a number of the user's that raises
        return _safe_repr(value)


def _natively(value: Any) -> Any:
    """What orjson knows by itself (dates, enums), else our own replacement."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError:
        return _default(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    return _safe_repr(key)
