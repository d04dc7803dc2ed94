"""Faster versions of what IPython does for every cell, with the same results.

IPython tokenizes each cell to find its own syntax, asks a dozen formatters about each value, and
writes the history to the disk after each cell. For a cell like ``x + 1`` each of these takes longer
than everything else. The classes here stand in for IPython's. Where something that they rely on was
changed (a transformer, a printer, a formatter), they call IPython's own code.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import trio
from IPython.core import formatters, history, prefilter
from IPython.core.autocall import IPyAutocall
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.macro import Macro
from trio.lowlevel import enable_ki_protection

from ..system import mark_untraced

__all__ = ["CellTransformers", "DisplayFormatter", "HistoryManager", "PrefilterManager"]

_log = logging.getLogger("trikernel")


# Transforming

_KNOWN = TransformerManager()
# IPython's transformers change a cell only if it has one of these: IPython's own characters, a
# prompt to be removed, an indented or empty first line, a line of blanks, or a line end that only
# `str.splitlines` knows.
_may_be_ipython = re.compile(
    r"[%!?\r\v\f\x1c-\x1e\x85\u2028\u2029]|>>>|\.\.\.|In \[|^\s*[,;/]|\A\s|^[^\S\n]+$", re.M
).search


_TRANSFORMING = frozenset({"do_token_transforms", "transform_cell"})


class CellTransformers(TransformerManager):
    """Gives the same as IPython's, except that a syntax error may be found only when the cell is
    compiled.
    """

    def transform_cell(self, cell: str) -> str:
        """The cell as Python."""
        plain = self.transform_plain(cell)
        transformed: str = super().transform_cell(cell) if plain is None else plain
        return transformed

    def transform_plain(self, cell: str) -> str | None:
        """The cell, if it is plain Python already; None if IPython has to transform it."""
        if (
            _may_be_ipython(cell)
            or not cell
            or type(self) is not CellTransformers
            or not _TRANSFORMING.isdisjoint(vars(self))
            or self.cleanup_transforms != _KNOWN.cleanup_transforms
            or self.line_transforms != _KNOWN.line_transforms
            or self.token_transformers != _KNOWN.token_transformers
            or not (cell.isascii() or _is_text(cell))
        ):
            return None
        return cell if cell.endswith("\n") else cell + "\n"


_CHECKERS = (
    prefilter.EmacsChecker,
    prefilter.MacroChecker,
    prefilter.IPyAutocallChecker,
    prefilter.AssignmentChecker,
    prefilter.AutoMagicChecker,
    prefilter.PythonOpsChecker,
    prefilter.AutocallChecker,
)
_first_word: Any = re.compile(r"[\w.*]*").match  # as IPython splits a line


_PREFILTERING = frozenset(
    {"find_handler", "prefilter_line", "prefilter_line_info", "prefilter_lines", "transform_line"}
)


class PrefilterManager(prefilter.PrefilterManager):
    """IPython's manager asks seven checkers about each single-line cell; this one knows when that
    can be skipped. It has the name of IPython's class, so the same configuration applies.
    """

    _asked: Any = None

    def leaves_alone(self, cell: str) -> bool:
        """Whether a cell without IPython's characters is left unchanged. False if not known.

        A line is changed if its first word is a macro, a name to be called, or a magic.
        """
        if len(cell.splitlines()) != 1:
            return True  # only single lines are looked at
        shell = self.shell
        if shell.autocall or self.transformers:
            return False
        if type(self) is not PrefilterManager or not _PREFILTERING.isdisjoint(vars(self)):
            return False  # a subclass, or an object with a method that was replaced
        if self.checkers != self._asked and not self._are_known(self.checkers):
            return False
        if type(self.handlers.get("normal")) is not prefilter.PrefilterHandler:
            return False
        if cell.endswith("# PYTHON-MODE\n"):  # Emacs adds this; IPython's EmacsChecker looks for it
            return False
        word = _first_word(cell)[0]
        if isinstance(shell.user_ns.get(word), (Macro, IPyAutocall)):
            return False
        return not shell.automagic or shell.find_magic(word) is None

    def _are_known(self, checkers: Sequence[Any]) -> bool:
        known = {type(one) for one in checkers}.issubset(_CHECKERS)
        self._asked = list(checkers) if known else None
        return known


def _is_text(cell: str) -> bool:
    """Whether the text can be encoded: it has no lone surrogates."""
    try:
        return bool(cell.isascii() or cell.encode())
    except UnicodeEncodeError:
        return False


def _are_text(texts: Iterable[str]) -> bool:
    return all(map(_is_text, texts))


# Formatting

# For values of exactly these types (no subclasses): they have no `_repr_*_` methods, and their
# instances cannot get any.
_PLAIN = frozenset(
    {bool, bytes, complex, dict, float, frozenset, int, list, range, set, str, tuple, type(None)}
)
_KEYS = _PLAIN | {object}
_DEFERRED = {(cls.__module__, cls.__name__) for cls in _KEYS}
_TABLES = ("singleton_printers", "type_printers", "deferred_printers")


class DisplayFormatter(formatters.DisplayFormatter):
    """Gives the same as IPython's, and has the same name, so the same configuration applies."""

    _known: list[Any] | None = None
    _singletons: list[Any]
    _printers: list[tuple[Any, Any]]

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> tuple[Any, Any]:
        """``(data, metadata)``: dictionaries by MIME type."""
        if type(obj) in _PLAIN and not include and not exclude and self._is_silent_about(obj):
            data, metadata = self.formatters["text/plain"](obj), None
            if isinstance(data, tuple) and len(data) == 2:
                data, metadata = data
            return _by_type(data), _by_type(metadata)
        formatted: tuple[Any, Any] = super().format(obj, include, exclude)
        return formatted

    def _is_silent_about(self, obj: object) -> bool:
        """Whether no formatter except the one for text/plain has a printer for a plain object."""
        if self._known is None or self._known != list(self.formatters.items()):
            self._learn()
        for types, deferred in self._printers:
            if (types and not _KEYS.isdisjoint(types)) or not _DEFERRED.isdisjoint(deferred):
                return False
        return not any(id(obj) in printers for printers in self._singletons)

    def _learn(self) -> None:
        """Collect the printer tables of all formatters. `_forget` is called when one is replaced,
        and then they are collected again.

        ``_known`` is set last, because an interrupt may be raised between any two lines here.
        """
        known = list(self.formatters.items())
        self.observe(self._forget, ("mimebundle_formatter", "ipython_display_formatter"))
        others = [one for mime_type, one in known if mime_type != "text/plain"]
        others += [self.mimebundle_formatter, self.ipython_display_formatter]
        for one in others:
            one.observe(self._forget, _TABLES)
        self._singletons = [one.singleton_printers for one in others]
        self._printers = [(one.type_printers, one.deferred_printers) for one in others]
        own = [one for one in others if type(one).__module__ != formatters.__name__]
        if own or "text/plain" not in self.formatters:
            self._printers = [(_KEYS, ())]  # an unknown formatter may handle any value: never skip
        self._known = known

    def _forget(self, change: Any) -> None:
        self._known = None


def _by_type(value: Any) -> dict[str, Any]:
    return {} if value is None else {"text/plain": value}


# History

HISTORY_DELAY = 1  # seconds


class HistoryManager(history.HistoryManager):
    """Keeps cells in memory until `run` has them written; a shutdown writes the rest.

    It has the name of IPython's class, by which ``%config`` finds it.
    """

    log = _log  # IPython reports here that a history file is corrupt, and what it does about it
    hist_file: Any  # a path, or ":memory:"
    _news: trio.Event | None = None
    # In IPython's class these are traits, which are slow to read and set, and nobody observes them.
    _i00 = _i = _ii = _iii = ""
    input_hist_parsed: Any = None
    input_hist_raw: Any = None
    db_input_cache: Any = ()
    db_output_cache: Any = ()
    output_hist_reprs: Any = None
    exceptions: Any = None
    session_number: Any = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.input_hist_parsed, self.input_hist_raw = [""], [""]
        self.db_input_cache, self.db_output_cache = [], []
        self.output_hist_reprs, self.exceptions = {}, {}
        super().__init__(*args, **kwargs)
        self.db_cache_size = 1 << 30
        if self.save_thread is not None:
            mark_untraced(self.save_thread)

    def init_db(self) -> None:
        """Open the database; if its file cannot be opened or made, use one in memory and log a
        warning. IPython itself handles a corrupt file.
        """
        if self.enabled and self.hist_file != ":memory:":
            import sqlite3  # interpreters without it have the history disabled

            self.hist_file = Path(self.hist_file)  # a string if set by a flag; IPython needs a path
            try:
                sqlite3.connect(self.hist_file).close()
            except sqlite3.OperationalError as error:
                text = "the history is not kept: %s cannot be used (%s)"
                _log.warning(text, self.hist_file, error)
                self.hist_file = ":memory:"
        super().init_db()

    def store_inputs(self, *args: Any, **kwargs: Any) -> None:
        """Keep a cell, and wake `run`."""
        super().store_inputs(*args, **kwargs)
        if self._news is not None:
            self._news.set()

    @enable_ki_protection
    async def run(self) -> None:
        """Have kept cells written `HISTORY_DELAY` seconds after one came, forever. No timer runs
        while there are none.
        """
        while True:
            self._news = trio.Event()
            await self._news.wait()
            await trio.sleep(HISTORY_DELAY)
            if self.using_thread:
                self._wake_writer()

    def writeout_cache(self, conn: Any = None) -> None:
        """Write the kept cells and outputs, except those with text that SQLite does not accept (a
        lone surrogate): one of these would keep the others from being written.
        """
        if self.enabled:
            with self.db_input_cache_lock:
                self.db_input_cache = [one for one in self.db_input_cache if _are_text(one[1:])]
            with self.db_output_cache_lock:
                self.db_output_cache = [one for one in self.db_output_cache if _are_text(one[1:])]
        super().writeout_cache(conn)

    def _writeout_input_cache(self, conn: Any) -> None:
        """Insert all cells in one call, in which SQLite releases the interpreter lock, so that the
        user's code goes on meanwhile.
        """
        session = self.session_number
        with conn:
            cells = [(session, *cell) for cell in self.db_input_cache]
            conn.executemany("INSERT INTO history VALUES (?, ?, ?, ?)", cells)

    def _wake_writer(self) -> None:
        try:
            self._restart_thread_if_stopped()  # the thread is stopped before each fork
        except (RuntimeError, OSError) as error:  # no thread can be started now; tried again later
            _log.warning("the history is not written for now: %s", error)
            return
        if self.save_flag is not None:
            self.save_flag.set()
