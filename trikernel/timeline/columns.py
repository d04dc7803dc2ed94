"""Texts as wide as a terminal shows them: an emoji or a Han character takes two columns."""

from __future__ import annotations

import unicodedata

__all__ = ["fitted", "padded", "table", "width_of"]


def width_of(text: str) -> int:
    """The number of columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # drawn over the character before
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, width: int) -> str:
    """The text, filled with spaces up to that width."""
    return text + " " * (width - width_of(text))


def fitted(text: str, width: int) -> str:
    """The text at exactly that width: padded, or cut and ended by an ellipsis."""
    if width_of(text) > width:
        while width_of(text) > width - 1:
            text = text[:-1]
        text += "…"
    return padded(text, width)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows as lines of text, with their columns aligned."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]
