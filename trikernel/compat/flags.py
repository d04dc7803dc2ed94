"""Flags and configuration of `IPKernelApp`: each error is a warning, and the value is left out.

traitlets' own loader reads them. The process does not end because of a wrong flag, since a client
that waits for the kernel would not learn why.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import redirect_stderr
from typing import Any

from traitlets import HasTraits, TraitError
from traitlets.config import Application, Config
from traitlets.config.loader import ArgumentError, DeferredConfig

__all__ = [
    "ALIASES",
    "FLAGS",
    "flags_of_python",
    "name_of_flag",
    "own_flags",
    "take_flags",
    "without_misfits",
]

_APP = "IPKernelApp"
_PREFIX = "Bad config encountered during initialization: "
_PORTS = ("shell", "iopub", "stdin", "control", "hb")

ALIASES = {
    **{f"{name}": f"{_APP}.{name}_port" for name in _PORTS},
    "f": f"{_APP}.connection_file",
    "ip": f"{_APP}.ip",
    "transport": f"{_APP}.transport",
    "profile": f"{_APP}.profile",
    "ipython-dir": f"{_APP}.ipython_dir",
    "config": f"{_APP}.config_file",
    "log-level": "Application.log_level",
    "ident": f"{_APP}.ident",
    "user": f"{_APP}.user",
    "keyfile": f"{_APP}.keyfile",
}
FLAGS: dict[str, Any] = {
    **Application.flags,
    "quiet": ({_APP: {"quiet": True}}, "no effect"),
    "no-stdout": ({_APP: {}}, "no effect: nothing is written there"),
    "no-stderr": ({_APP: {}}, "no effect: only the log is"),
    "trio-loop": ({_APP: {}}, "no effect: there is one anyway"),
}


def own_flags(app: Application) -> set[str]:
    """The names of the flags that only an author's application has."""
    names: set[str] = set()
    for name in (*app.aliases, *app.flags):
        names.update([name] if isinstance(name, str) else name)
    return names - {*ALIASES, *FLAGS}


def name_of_flag(word: str) -> str:
    """The name in ``--name=value``."""
    return word.lstrip("-").partition("=")[0]


def flags_of_python(argv: Sequence[str], own: Set[str] = frozenset()) -> list[str]:
    """The flags that IPython's profile reads (and warns of): all except those of the connection and
    the ``own`` ones of an author.
    """
    ours = {"f", "ip", "transport", *_PORTS, *own}
    names = ((group, name_of_flag(group[0])) for group in _groups(argv))
    return [
        word
        for group, name in names
        if name not in ours and group[0].startswith("-")
        for word in group
    ]


def take_flags(app: Application, argv: Sequence[str]) -> list[str]:
    """Have an application parse a command line. Returns a sentence for each wrong flag, which is
    left out: ``flag FLAG has no effect: …``.

    An application with subcommands finds its subcommand. Raises `ArgumentError` if no single flag
    is wrong.
    """
    words = _groups(argv)
    complaints: list[str] = []
    while True:
        try:
            with redirect_stderr(io.StringIO()) as said:
                app.parse_command_line([one for group in words for one in group])
            return complaints
        except (ArgumentError, TraitError) as error:
            complaint = str(error).removeprefix(_PREFIX)
        except SystemExit as error:
            complaint = said.getvalue().rpartition("error: ")[2].strip()
            complaint = complaint.rpartition(_PREFIX)[2]
            if not error.code or not complaint:  # it has printed its help
                raise
        wrong = next((group for group in words if not _is_readable(app, group)), None)
        if wrong is None:
            raise ArgumentError(complaint)
        words.remove(wrong)
        complaints.append(f"flag {wrong[0]} has no effect: {complaint}")


def _groups(argv: Sequence[str]) -> list[list[str]]:
    """The words of a command line, each flag together with its value."""
    groups: list[list[str]] = []
    for word in argv:
        begins = word.startswith("-") and word != "-"
        if begins or not groups or len(groups[-1]) > 1 or "=" in groups[-1][0]:
            groups.append([word])
        elif groups[-1][0].startswith("-"):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _is_readable(app: Application, words: Sequence[str]) -> bool:
    try:
        with redirect_stderr(io.StringIO()):
            type(app)().parse_command_line(list(words))
    except (ArgumentError, TraitError, SystemExit):
        return False
    return True


def without_misfits(
    config: Config, classes: Sequence[type[Any]], log: logging.Logger, *, tells: bool = True
) -> Config:
    """A configuration without its invalid values; with ``tells`` a warning is logged for each."""
    known = {base.__name__: base for cls in classes for base in cls.__mro__}
    kept = Config()
    for section, name, value in _values(config):
        cls: Any = known.get(section)
        trait = cls.class_traits(config=True).get(name) if hasattr(cls, "class_traits") else None
        try:
            if trait is not None:
                found = value.get_value(trait) if isinstance(value, DeferredConfig) else value
                trait.validate(HasTraits(), found)
            kept[section][name] = value
        except (TraitError, ValueError) as error:
            if tells:
                words = str(error).replace(" of a HasTraits instance", "")
                log.warning("%s.%s has no effect: %s", section, name, words)
    return kept


def _values(config: Config) -> Iterator[tuple[str, str, Any]]:
    for section, content in config.items():
        if isinstance(content, Mapping):
            yield from ((section, name, value) for name, value in content.items())
