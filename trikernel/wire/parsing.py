"""Content dictionaries to typed contents, and typed replies to dictionaries.

Fields are checked against the annotations of the type. Knows nothing of particular message types.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union

import attrs

from ..errors import ContentError

__all__ = ["as_content", "parse"]

T = TypeVar("T")


def parse(cls: type[T], msg_type: str, content: Mapping[str, Any]) -> T:
    """``content`` as a ``cls``. Unknown fields are dropped, absent ones get their default.

    Raises `ContentError` that names the message type, the field and the type that it has to have.
    """
    values = {}
    for name, required, hint, accepts in _fields(cls):  # type: ignore[arg-type]  # every class is hashable
        if name not in content:
            if required:
                raise ContentError(f"{msg_type}: the field {name!r} is missing, it must be {hint}")
            continue
        value = content[name]
        if not accepts(value):
            raise ContentError(
                f"{msg_type}: the field {name!r} must be {hint}, not {type(value).__name__}"
                f" {value!r:.80}"
            )
        values[name] = value
    return cls(**values)


def as_content(reply: Any) -> dict[str, Any]:
    """The dictionary of a reply value; a dictionary is returned as it is.

    Raises `TypeError` for anything else.
    """
    if isinstance(reply, dict):
        return reply
    if not attrs.has(type(reply)):
        raise TypeError(
            "a verb returns a content dictionary, a reply value or None, "
            f"not {type(reply).__name__} {reply!r:.80}"
        )
    return {field.name: getattr(reply, field.name) for field in attrs.fields(type(reply))}


@cache
def _fields(cls: type) -> list[tuple[str, bool, str, Callable[[Any], bool]]]:
    hints = typing.get_type_hints(cls)
    attrs_class = typing.cast("type[attrs.AttrsInstance]", cls)
    return [
        (
            field.name,
            field.default is attrs.NOTHING,
            _words(hints[field.name]),
            _check(field, hints),
        )
        for field in attrs.fields(attrs_class)
    ]


def _check(field: attrs.Attribute[Any], hints: dict[str, Any]) -> Callable[[Any], bool]:
    accepts = _acceptor(hints[field.name])
    if field.default is None:  # clients send null for a field that is absent
        return lambda value: value is None or accepts(value)
    return accepts


def _acceptor(hint: Any) -> Callable[[Any], bool]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        options = [_acceptor(arg) for arg in args]
        return lambda value: any(option(value) for option in options)
    if origin is Literal:
        return lambda value: any(value == arg and type(value) is type(arg) for arg in args)
    if origin is list:
        item = _acceptor(args[0])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if hint is Any:
        return lambda value: True
    return lambda value: isinstance(value, origin or hint)


_WORDS = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    type(None): "null",
    dict: "an object",
    list: "an array",
}


def _words(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(arg) for arg in args)
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is list and args[0] is str:
        return "an array of strings"
    return _WORDS.get(origin or hint, str(hint))
