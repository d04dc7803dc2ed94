"""What IPython does for every cell, without the part that most cells do not need.

IPython makes tokens of each cell to find its own syntax, asks a dozen formatters about each value,
and has the history written to the disk after each cell. For a cell like ``x + 1`` each of these
takes longer than all the rest. The classes here give the same results and stand in IPython's place;
where somebody has changed what they rely on (a transformer, a printer, a formatter), they leave it
to IPython.
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
# Whatever a transformer may change has one of these: its own characters, a prompt that is taken
# off, an indented or empty first line, a line of blanks, ends of lines that only `str` knows.
_may_be_ipython = re.compile(
    r"[%!?\r\v\f\x1c-\x1e\x85\u2028\u2029]|>>>|\.\.\.|In \[|^\s*[,;/]|\A\s|^[^\S\n]+$", re.M
).search


_TRANSFORMING = frozenset({"do_token_transforms", "transform_cell"})


class CellTransformers(TransformerManager):
    """Gives the same as IPython's; what is wrong with a cell may be found when it is compiled."""

    def transform_cell(self, cell: str) -> str:
        """The cell as Python."""
        plain = self.transform_plain(cell)
        transformed: str = super().transform_cell(cell) if plain is None else plain
        return transformed

    def transform_plain(self, cell: str) -> str | None:
        """The cell as Python, if it is that already; else None."""
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
    """IPython's, which asks for each line six objects whether they would change it. It is
    configured by the same name.
    """

    _asked: Any = None

    def leaves_alone(self, cell: str) -> bool:
        """Whether a cell without IPython's characters stays as it is. False if that is not known.

        A line is changed if its first word is a macro, a name to be called, or a magic.
        """
        if len(cell.splitlines()) != 1:
            return True  # only single lines are looked at
        shell = self.shell
        if shell.autocall or self.transformers:
            return False
        if type(self) is not PrefilterManager or not _PREFILTERING.isdisjoint(vars(self)):
            return False  # a subclass, or a method that somebody has set
        if self.checkers != self._asked and not self._are_known(self.checkers):
            return False
        if type(self.handlers.get("normal")) is not prefilter.PrefilterHandler:
            return False
        if cell.endswith("# PYTHON-MODE\n"):  # which Emacs adds
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
    """Whether it can be encoded: without lone surrogates."""
    try:
        return bool(cell.isascii() or cell.encode())
    except UnicodeEncodeError:
        return False


def _are_text(texts: Iterable[str]) -> bool:
    return all(map(_is_text, texts))


# Formatting

# Of exactly these types: no method of theirs, and no attribute of an instance, is a representation.
_PLAIN = frozenset(
    {bool, bytes, complex, dict, float, frozenset, int, list, range, set, str, tuple, type(None)}
)
_KEYS = _PLAIN | {object}
_DEFERRED = {(cls.__module__, cls.__name__) for cls in _KEYS}
_TABLES = ("singleton_printers", "type_printers", "deferred_printers")


class DisplayFormatter(formatters.DisplayFormatter):
    """Gives the same as IPython's, and is configured by the same name."""

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
        """Whether no formatter but the one for text has a printer for a plain object."""
        if self._known is None or self._known != list(self.formatters.items()):
            self._learn()
        for types, deferred in self._printers:
            if (types and not _KEYS.isdisjoint(types)) or not _DEFERRED.isdisjoint(deferred):
                return False
        return not any(id(obj) in printers for printers in self._singletons)

    def _learn(self) -> None:
        """Note the tables of every formatter; again, once one of them is replaced.

        ``_known`` is set last: an interrupt of the cell may come between any two lines.
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
            self._printers = [(_KEYS, ())]  # somebody's own formatter: who knows what it says
        self._known = known

    def _forget(self, change: Any) -> None:
        self._known = None


def _by_type(value: Any) -> dict[str, Any]:
    return {} if value is None else {"text/plain": value}


# History

HISTORY_DELAY = 1  # seconds


class HistoryManager(history.HistoryManager):
    """Keeps cells in memory until `run` has them written; a shutdown writes the rest.

    ``%config`` finds it by the name of IPython's.
    """

    log = _log  # where it says that a file cannot be read, and what becomes of that
    hist_file: Any  # a path, or ":memory:"
    _news: trio.Event | None = None
    # IPython's are traits, which nobody observes and which take longer to reach than to use.
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
        """In memory, where the file cannot be made; IPython takes care of one that is corrupt."""
        if self.enabled and self.hist_file != ":memory:":
            import sqlite3  # some interpreters have none, and no history

            self.hist_file = Path(self.hist_file)  # a flag's is a string, of which IPython's fails
            try:
                sqlite3.connect(self.hist_file).close()
            except sqlite3.OperationalError as error:
                text = "the history is not kept: %s cannot be used (%s)"
                _log.warning(text, self.hist_file, error)
                self.hist_file = ":memory:"
        super().init_db()

    def store_inputs(self, *args: Any, **kwargs: Any) -> None:
        """Keep a cell."""
        super().store_inputs(*args, **kwargs)
        if self._news is not None:
            self._news.set()

    @enable_ki_protection
    async def run(self) -> None:
        """Have the kept cells written, forever; no timer runs while there are none."""
        while True:
            self._news = trio.Event()
            await self._news.wait()
            await trio.sleep(HISTORY_DELAY)
            if self.using_thread:
                self._wake_writer()

    def writeout_cache(self, conn: Any = None) -> None:
        """Write what is kept, without what no database takes: a cell with a lone surrogate, say,
        which would keep the others from being written.
        """
        if self.enabled:
            with self.db_input_cache_lock:
                self.db_input_cache = [one for one in self.db_input_cache if _are_text(one[1:])]
            with self.db_output_cache_lock:
                self.db_output_cache = [one for one in self.db_output_cache if _are_text(one[1:])]
        super().writeout_cache(conn)

    def _writeout_input_cache(self, conn: Any) -> None:
        """All cells at once: the interpreter's lock is the user's code's meanwhile."""
        session = self.session_number
        with conn:
            cells = [(session, *cell) for cell in self.db_input_cache]
            conn.executemany("INSERT INTO history VALUES (?, ?, ?, ?)", cells)

    def _wake_writer(self) -> None:
        try:
            self._restart_thread_if_stopped()  # it is stopped around each fork
        except (RuntimeError, OSError) as error:  # no thread can be had now: with a later cell
            _log.warning("the history is not written for now: %s", error)
            return
        if self.save_flag is not None:
            self.save_flag.set()
