"""Settings: attributes with a range, that a keyword, a flag or the environment can set.

A `Setting` is a descriptor that checks the value when it is set. Reading it reads the attribute in
the kernel's own ``__dict__``, which is as fast as any attribute, and exists from the kernel's
creation on. If several sources set it, the first of these wins: keyword (or flag), environment, a
subclass's plain class attribute, the default. This module does not know what the settings mean.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from ..errors import SettingError

__all__ = ["Setting", "keep_settings", "set_settings", "setting", "settings_of"]

_GIVEN = "given_settings"  # a kernel's attribute: the names of those that were set
_KINDS = {float: "a number", int: "an integer", bool: "true or false", str: "text"}
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class Setting:
    """One setting: its name, kind, default, range and the sentence that explains it."""

    def __init__(self, default: Any, help: str, minimum: float, maximum: float) -> None:
        self.name = ""
        self.kind: type = type(default)
        self.default = default
        self.help = help
        self.__doc__ = f"A setting: {help}. Its default is {default!r}."  # for help()
        self.minimum = minimum
        self.maximum = maximum

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = self.check(value)
        instance.__dict__.setdefault(_GIVEN, set()).add(self.name)

    def set_default(self, instance: Any) -> None:
        """Set the default value: the setting is not given yet. Raises `SettingError`."""
        instance.__dict__[self.name] = self.check(self.default)

    def is_given(self, instance: Any) -> bool:
        """Whether it was set to anything, be it the default value."""
        return self.name in instance.__dict__.get(_GIVEN, ())

    @property
    def flag(self) -> str:
        """``--stop-on-error-timeout``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """``TRIKERNEL_STOP_ON_ERROR_TIMEOUT``."""
        return "TRIKERNEL_" + self.name.upper()

    def check(self, value: Any) -> Any:
        """The value, converted to the setting's type. Raises `SettingError`, which names the
        setting and its range.
        """
        kinds = (int, float) if self.kind is float else (self.kind,)
        fits = isinstance(value, kinds) and (self.kind is bool or not isinstance(value, bool))
        if fits and self.kind in (int, float):
            fits = self.minimum <= value <= self.maximum and not math.isnan(value)
        if not fits:
            raise SettingError(f"{self.name} must be {self._words()}, not {value!r}")
        return self.kind(value)

    def from_text(self, text: str, source: str) -> Any:
        """The value of a flag or an environment variable. Raises `SettingError`, which names
        ``source``.
        """
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
    return Setting(default, help, minimum, maximum)


def keep_settings(cls: type) -> None:
    """If a class gives a plain value to an inherited setting, make that the setting's default.

    A value out of range is kept, and refused when a kernel of that class is created.
    """
    inherited: dict[str, Setting] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update({n: one for n, one in vars(base).items() if isinstance(one, Setting)})
    for name, value in tuple(vars(cls).items()):
        if name in inherited and not isinstance(value, Setting):
            changed = Setting(inherited[name].default, inherited[name].help, 0, 0)
            changed.__dict__.update(inherited[name].__dict__, default=value)
            setattr(cls, name, changed)


def settings_of(cls: Any) -> Mapping[str, Setting]:
    """Every setting of a class, by name, those of its bases first."""
    found: dict[str, Setting] = {}
    for base in reversed(cls.__mro__):
        found.update({name: one for name, one in vars(base).items() if isinstance(one, Setting)})
    return found


def set_settings(kernel: Any, given: Mapping[str, Any]) -> None:
    """Set each setting of a new kernel. Raises `SettingError` for wrong ones and unknown names."""
    cls = type(kernel)
    known = settings_of(cls)
    for name in given:
        if name not in known:
            raise SettingError(
                f"{name} is no setting of {cls.__name__}; it has: {', '.join(sorted(known))}"
            )
    for name, one in known.items():
        if name in given:
            setattr(kernel, name, given[name])
        elif one.variable in os.environ:
            setattr(kernel, name, one.from_text(os.environ[one.variable], one.variable))
        else:
            one.set_default(kernel)
