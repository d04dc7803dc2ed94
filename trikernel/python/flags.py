"""The flags of IPython and ipykernel that a kernelspec, a program or a person may pass.

``--HistoryManager.hist_file=:memory:`` comes from nbclient, ``--matplotlib=inline`` from people's
kernelspecs. traitlets' own loader reads them, as it does for any IPython kernel. An unknown flag or
an invalid value would make it end the process. Here each of them is a warning in the log, and the
kernel starts without it: to a client that waits for the kernel, a process that has ended says
nothing.
"""

from __future__ import annotations

import ast
import importlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from typing import Any

from IPython.core.application import base_aliases, base_flags
from IPython.core.shellapp import shell_aliases, shell_flags
from IPython.utils.path import expand_path
from IPython.utils.PyColorize import theme_table
from traitlets import Container, HasTraits, TraitError, Unicode
from traitlets.config import Application, Config
from traitlets.config.loader import (
    ArgumentError,
    DeferredConfig,
    KVArgParseConfigLoader,
    LazyConfigValue,
)

from ..errors import SettingError
from ..kernel import Kernel, settings_of

__all__ = ["ALIASES", "FLAGS", "apply_settings", "leave_out_misfits", "read_flags"]

_log = logging.getLogger("trikernel")

ALIASES = {
    **base_aliases,
    **shell_aliases,
    "ident": "Session.session",
    "user": "Session.username",
    "keyfile": "Session.keyfile",
}
FLAGS = {
    **base_flags,
    **shell_flags,
    "no-stdout": ({"Profile": {"no_stdout": True}}, "no effect: nothing is written there"),
    "no-stderr": ({"Profile": {"no_stderr": True}}, "no effect: only the log is"),
    "secure": ({"Session": {}}, "no effect: messages are always signed"),
    "no-secure": ({"Session": {}}, "no effect: messages are always signed"),
}
_INNOCENT = {
    "Profile": (
        "no_stdout",
        "no_stderr",
        "outstream_class",
        "displayhook_class",
        "trio_loop",
        "quiet",
        "interrupt",
        "parent_handle",
        "kernel_class",
    ),
    "InteractiveShell": ("color_info",),
    "Session": ("session", "username", "keyfile", "key", "signature_scheme", "debug"),
}
"""Settings of ipykernel that are accepted, by section and name, and have no effect here."""

_KERNELS = ("Kernel", "IPythonKernel")
_INNOCENT |= dict.fromkeys(
    _KERNELS,
    (
        "use_experimental_completions",
        "debug_just_my_code",
        "filter_internal_frames",
        "help_links",
        "_poll_interval",
        "_execute_sleep",
        "_darwin_app_nap",
    ),
)

_SHORT = {target.rpartition(".")[2]: alias for alias, target in reversed(ALIASES.items())}

_CLASSES = {
    "InteractiveShell": "IPython.core.interactiveshell",
    "ZMQInteractiveShell": "trikernel.python.shell",
    "HistoryManager": "IPython.core.history",
    "HistoryAccessor": "IPython.core.history",
    "IPCompleter": "IPython.core.completer",
    "Completer": "IPython.core.completer",
    "DisplayFormatter": "IPython.core.formatters",
    "PlainTextFormatter": "IPython.core.formatters",
    "StoreMagics": "IPython.extensions.storemagic",
    "InlineBackend": "matplotlib_inline.config",
    "ProfileDir": "IPython.core.profiledir",
}
"""The modules of the classes whose values are checked before the kernel is made with them."""

_LATER = ("StoreMagics", "InlineBackend")
"""Classes of `_CLASSES` that are not part of every kernel: a value in a configuration file does
not have their modules imported.
"""

_FOLDERS = (("Profile", "ipython_dir"), ("ProfileDir", "location"))

_APPLICATION = r"^(-+)(?:IPKernelApp|InteractiveShellApp|BaseIPythonApplication|Application)\."
"""The names of the application that people use in flags."""

_SETTING = re.compile(r"[A-Z]\w*\.\w+")


def read_flags(flags: Sequence[str], application: Application) -> Config:
    """The configuration that a command line gives to an application and to the objects it makes.

    A flag that cannot be used is left out, with a warning in the log.
    """
    own = type(application)
    understood = _understood(flags)
    by_name: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    if not all(_SETTING.match(one[0].lstrip("-")) for one in understood):
        by_name, aliases = application.flatten_flags()  # only if needed: argparse is slow with them
    classes = [own, *application.classes]

    def load(words: Sequence[Sequence[str]]) -> Config:
        known = [re.sub(_APPLICATION, rf"\1{own.__name__}.", one) for flag in words for one in flag]
        with redirect_stderr(io.StringIO()) as said:
            try:
                loader = KVArgParseConfigLoader(known, aliases, by_name, classes=classes, log=_log)
                return loader.load_config()
            except SystemExit:  # argparse reports an error on stderr and exits
                raise ArgumentError(said.getvalue().rpartition("error: ")[2].strip()) from None

    try:
        return _checked(load(understood), own)
    except ArgumentError:  # it does not say which flag is wrong, so each is tried by itself
        return _checked(load([one for one in understood if _is_readable(one, load)]), own)


def _is_readable(flag: Sequence[str], load: Callable[[Sequence[Sequence[str]]], Config]) -> bool:
    try:
        load([flag])
    except ArgumentError as error:
        _log.warning("flag %s has no effect: %s", flag[0], error)
        return False
    return True


def _understood(flags: Sequence[str]) -> list[list[str]]:
    """The flags that have a meaning, each with its value; for each other one a warning is logged.

    A word after an unknown flag that is no flag itself counts as its value and is left out too.
    """
    kept: list[list[str]] = []
    rest = list(flags)
    while rest:
        one = rest.pop(0)
        if not one.startswith("-") or one == "-":
            continue  # other words that frontends pass on
        name, equals, _ = one.lstrip("-").partition("=")
        value = [rest.pop(0)] if not equals and _takes_value(name, rest) else []
        if not (name in ALIASES or name in FLAGS or _SETTING.fullmatch(name)):
            _log.warning("flag %s has no effect: nobody knows it", one)
        elif not equals and not value and name not in FLAGS:
            _log.warning("flag %s has no effect: it needs a value", one)
        elif equals and name not in ALIASES and name in FLAGS:
            _log.warning("flag %s has no effect: it takes no value", one)
        else:
            kept.append([one, *value])
    return kept


def _takes_value(name: str, rest: Sequence[str]) -> bool:
    is_only_flag = name in FLAGS and name not in ALIASES
    return bool(rest) and not is_only_flag and (not rest[0].startswith("-") or name in ("c", "m"))


def _checked(given: Config, application: type[Application]) -> Config:
    """The part of a command line's configuration that is valid; a warning for each other value."""
    config = Config()
    for section, name, value in _values(given):
        known_as = "IPKernelApp" if section == application.__name__ else section
        flag = _SHORT.get(name, f"{known_as}.{name}")
        if name in _INNOCENT.get(section, ()):
            _log.info("flag --%s means nothing to this kernel", flag)
            continue
        try:
            config[section][name] = _fitting(section, name, value, application)
        except ImportError as error:
            _log.warning("flag --%s has no effect: %s", flag, error)
        except (TraitError, ValueError) as error:  # ValueError: the flag is given twice
            words = str(error).replace(" of a HasTraits instance", "")
            _log.warning("flag --%s has no effect: %s", flag, words)
    return config


def _values(config: Config) -> Iterator[tuple[str, str, Any]]:
    for section, content in config.items():
        if isinstance(content, Mapping):
            yield from ((section, name, value) for name, value in content.items())


def _fitting(section: str, name: str, value: Any, application: type[Application]) -> Any:
    """The value, validated by its trait; unchanged if its class is not known here.

    Raises `TraitError` or `ValueError` for an invalid one.
    """
    configurable: Any = application
    if section in _KERNELS:
        return _setting(section, name, value)
    if section != application.__name__:
        if section not in _CLASSES:
            return value
        configurable = getattr(importlib.import_module(_CLASSES[section]), section)
    trait = configurable.class_traits(config=True).get(name)
    if trait is None:
        raise TraitError("there is no such setting")
    found = value.get_value(trait) if isinstance(value, DeferredConfig) else value
    if isinstance(trait, Container):
        found = _literal(found)
    valid = trait.validate(HasTraits(), found)
    if name == "colors" and not _is_theme(valid):
        raise TraitError(f"there are no colors {valid!r}, only {', '.join(sorted(theme_table))}")
    if (section, name) in _FOLDERS and not os.path.isdir(expand_path(valid)):
        raise TraitError(f"there is no folder {valid!r}")
    return valid


def _setting(section: str, name: str, value: Any) -> Any:
    """The checked value of a setting that both this kernel and ipykernel's have.

    Raises `TraitError` for another name, `SettingError` for an invalid value.
    """
    if name != "stop_on_error_timeout":
        raise TraitError(f"{section} has no such setting; those of this kernel are in --help")
    one = settings_of(Kernel)[name]
    text = value.get_value(Unicode()) if isinstance(value, DeferredConfig) else value
    return one.from_text(text, section) if isinstance(text, str) else one.check(text)


def apply_settings(config: Config, kernel: Kernel) -> None:
    """Set what configuration files and flags say about the kernel itself, unless the setting is
    given already.
    """
    name = "stop_on_error_timeout"
    one = settings_of(type(kernel))[name]
    for section in reversed(_KERNELS):
        if name in config[section] and not one.is_given(kernel):
            try:
                setattr(kernel, name, _setting(section, name, config[section][name]))
            except SettingError as error:
                _log.warning("%s.%s has no effect: %s", section, name, error)


def leave_out_misfits(config: Config) -> None:
    """Remove values of configuration files that would end the kernel: invalid values and unknown
    colors. A warning is logged for each.
    """
    for section, name, value in list(_values(config)):
        try:
            if name == "colors" and not _is_theme(value):
                raise TraitError(f"there are no colors {str(value)!r}")
            _check_of_file(section, name, value)
        except TraitError as error:
            words = str(error).replace(" of a HasTraits instance", "")
            _log.warning("%s.%s has no effect: %s", section, name, words)
            del config[section][name]


def _check_of_file(section: str, name: str, value: Any) -> None:
    """Raise `TraitError` for an invalid value of a class that every kernel makes."""
    if section not in _CLASSES or section in _LATER:
        return
    if isinstance(value, (DeferredConfig, LazyConfigValue)):  # from a flag, checked; or an append
        return
    configurable = getattr(importlib.import_module(_CLASSES[section]), section)
    trait = configurable.class_traits(config=True).get(name)
    validate = getattr(trait, "validate", None)  # `Any` takes every value, and has none
    if validate is not None and not (value is None and trait.allow_none):
        validate(HasTraits(), value)


def _is_theme(name: Any) -> bool:
    return isinstance(name, str) and name.lower() in theme_table


def _literal(value: Any) -> Any:
    """The value of a container that is written as a Python literal; traitlets' loader does not
    always parse these. Any other value is returned unchanged.
    """
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(text, str) and text[:1] in ("[", "(", "{"):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(text)
    return value
