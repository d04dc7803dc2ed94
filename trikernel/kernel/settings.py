"""Settings: attributes that a keyword, a flag or the environment sets, and a range guards.

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

__all__ = [
    "Setting",
    "add_settings",
    "resolve_settings",
    "set_checked",
    "setting",
    "settings_of",
]

_KINDS = {float: "a number", int: "an integer", bool: "true or false", str: "text"}
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@attrs.frozen(slots=False, eq=False)  # the rest would cost every start, and nobody compares them
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
    return Setting("", type(default), default, help, minimum, maximum)


def add_settings(cls: Any) -> None:
    """Make the class's own `setting` fields known; called for every subclass of `Kernel`.

    They leave the class's namespace, so that reading one before it is set is an error.
    """
    own = {name: one for name, one in vars(cls).items() if isinstance(one, Setting)}
    for name in own:
        delattr(cls, name)
    cls._own_settings = {name: attrs.evolve(one, name=name) for name, one in own.items()}
    cls._settings = {}
    for base in reversed(cls.__mro__):
        cls._settings |= vars(base).get("_own_settings", {})


def set_checked(instance: Any, name: str, value: Any) -> None:
    """The ``__setattr__`` of a class with settings: raises `SettingError` for a wrong value."""
    one = instance._settings.get(name)
    if one is not None:
        one.check(value)
    object.__setattr__(instance, name, value)


def settings_of(cls: Any) -> Mapping[str, Setting]:
    """Every setting of a class, by name."""
    known: Mapping[str, Setting] = cls._settings
    return known


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
