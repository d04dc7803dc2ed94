"""Settings: attrs fields that a keyword, a flag or the environment sets, and a range guards.

Of several sources the nearest wins: keyword (or flag), environment, a subclass's plain class
attribute, the default. Knows nothing of what the settings mean.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..errors import SettingError

__all__ = ["Setting", "add_settings", "resolve_settings", "setting", "settings_of"]

_KINDS = {float: "a number", int: "an integer", bool: "true or false", str: "text"}
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@attrs.frozen
class Setting:
    """One setting's name, kind, default, range and the sentence that explains it."""

    name: str
    kind: type
    default: Any
    help: str
    minimum: float
    maximum: float

    @property
    def flag(self) -> str:
        """``--stop-on-error-timeout``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """``TRIKERNEL_STOP_ON_ERROR_TIMEOUT``."""
        return "TRIKERNEL_" + self.name.upper()

    def check(self, value: Any) -> Any:
        """The value in its kind; raises `SettingError` that names the field and the range."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        fits = isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool))
        if fits and self.kind in (int, float):
            fits = self.minimum <= value <= self.maximum and not math.isnan(value)
        if not fits:
            raise SettingError(f"{self.name} must be {self._words()}, not {value!r}")
        return self.kind(value)

    def from_text(self, text: str, source: str) -> Any:
        """The value that a flag or an environment variable spells."""
        try:
            value = _BOOLEANS[text.lower()] if self.kind is bool else self.kind(text)
            return self.check(value)
        except (KeyError, ValueError):
            raise SettingError(
                f"{source}: {self.name} must be {self._words()}, not {text!r}"
            ) from None

    def _words(self) -> str:
        words = _KINDS[self.kind]
        if self.kind in (int, float):
            words += f" from {self.minimum:g} to {self.maximum:g}"
        return words


def setting(default: Any, help: str, *, minimum: float = 0, maximum: float = math.inf) -> Any:
    """A field of a `Kernel` subclass that can be set from outside.

    ``default``'s type is the setting's type: float, int, bool or str.
    """

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        settings_of(type(instance))[attribute.name].check(value)

    bounds = {"help": help, "minimum": minimum, "maximum": maximum, "kind": type(default)}
    return attrs.field(default=default, validator=check, metadata={"setting": bounds})


def add_settings(cls: type) -> None:
    """Make the class's own `setting` fields known; called for every subclass of `Kernel`."""
    attrs.define(
        cls,
        auto_attribs=False,
        slots=False,
        init=False,
        eq=False,
        repr=False,
        on_setattr=attrs.setters.validate,
    )


def settings_of(cls: type) -> Mapping[str, Setting]:
    """Every setting of a class, by name."""
    return {
        field.name: Setting(name=field.name, default=field.default, **field.metadata["setting"])
        for field in attrs.fields(cls)
        if "setting" in field.metadata
    }


def resolve_settings(cls: type, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each setting's name and value. Raises `SettingError` for wrong ones and unknown names."""
    known = settings_of(cls)
    for name in given:
        if name not in known:
            raise SettingError(
                f"{name} is no setting of {cls.__name__}; it has: {', '.join(sorted(known))}"
            )
    for name, one in known.items():
        if name in given:
            yield name, one.check(given[name])
        elif one.variable in os.environ:
            yield name, one.from_text(os.environ[one.variable], one.variable)
        else:
            yield name, one.check(getattr(cls, name, one.default))
