"""IPython's transformation of a cell, which takes no cell to pieces that has nothing of its syntax.

IPython makes tokens of every cell, to find ``%magic``, ``!command``, ``help?`` and its like. They
all have characters that most cells have not, or not where they would have to be.
"""

from __future__ import annotations

import re

from IPython.core.inputtransformer2 import (
    EscapedCommand,
    HelpEnd,
    MagicAssign,
    SystemAssign,
    TransformerManager,
)

__all__ = ["CellTransformers"]

_KNOWN = [MagicAssign, SystemAssign, EscapedCommand, HelpEnd]
_may_be_ipython = re.compile(r"\s*[,;/]|.*[%!?]", re.DOTALL).match


class CellTransformers(TransformerManager):
    """Gives the same as IPython's; what is wrong with a cell may be found when it is compiled."""

    def transform_cell(self, cell: str) -> str:
        """The cell as Python."""
        if self.token_transformers == _KNOWN and _is_text(cell):
            lines = (cell if cell.endswith("\n") else cell + "\n").splitlines(keepends=True)
            for transform in self.cleanup_transforms + self.line_transforms:
                lines = transform(lines)
            if not any(map(_may_be_ipython, lines)):
                return "".join(lines)
        transformed: str = super().transform_cell(cell)
        return transformed


def _is_text(cell: str) -> bool:
    """Whether it can be encoded: without lone surrogates."""
    try:
        return bool(cell.isascii() or cell.encode())
    except UnicodeEncodeError:
        return False
