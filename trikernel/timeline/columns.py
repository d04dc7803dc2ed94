"""Texts as wide as a terminal shows them: an emoji or a Han character takes two columns."""

from __future__ import annotations

import unicodedata

__all__ = ["fitted", "padded", "table", "width_of"]


def width_of(text: str) -> int:
    """Columns that it takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # drawn over the one before
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, width: int) -> str:
    """With spaces up to that width."""
    return text + " " * (width - width_of(text))


def fitted(text: str, width: int) -> str:
    """Exactly that wide: padded, or cut and ended by an ellipsis."""
    if width_of(text) > width:
        while width_of(text) > width - 1:
            text = text[:-1]
        text += "…"
    return padded(text, width)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with one column below the other."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]
