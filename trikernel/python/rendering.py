"""What IPython needs to draw a traceback in colour, made once instead of for every error.

It is drawn by `stack_data` and Pygments. Those make a lexer's tables, a style and its escape
sequences anew for each frame and each error, which takes two thirds of the time from an interrupt
to its reply. IPython imports them when the first cell fails, and the first interrupt would wait for
that. So a kernel with a process of its own imports them a second after its start, one by one, and
draws an error; one that was forked has both from the process that forked it. And what they make
anew is kept, by functions in their place that give the same text.
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

STARTED, PAUSE = 1.0, 0.05  # seconds: until a kernel has started, and between two imports
# In an order in which each takes some milliseconds only, for which a cell may have to wait.
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
_is_drawn = False  # an error, here or in the process that has forked this one


def count_lines_of_cells(replaced: Replacements) -> None:
    """Have IPython count a cell's lines where they are; its file, which is none, cannot be read.

    Of code whose length it cannot tell, as of files with very many lines, it shows less, and in
    ``finally`` the wrong line.
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
    """Have them kept from the first error on, as long as ``replaced`` is."""
    _pending.append(replaced)
    replaced.callback(_pending.clear)


@enable_ki_protection
async def prepare_soon(draw: Callable[[BaseException], object]) -> None:
    """Import what draws an error, and have one drawn by ``draw``, for nobody to see; nothing of it
    is lost when it is cancelled.
    """
    if _is_drawn:
        prepare()
        return
    await trio.sleep(STARTED)
    with suppress(ImportError):  # an error tells it, or is drawn without
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
    """For a process that forks kernels: import what draws an error, and have one drawn, once for
    all of them: a tenth of a second of the processor, and some memory.
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
    except Exception:  # another version, or one is missing: each kernel sees to it itself
        return
    _is_drawn = True


def drawing_for_nobody(formatter: Any) -> Callable[[BaseException], object]:
    """Draws an error by a copy of IPython's formatter, which would take it for the last one."""

    def draw(error: BaseException) -> None:
        own = copy(formatter)
        with suppress(Exception):  # an error tells it, or is drawn without
            own.structured_traceback(type(error), error, error.__traceback__)

    return draw


def prepare() -> None:
    """An error is about to be drawn."""
    while _pending:
        replaced = _pending.pop()
        try:
            from stack_data import core

            style_of = cache(core.style_with_executing_node)
        except (ImportError, AttributeError):  # another version: it draws as it does
            return
        import stack_data

        for module in (core, stack_data):
            replaced.replace(module, "style_with_executing_node", style_of)
        if hasattr(core, "_pygmented_with_ranges"):
            replaced.replace(core, "_pygmented_with_ranges", highlighted)


def highlighted(formatter: Any, code: str, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The lines of some code in colour; what is in ``ranges`` of characters is marked."""
    from pygments import format as render

    try:
        text = render(_marked(code, ranges), formatter)
    except Exception:  # code without colour is better than no traceback
        text = code
    return str(text).splitlines()


def _marked(code: str, ranges: Sequence[tuple[int, int]]) -> list[tuple[Any, str]]:
    """The tokens of code, those that begin in one of the ranges as parts of what is executed."""
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
