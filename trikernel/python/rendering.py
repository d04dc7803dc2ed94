"""Makes what IPython needs to render a traceback in colour once, instead of for every error.

IPython renders tracebacks with `stack_data` and Pygments. These create a lexer's tables, a style
and its escape sequences again for each frame and each error, which takes two thirds of the time
from an interrupt to its reply. So two of stack_data's functions are replaced by functions that keep
these objects and give the same text.

IPython imports the two libraries when the first cell fails, and the first interrupt would wait for
that. So a kernel with a process of its own imports them a second after its start, one by one, and
renders an error that nobody sees. In a forked kernel the process that forked it has done both.
"""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import cache
from types import FrameType
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..kernel.replacements import Replacements

__all__ = [
    "count_lines_of_cells",
    "draw_beforehand",
    "drawing_for_nobody",
    "keep_lexers",
    "prepare",
    "prepare_soon",
]

STARTED, PAUSE = 1.0, 0.05  # seconds: from the start to the first import, and between two imports
# In this order each import takes only some milliseconds; a cell may have to wait for one of them.
_MODULES = (
    "pygments",
    "pygments.formatter",
    "pygments.styles",
    "pygments.formatters.terminal256",
    "pygments.lexers",
    "pygments.lexers.python",
    "asttokens",
    "executing",
    "pure_eval",
    "stack_data",
)
_pending: list[Replacements] = []
_is_drawn = False  # whether an error was rendered by the process that has forked this one


def count_lines_of_cells(replaced: Replacements) -> None:
    """Have IPython count the lines of a cell in `linecache`, because a cell's file does not exist.

    Of code whose number of lines it does not know, as of very long files, IPython shows less, and
    in a ``finally`` block the wrong line.
    """
    from IPython.core import ultratb

    count = getattr(ultratb, "get_line_number_of_frame", None)
    if count is None:
        return

    def get_line_number_of_frame(frame: FrameType) -> int:
        entry: Any = linecache.cache.get(frame.f_code.co_filename)
        if entry is not None and len(entry) > 1 and entry[1] is None:  # as IPython puts cells there
            return len(entry[2])
        return int(count(frame))

    replaced.replace(ultratb, "get_line_number_of_frame", get_line_number_of_frame)


def keep_lexers(replaced: Replacements) -> None:
    """Have `prepare` replace stack_data's functions at the first error, until ``replaced`` is
    undone.
    """
    _pending.append(replaced)
    replaced.callback(_pending.clear)


@enable_ki_protection
async def prepare_soon(draw: Callable[[BaseException], object]) -> None:
    """Import what renders an error, and have ``draw`` render one that nobody sees.

    If it is cancelled, the imports made so far stay.
    """
    if _is_drawn:
        prepare()
        return
    await trio.sleep(STARTED)
    with suppress(ImportError):  # IPython will report it with an error, or work without the module
        for name in _MODULES:
            if name not in sys.modules:
                importlib.import_module(name)
                await trio.sleep(PAUSE)
        await trio.sleep(PAUSE)
        prepare()
        try:
            raise RuntimeError
        except RuntimeError as error:
            draw(error)


def draw_beforehand() -> None:
    """For a process that forks kernels: import what renders an error, and render one, once for all
    of them. It takes a tenth of a second of processor time, and some memory.
    """
    global _is_drawn
    from IPython.core import ultratb

    try:
        for name in _MODULES:
            importlib.import_module(name)
        formatter = ultratb.AutoFormattedTB(mode="Context", theme_name="linux")
        try:
            raise RuntimeError
        except RuntimeError as error:
            formatter.structured_traceback(type(error), error, error.__traceback__)
    except Exception:  # another version, or a missing module: each kernel tries it by itself
        return
    _is_drawn = True


def drawing_for_nobody(formatter: Any) -> Callable[[BaseException], object]:
    """A function that renders an error with a copy of IPython's formatter, because the formatter
    itself would remember it as the last error.
    """

    def draw(error: BaseException) -> None:
        own = copy(formatter)
        with suppress(Exception):  # this is only to prepare; a real error will show what is wrong
            own.structured_traceback(type(error), error, error.__traceback__)

    return draw


def prepare() -> None:
    """Replace stack_data's functions. Called before an error is rendered."""
    while _pending:
        replaced = _pending.pop()
        try:
            from stack_data import core

            style_of = cache(core.style_with_executing_node)
        except (ImportError, AttributeError):  # another version of stack_data: it stays as it is
            return
        import stack_data

        for module in (core, stack_data):
            replaced.replace(module, "style_with_executing_node", style_of)
        if hasattr(core, "_pygmented_with_ranges"):
            replaced.replace(core, "_pygmented_with_ranges", highlighted)


def highlighted(formatter: Any, code: str, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The lines of ``code`` in colour; the given ``ranges`` of characters are marked."""
    from pygments import format as render

    try:
        text = render(_marked(code, ranges), formatter)
    except Exception:  # code without colour is better than no traceback
        text = code
    return str(text).splitlines()


def _marked(code: str, ranges: Sequence[tuple[int, int]]) -> list[tuple[Any, str]]:
    """The tokens of ``code``; those that begin in one of the ranges have the kind
    ``ExecutingNode``.
    """
    tokens, at = [], 0
    for kind, text in _lexer().get_tokens(code):
        is_marked = any(start <= at < end for start, end in ranges)
        tokens.append((kind.ExecutingNode if is_marked else kind, text))
        at += len(text)
    return tokens


@cache
def _lexer() -> Any:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name("python3", stripnl=False)
