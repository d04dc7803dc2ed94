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
    """Gives the same as IPython's."""

    def do_token_transforms(self, lines: list[str]) -> list[str]:
        """``lines`` with IPython's syntax made Python's."""
        if self.token_transformers == _KNOWN and not any(map(_may_be_ipython, lines)):
            return lines
        transformed: list[str] = super().do_token_transforms(lines)
        return transformed
